"""The best rules of two searches in the environments of both (`search.crossed`)."""

from __future__ import annotations

from collections.abc import Sequence

from nos_repro.report.layout import Cell, Column, ReportTable
from nos_repro.report.search.confirmation import (
    VERBS,
    Candidate,
    candidates,
    declared,
    difference,
    versus,
)
from nos_repro.report.search.history import History
from nos_repro.rules.simplest import simplest_text
from nos_repro.search.crossed import described, other_folder
from nos_repro.search.folder import read_settings
from nos_repro.search.hall import best_rules
from nos_repro.search.side_runs import race_order

LOOKED_AT = 20
"""Best rules of each search that are compared by name."""


def crossed_tables(history: History) -> list[ReportTable]:
    """Test metrics of both searches' rules and the baselines in both environments, and which
    search's best rule wins in which; nothing before `confirm.against` was trained."""
    crossed = history.of("crossed")
    if not crossed:
        return []
    own, other = history.asked.search, history.asked.confirm.against
    confirmed = history.of("confirm")
    here = candidates(history, [*confirmed, *(pair for pair in crossed if not pair[0].where)])
    there = {
        each.name: each for each in candidates(history, [pair for pair in crossed if pair[0].where])
    }
    best = declared(candidates(history))
    ours = {each.name for each in candidates(history) if not each.baseline}
    folder = other_folder(history.asked, history.folder)
    ranked = [
        simplest_text(found.rule) for found in best_rules(folder, LOOKED_AT, race_order(folder))
    ]
    places = _places(history)
    columns = [Column(title) for title in ("", "found by", *(f"test, {each}" for each in places))]
    rows = [
        [Cell(text) for text in (each.name, _finder(each, own, other, ours, ranked),
                                 each.cell("test"), _cell(there.get(each.name)))]
        for each in here
    ]  # fmt: skip
    by_name = {each.name: each for each in here}
    theirs = next((name for name in ranked if name in by_name), None)
    notes = [
        "Mean ± sample standard deviation (n) over seeds that took part in neither search, in the"
        f" order of {places[0]}. Every child sweeps its rates in its own environment.",
        *_verdicts(history, best, theirs, [by_name, there], places),
        _overlap(history, ranked),
    ]
    return [ReportTable([f"Rules of {own} and {other} in both environments"], columns, rows, notes)]


def _places(history: History) -> list[str]:
    """The two environments: this search's, and the other's."""
    beside = read_settings(other_folder(history.asked, history.folder)) or {"child": {}}
    return [
        described(settings["child"].get("environment")) for settings in (history.settings, beside)
    ]


def _finder(each: Candidate, own: str, other: str, ours: set[str], ranked: Sequence[str]) -> str:
    if each.baseline:
        return "(baseline)"
    if each.name not in ours:
        return other
    return f"{own}, {other}" if each.name in ranked else own


def _cell(candidate: Candidate | None) -> str:
    return "-" if candidate is None else candidate.cell("test")


def _verdicts(
    history: History,
    best: Candidate | None,
    theirs: str | None,
    tables: Sequence[dict[str, Candidate]],
    places: Sequence[str],
) -> list[str]:
    """For each environment, the best rule of this search against the best of the other."""
    if best is None or theirs is None:
        return []
    own, other = history.asked.search, history.asked.confirm.against
    if theirs == best.name:
        return [f"The best rule of both searches is the same: {theirs}."]
    said = []
    for table, place in zip(tables, places, strict=True):
        if best.name in table and theirs in table:
            result = versus(history, table[best.name], table[theirs], "test")
            said.append(
                f"With {place}, the best rule of {own}, {best.name}, {VERBS[result.verdict]} the"
                f" best of {other}, {theirs}: {difference(result, history.metric)}."
            )
    return said


def _overlap(history: History, ranked: Sequence[str]) -> str:
    own = [simplest_text(event["rule"]) for event in history.hall.ranked()]
    number = min(len(own), len(ranked), LOOKED_AT)
    shared = len(set(own[:number]) & set(ranked[:number]))
    return f"The {number} best rules of each search have {shared} in common."
