"""The best rules of two searches in the environments of both (`search.crossed`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Crossed:
    """Both searches' rules and the baselines by name, with their metrics ``here``, in this search's
    environment, and ``there``, in the other's."""

    here: dict[str, Candidate]
    there: dict[str, Candidate]
    best: Candidate | None
    """The best rule of this search."""
    theirs: str | None
    """The best rule of the other search, among those that are here."""
    ranked: list[str]
    """The best rules of the other search."""


def crossed(history: History) -> Crossed | None:
    """What `--confirm` found in both environments; None before it trained there."""
    runs = history.of("crossed")
    if not runs:
        return None
    found = candidates(
        history, [*history.of("confirm"), *(pair for pair in runs if not pair[0].where)]
    )
    here = {each.name: each for each in found}
    there = candidates(history, [pair for pair in runs if pair[0].where])
    folder = other_folder(history.asked, history.folder)
    best = best_rules(folder, LOOKED_AT, race_order(folder))
    ranked = [simplest_text(rule.rule) for rule in best]
    return Crossed(
        here,
        {each.name: each for each in there},
        declared(candidates(history)),
        next((name for name in ranked if name in here), None),
        ranked,
    )


def crossed_tables(history: History) -> list[ReportTable]:
    """Test metrics of both searches' rules and the baselines in both environments, and which
    search's best rule wins in which; nothing before `confirm.against` was trained."""
    found = crossed(history)
    if found is None:
        return []
    own, other = history.asked.search, history.asked.confirm.against
    ours = {each.name for each in candidates(history) if not each.baseline}
    places = places_of(history)
    columns = [Column(title) for title in ("", "found by", *(f"test, {each}" for each in places))]
    rows = [
        [Cell(text) for text in (each.name, _finder(each, own, other, ours, found.ranked),
                                 each.cell("test"), _cell(found.there.get(each.name)))]
        for each in found.here.values()
    ]  # fmt: skip
    notes = [
        "Mean ± sample standard deviation (n) over seeds that took part in neither search, in the"
        f" order of {places[0]}. Every child sweeps its rates in its own environment.",
        *_verdicts(history, found, places),
        overlap(history, found.ranked),
    ]
    return [ReportTable([f"Rules of {own} and {other} in both environments"], columns, rows, notes)]


def places_of(history: History) -> list[str]:
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


def _verdicts(history: History, found: Crossed, places: Sequence[str]) -> list[str]:
    """For each environment, the best rule of this search against the best of the other."""
    best, theirs = found.best, found.theirs
    if best is None or theirs is None:
        return []
    own, other = history.asked.search, history.asked.confirm.against
    if theirs == best.name:
        return [f"The best rule of both searches is the same: {theirs}."]
    said = []
    for table, place in zip((found.here, found.there), places, strict=True):
        if best.name in table and theirs in table:
            result = versus(history, table[best.name], table[theirs], "test")
            said.append(
                f"With {place}, the best rule of {own}, {best.name}, {VERBS[result.verdict]} the"
                f" best of {other}, {theirs}: {difference(result, history.metric)}."
            )
    return said


def overlap(history: History, ranked: Sequence[str]) -> str:
    """How many of the best rules both searches found; ``ranked`` are the other's."""
    own = [simplest_text(event["rule"]) for event in history.hall.ranked()]
    number = min(len(own), len(ranked), LOOKED_AT)
    shared = len(set(own[:number]) & set(ranked[:number]))
    return f"The {number} best rules of each search have {shared} in common."
