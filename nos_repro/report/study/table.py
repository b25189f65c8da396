"""A study's table: the paper's numbers and ours side by side, valid at any moment of a run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from nos_repro.experiments.columns import STATE, metric_of
from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import Outcome, SampleMean
from nos_repro.report.layout import GLUE, Cell, Column, ReportTable
from nos_repro.report.study import protocol
from nos_repro.report.study.order import order_notes
from nos_repro.report.study.rows import how_far, is_complete, values_per_parameter
from nos_repro.tasks.registry import describe

STALE, EDGE, OTHER_SCALE = "†", "‡", "°"
NONE = "-"


def study_table(study: Study, outcomes: Sequence[Outcome]) -> ReportTable:
    """The table of ``outcomes``, the study's rows in order.

    A cell is `mean ± std (n)` over finished trials, or says why there is none. A row with a
    divergence, or one that is not complete, is never marked as the best.
    """
    printed = [c for c in study.columns if any(c in outcome.row.paper for outcome in outcomes)]
    columns = [Column("row"), Column("chosen")]
    if study.halving is not None:
        columns.append(Column("how far"))
    for column, title in study.columns.items():
        ours = title if protocol.is_the_papers(study) else f"{title} ({study.scale})"
        columns.append(Column(ours, title, of=column))
        if column in printed:
            columns.append(dataclasses.replace(_paper_column(study), of=column, paper=True))
    best = {c: _best(study, c, outcomes) for c in study.columns if c != STATE}
    rows = [_row(study, outcome, printed, best) for outcome in outcomes]
    waiting = any(outcome.missing for outcome in outcomes)
    mark = f"best of its column{' so far' if waiting else ''}" if any(best.values()) else ""
    return ReportTable(_heading(study), columns, rows, _notes(study, outcomes, printed), mark)


def show(number: SampleMean) -> str:
    """`95.40 ± 0.12 (5)`: two decimals where the value suits that, else three digits."""
    if number.n == 1:
        return f"{_digits(number.mean, number.mean)}{GLUE}(1)"
    mean, std = _digits(number.mean, number.mean), _digits(number.std, number.mean)
    return f"{mean}{GLUE}±{GLUE}{std}{GLUE}({number.n})"


def _digits(value: float, scale: float) -> str:
    return f"{value:.2f}" if 1 <= abs(scale) < 1000 or not scale else f"{value:.3g}"


def _paper_column(study: Study) -> Column:
    if protocol.is_the_papers(study):
        return Column("paper")
    known = protocol.short(study.paper_protocol) if study.paper_protocol else "another protocol"
    return Column(f"paper ({known})", f"paper{OTHER_SCALE}")


def _heading(study: Study) -> list[str]:
    own, paper = protocol.settings_of(study), study.paper_protocol
    lines = [study.title, *([f"Claim: {study.claim}"] if study.claim else [])]
    chosen = protocol.selection_words(own, of_paper=bool(study.source))
    words = f"{protocol.long(own, paper)}; {chosen}."
    if protocol.is_the_papers(study):
        return [*lines, f"Protocol, the paper's: {words}"]
    lines.append(f"Scale {study.scale}: {words}")
    if paper:
        lines.append(f"The paper: {protocol.long(paper, own)}; {protocol.selection_words(paper)}.")
    return lines


def _row(
    study: Study, outcome: Outcome, printed: list[str], best: dict[str, str | None]
) -> list[Cell]:
    edge = EDGE if outcome.edges else ""
    chosen = Cell(str(outcome.chosen.point), signs=edge) if outcome.chosen else Cell(NONE)
    cells = [Cell(outcome.name), chosen]
    if outcome.standing is not None:
        words, _, rank = how_far(outcome).partition(" (")
        cells.append(Cell(f"{words} ({rank.replace(' ', GLUE)}" if rank else words))
    for column in study.columns:
        number = outcome.number(column) if column != STATE else None
        signs = STALE if number is not None and outcome.stale else ""
        is_best = number is not None and is_complete(outcome) and show(number) == best.get(column)
        text = f"{values_per_parameter(outcome.row, study.task):g}" if column == STATE else ""
        cells.append(Cell(text or _cell(outcome, number), is_best, signs))
        if column in printed:
            value = outcome.row.paper.get(column)
            cells.append(Cell(NONE if value is None else str(value)))
    return cells


def _cell(outcome: Outcome, number: SampleMean | None) -> str:
    """The number, with whatever keeps it from being complete; or what there is instead of one."""
    asked = len(outcome.repeats) or 1
    if outcome.standing is not None and number is None:
        return NONE
    if outcome.chosen is None:
        return _sweep_state(outcome)
    waiting = sum(record is None for _, record in outcome.repeats)
    if waiting and waiting == asked:
        return f"not run yet (0/{asked} repeats)"
    kinds = [record.status for record in outcome.counting]
    remarks = [f"{asked - waiting}/{asked} repeats"] if waiting else []
    for kind in ("diverged", "failed"):
        if kinds.count(kind):
            remarks.append(f"{kinds.count(kind)} of {asked} {kind}")
    if number is None:
        return ", ".join(remarks) or "not measured"
    unbroken = ", ".join(remarks).replace(" ", GLUE)
    return show(number) + (f" ({unbroken})" if remarks else "")


def _sweep_state(outcome: Outcome) -> str:
    """Why no point of the row's grid is chosen."""
    asked = len(outcome.sweep)
    kinds = [scored.record.status for scored in outcome.sweep if scored.record is not None]
    if not kinds:
        return "not run yet"
    if len(kinds) < asked or outcome.growing:
        return f"{len(kinds)}/{asked} sweep"
    counted = [f"{kinds.count(kind)} of {asked} {kind}" for kind in ("diverged", "failed")
               if kinds.count(kind)]  # fmt: skip
    if len(set(kinds)) == 1:
        return kinds[0] if kinds[0] != "finished" else "not measured"
    return ", ".join(counted)


def _best(study: Study, column: str, outcomes: Sequence[Outcome]) -> str | None:
    """The best number as it is shown, so that rows that print alike are marked alike."""
    numbers = [
        number
        for outcome in outcomes
        if is_complete(outcome) and (number := outcome.number(column)) is not None
    ]
    if len(numbers) < 2:
        return None
    sign = metric_of(study.task["name"], column).sign
    return show(max(numbers, key=lambda number: sign * number.mean))


def _notes(study: Study, outcomes: Sequence[Outcome], printed: list[str]) -> list[str]:
    missing = sum(outcome.missing > 0 for outcome in outcomes)
    notes = ["A number is mean ± sample standard deviation (runs), over the runs that finished."]
    if printed and not protocol.is_the_papers(study):
        notes.append(
            f"{OTHER_SCALE} the paper's numbers were not made at this scale: compare the order of"
            " the rows, not the numbers"
        )
        notes += order_notes(study, outcomes, printed)
    if not printed and study.source:
        notes.append("The paper prints no numbers for this.")
    if words := protocol.tf32_words([r for outcome in outcomes for r in outcome.counting]):
        notes.append(f"{words}, which has 10 bits of mantissa where float32 has 23.")
    if remark := describe(study.task["name"]).remark():
        notes.append(remark)
    if any(outcome.stale for outcome in outcomes):
        notes.append(
            f"{STALE} stale: made, or chosen, by code that has changed since; `verify` finds out"
            " whether the numbers still stand"
        )
    edges = [f"{o.name} ({', '.join(o.edges)})" for o in outcomes if o.edges]
    if edges:
        notes.append(
            f"{EDGE} warning: the best value sits at the edge of its grid, a wider one may do"
            f" better: {'; '.join(edges)}"
        )
    notes += [note for outcome in outcomes for note in _failures(outcome)]
    notes += _survivors(outcomes)
    if missing:
        notes.append(f"{missing} of {len(outcomes)} rows are not complete yet.")
    return notes


def _survivors(outcomes: Sequence[Outcome]) -> list[str]:
    """Among rows in a race, those that went all the way; the others have no number."""
    if not any(outcome.standing for outcome in outcomes):
        return []
    names = [outcome.name for outcome in outcomes if is_complete(outcome)]
    if not names:
        return ["No row has come to the end."]
    return [f"{len(names)} of {len(outcomes)} rows went to the end: {'; '.join(names)}."]


def _failures(outcome: Outcome) -> list[str]:
    """Failed trials of the sweep, which took no part in the choice."""
    failed = sum(math.isnan(s.score) and s.record is not None for s in outcome.sweep)
    if not failed or outcome.chosen is None:
        return []
    asked = len(outcome.sweep)
    return [f"{outcome.name}: {failed} of the sweep's {asked} trials failed; chosen without them."]
