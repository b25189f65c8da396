"""Why a cell says what it says: its trials, what was chosen and why, what is missing or stale."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field

from nos_repro.experiments.optimizer_facts import facts_lines, other_versions
from nos_repro.experiments.record import Record
from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import Outcome, Scored, outcomes
from nos_repro.experiments.store import Store
from nos_repro.experiments.trial import Trial
from nos_repro.report.layout import plain
from nos_repro.report.provenance import origin
from nos_repro.report.study import protocol
from nos_repro.report.study.rows import how_far
from nos_repro.report.study.table import show
from nos_repro.report.study.verdict import CellVerdict, judge_study
from nos_repro.report.study.verdict_table import difference_words
from nos_repro.tasks.registry import find_metric

NOT_RUN = "not run"


@dataclass(frozen=True)
class TrialLine:
    """A trial behind a cell. ``value`` is of the column that chooses; ``seconds`` is how
    long it took, of one that has a record; ``remarks`` are what is to be known of it: stale, failed
    with its reason."""

    stage: str
    id: str
    label: str
    status: str
    value: float | None
    seconds: float | None
    chosen: bool = False
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Why:
    """Everything behind the cells of a row, as plain data."""

    study: str
    scale: str
    row: str
    protocol: str
    numbers: dict[str, str]
    """The cells, by their columns' titles."""
    verdicts: list[CellVerdict]
    chosen: str
    trials: list[TrialLine]
    problems: list[str]
    origin: list[str]


@dataclass(frozen=True)
class Known:
    """What explaining one row needs to know about all rows of its study."""

    verdicts: list[CellVerdict]
    leftover: Counter[str]
    """Records that no row asks for, by their optimizers."""
    running: Set[str]
    """The trials that some process trains now."""


def known_of(
    study: Study,
    rows: Sequence[Outcome],
    store: Store,
    verdicts: list[CellVerdict] | None = None,
) -> Known:
    """``verdicts`` are those on the study's cells, if they are made already."""
    asked = {trial.id for row in rows for trial in row.trials}
    swept = [(scored.trial, scored.record) for row in rows for scored in row.sweep]
    repeated = [pair for row in rows for pair in row.repeats]
    waiting = (trial for trial, record in swept + repeated if record is None)
    running = store.claims(waiting).keys()
    judged = judge_study(study, rows) if verdicts is None else verdicts
    return Known(judged, store.others(asked), running)


def explain(study: Study, outcome: Outcome, store: Store, known: Known | None = None) -> Why:
    """What the records in ``store`` say of a row. Who explains many rows finds out once what is
    ``known`` of all."""
    known = known or known_of(study, outcomes(study, store), store)
    by = study.selection.by
    return Why(
        study=study.study,
        scale=study.scale,
        row=outcome.name,
        protocol=protocol.selection_words(protocol.settings_of(study), of_paper=bool(study.source)),
        numbers={
            title: show(number) if (number := outcome.number(column)) is not None else "-"
            for column, title in study.columns.items()
            if column != "optimizer_state"
        },
        verdicts=[cell for cell in known.verdicts if cell.row == outcome.name],
        chosen=_choice(outcome, by),
        trials=[*_swept(outcome, by, store, known), *_repeated(outcome, by, store, known)],
        problems=list(_problems(study, outcome, store, known)),
        origin=[*origin(study, [outcome]), *_optimizers(outcome), *_signatures(outcome)],
    )


def _choice(outcome: Outcome, by: str) -> str:
    """What was chosen, and by which numbers."""
    words = by.replace("_", " ")
    if outcome.chosen is None:
        waiting = sum(scored.record is None for scored in outcome.sweep)
        if waiting:
            return f"nothing is chosen yet: {waiting} of {len(outcome.sweep)} sweep trials are open"
        if outcome.growing:
            return "nothing is chosen yet: more rates may be tried, here or in other rows"
        kinds = sorted({s.record.status for s in outcome.sweep if s.record is not None})
        return f"nothing can be chosen: every point of the sweep is {' or '.join(kinds)}"
    scores = sorted((s for s in outcome.sweep if s.score > -math.inf), key=lambda s: -s.score)
    best = outcome.chosen
    text = f"{best.point}: {words} {value_of(best):.6g}"
    others = [scored for scored in scores if scored is not best]
    if others:
        text += f", the next is {others[0].point} with {value_of(others[0]):.6g}"
    if far := how_far(outcome):
        text += f"; {far}"
    return text


def value_of(scored: Scored) -> float:
    """The score as a value of the metric: for a loss, the loss. In a race a point without a record
    may have one, so the trial's task is asked."""
    record = scored.record
    asked = record if record is not None else find_metric(scored.trial.task)
    return asked.sign * scored.score


def _swept(outcome: Outcome, by: str, store: Store, known: Known) -> Iterator[TrialLine]:
    for scored in outcome.sweep:
        value = value_of(scored) if math.isfinite(scored.score) else None
        chosen = outcome.is_chosen(scored)
        yield _line("sweep", outcome, scored.trial, scored.record, value, store, known, chosen)


def _repeated(outcome: Outcome, by: str, store: Store, known: Known) -> Iterator[TrialLine]:
    for trial, record in outcome.repeats:
        value = record.column(by) if record is not None else math.nan
        seen = value if math.isfinite(value) else None
        yield _line("repeat", outcome, trial, record, seen, store, known)


def _line(
    stage: str,
    outcome: Outcome,
    trial: Trial,
    record: Record | None,
    value: float | None,
    store: Store,
    known: Known,
    chosen: bool = False,
) -> TrialLine:
    remarks = []
    if record is not None:
        if record.status != "finished" and record.reason:
            remarks.append(record.reason)
        if record.id in outcome.stale_records:
            remarks.append(f"stale: by code {record.code}")
    elif trial.id in known.running:
        remarks.append("running now")
    elif (store.folder(trial) / "checkpoint.pt").exists():
        remarks.append("interrupted, `run` goes on from its checkpoint")
    status = record.status if record is not None else NOT_RUN
    seconds = record.seconds if record is not None else None
    return TrialLine(stage, trial.id, trial.label(), status, value, seconds, chosen, remarks)


def _problems(study: Study, outcome: Outcome, store: Store, known: Known) -> Iterator[str]:
    """What is missing, failed, stale or at an edge, and what is there but does not count."""
    if outcome.missing:
        yield f"missing: {outcome.missing} trials have not ended; `run` trains them"
    elif outcome.chosen is None and study.selection.repeats and not outcome.growing:
        yield "missing: without a chosen point there are no repeats"
    if outcome.failed:
        yield f"failed: {outcome.failed} trials; `run --retry` tries them again"
    if outcome.stale:
        yield "stale: code that decides its numbers has changed since; `verify` finds out"
    if outcome.edges:
        yield f"at the edge of its grid: {', '.join(outcome.edges)}; a wider one may do better"
    other = sum(store.other_settings(trial) for trial in _without_record(outcome))
    if other:
        yield (
            f"settings have changed: {other} records are of other settings under the same"
            " identity (a default has changed since) and do not count"
        )
    found = [record.provenance for record in outcome.records]
    for change in other_versions(found):
        yield f"another version: {change}; where its code differs they are stale"
    for why in dict.fromkeys(each["starts_over"] for each in found if "starts_over" in each):
        yield f"not resumed: a trial that is interrupted starts over ({why})"
    leftover = known.leftover[outcome.row.optimizer]
    if leftover:
        yield (
            f"not counted: {leftover} records of {outcome.row.optimizer} with settings that no row"
            " asks for (of an older grid, say)"
        )
    yield from store.problems


def _optimizers(outcome: Outcome) -> list[str]:
    return facts_lines(record.provenance for record in outcome.records)


def _signatures(outcome: Outcome) -> Iterator[str]:
    """The digests of the code that made the records, and those that `verify` found to agree."""
    signed = Counter((record.code, *record.verified) for record in outcome.records)
    for (code, *older), count in signed.items():
        records = "1 record" if count == 1 else f"{count} records"
        times = "once" if len(older) == 1 else f"{len(older)} times"
        made = f"; made by {older[0]}, verified {times} since" if older else ""
        yield f"Code {code} ({records}{made})."


def _without_record(outcome: Outcome) -> Iterator[Trial]:
    yield from (scored.trial for scored in outcome.sweep if scored.record is None)
    yield from (trial for trial, record in outcome.repeats if record is None)


def why_text(why: Why) -> str:
    """For a terminal; names stay text, whatever they contain."""
    lines = [
        f"{why.study}, scale {why.scale}, row {plain(why.row)}",
        f"how: {why.protocol}",
        f"chosen: {plain(why.chosen)}",
        "",
        *(f"{plain(title)}: {number}" for title, number in why.numbers.items()),
        *_verdict_lines(why.verdicts),
        "",
        *_grid(why.trials),
        "",
        *(plain(problem) for problem in why.problems or ["nothing is missing, stale or failed"]),
        "",
        *(plain(line) for line in why.origin),
    ]
    return "\n".join(lines).replace("\N{NO-BREAK SPACE}", " ")


def _verdict_lines(cells: Sequence[CellVerdict]) -> Iterator[str]:
    for cell in cells:
        gap = "" if cell.difference is None else f", difference {difference_words(cell)}"
        yield (
            f"against the paper's {cell.paper} ({plain(cell.place)}): {cell.verdict}{gap};"
            f" {cell.reason}"
        )


def _grid(trials: Sequence[TrialLine]) -> Iterator[str]:
    width = max((len(plain(line.label)) for line in trials), default=0)
    for line in trials:
        value = "-" if line.value is None else f"{line.value:.6g}"
        mark = "*" if line.chosen else " "
        took = [] if line.seconds is None else [f"{line.seconds:.0f} s"]
        words = took + line.remarks
        remarks = f"  ({plain('; '.join(words))})" if words else ""
        yield (
            f"{mark} {line.stage:<6} {line.id}  {plain(line.label):<{width}}  {line.status:<8}"
            f"  {value:>10}{remarks}"
        )
