"""How far a study is: what has ended, what runs now, what waits, what went wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from nos_repro.experiments.heartbeat import Lease
from nos_repro.experiments.record import STATUSES, Record
from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import Outcome, outcomes
from nos_repro.experiments.store import Store
from nos_repro.experiments.trial import Trial
from nos_repro.launch.slurm import cluster
from nos_repro.launch.slurm.ledger import Ledger, Queued
from nos_repro.launch.slurm.waiting import explain
from nos_repro.report.layout import plain
from nos_repro.report.study.rows import how_far


@dataclass(frozen=True)
class RowStatus:
    """How many trials of a row's sweep and of its repeats have ended, of how many."""

    row: str
    sweep: tuple[int, int]
    repeats: tuple[int, int]
    chosen: str | None
    remarks: list[str]


@dataclass(frozen=True)
class StudyStatus:
    """The state of every row, of what runs, and of every failure.

    ``counts`` are the trials by what has become of them, in words. ``queued`` has the place of each
    trial that waits on a cluster; ``failed`` has where the log is, or None.
    """

    study: Study
    root: Path
    ended: int
    total: int
    counts: dict[str, int]
    rows: list[RowStatus]
    running: list[tuple[Trial, Lease]]
    queued: list[tuple[Trial, str]]
    failed: list[tuple[Trial, Record, Path | None]]
    problems: list[str]


def read_status(study: Study, store: Store) -> StudyStatus:
    """How far the study is, by the files and, where trials are queued, by SLURM."""
    rows = outcomes(study, store)
    known = _trials(rows)
    open_trials = [trial for trial, record in known.values() if record is None]
    claims = store.claims(open_trials)
    queued = list(_queued(open_trials, claims.keys(), store))
    ended: Counter[str] = Counter(
        record.status for _, record in known.values() if record is not None
    )
    undecided = sum(row.chosen is None and (row.missing > 0 or row.growing) for row in rows)
    total = len(known) + undecided * study.selection.repeats
    return StudyStatus(
        study,
        store.root,
        ended.total(),
        total,
        _counts(study, ended, open_trials, store, claims.keys(), {t.id for t, _ in queued}, total),
        [_row(study, row) for row in rows],
        [(trial, claims[trial.id]) for trial in open_trials if trial.id in claims],
        queued,
        list(_failures(known, store)),
        store.problems,
    )


def study_status(study: Study, store: Store) -> str:
    """`read_status` as lines to read."""
    return status_text(read_status(study, store))


def status_text(found: StudyStatus) -> str:
    """The status as lines; names stay text, whatever they contain."""
    counts = ", ".join(f"{count} {what}" for what, count in found.counts.items())
    queued = (f"{trial.label()}: {place}" for trial, place in found.queued)
    lines = [
        f"{found.study.title}, in {found.root}",
        f"{found.ended} of {found.total} trials have ended: {counts}",
        *_section("running now", (_running(trial, claim) for trial, claim in found.running)),
        *_section("on SLURM", queued),
        "",
        *_row_lines(found.rows),
        *_section("failed (tried again by `run --retry`)", _failure_lines(found)),
        *_section("unreadable", (problem.replace("\n", " ") for problem in found.problems)),
    ]
    return "\n".join(map(plain, lines))


def _queued(
    open_trials: Sequence[Trial], running: Set[str], store: Store
) -> Iterator[tuple[Trial, str]]:
    """The trials that wait on a cluster, as the files have it and, where it answers, SLURM."""
    tasks = Ledger(store.root / "slurm").queued()
    places = {identity.partition("@")[0]: at for identity, at in tasks.items()}
    waiting = [t for t in open_trials if t.id in places and t.id not in running]
    standings = cluster.standings(places[trial.id].batch for trial in waiting)
    for trial in waiting:
        yield trial, _place(places[trial.id], standings)


def _place(at: Queued, standings: cluster.Standings | None) -> str:
    if at.batch.array is None:
        return "handed to sbatch, which has not confirmed it; `run` finds out"
    if standings is None:
        return f"queued as {at.task} (squeue does not answer)"
    standing = standings.get((at.batch.name, at.pack), cluster.GONE)
    if not standing.alive:
        return f"was {at.task}, which has ended; `run` goes on with it"
    if standing.state != "PENDING":
        return f"its turn comes in job {at.task}, which is {standing.state.lower()}"
    return f"queued as {at.task} ({explain(standing.reason)})"


def _trials(rows: Sequence[Outcome]) -> dict[str, tuple[Trial, Record | None]]:
    """Every trial known so far, by its id: rows may share one."""
    known: dict[str, tuple[Trial, Record | None]] = {}
    for row in rows:
        known |= {scored.trial.id: (scored.trial, scored.record) for scored in row.sweep}
        known |= {trial.id: (trial, record) for trial, record in row.repeats}
    return known


def _counts(
    study: Study,
    ended: Counter[str],
    open_trials: Sequence[Trial],
    store: Store,
    running: Set[str],
    queued: Set[str],
    total: int,
) -> dict[str, int]:
    """What has become of the trials, in words; only what runs and what has not begun may be 0."""
    idle = [trial for trial in open_trials if trial.id not in running | queued]
    paused = [trial for trial in idle if study.halving is not None and store.record(trial)]
    halted = sum((store.folder(t) / "checkpoint.pt").exists() for t in idle if t not in paused)
    left = total - ended.total() - len(running) - len(queued) - len(paused) - halted
    counts: dict[str, int] = {
        **{kind: ended[kind] for kind in STATUSES},
        "queued": len(queued),
        "paused at a rung": len(paused),
        "interrupted (`run` goes on from their checkpoints)": halted,
    }
    known = {what: count for what, count in counts.items() if count}
    ends = {what: count for what, count in known.items() if what in STATUSES}
    others = {what: count for what, count in known.items() if what not in STATUSES}
    return {**ends, "running": len(running), **others, "not begun": max(0, left)}


def _section(title: str, lines: Iterator[str]) -> list[str]:
    body = [f"  {line}" for line in lines]
    return ["", f"{title}:", *body] if body else []


def _running(trial: Trial, claim: Lease) -> str:
    metrics = claim.shown()
    share = f" ({claim.share:.0%})" if claim.steps else ""
    where = f"step {claim.step}/{claim.steps}{share}, pid {claim.pid} on {claim.host}"
    return f"{trial.label()}: {where}" + (f"; {metrics}" if metrics else "")


def _row(study: Study, row: Outcome) -> RowStatus:
    swept = sum(scored.record is not None for scored in row.sweep)
    repeated = sum(record is not None for _, record in row.repeats)
    chosen = str(row.chosen.point) if row.chosen else None
    repeats = (repeated, study.selection.repeats)
    return RowStatus(row.name, (swept, len(row.sweep)), repeats, chosen, _remarks(row))


def _row_lines(rows: Sequence[RowStatus]) -> list[str]:
    width = max(len("row"), *(len(row.row) for row in rows))
    lines = [f"{'row':<{width}}  {'sweep':<7}  {'repeats':<7}  chosen"]
    for row in rows:
        sweep = f"{row.sweep[0]}/{row.sweep[1]}"
        repeats = f"{row.repeats[0]}/{row.repeats[1]}" if row.repeats[1] else "-"
        remarks = f"  ({', '.join(row.remarks)})" if row.remarks else ""
        lines.append(f"{row.row:<{width}}  {sweep:<7}  {repeats:<7}  {row.chosen or '-'}{remarks}")
    return lines


def _remarks(row: Outcome) -> list[str]:
    kinds = Counter(record.status for record in row.records)
    words = [far] if (far := how_far(row)) else []
    words += [f"{kinds[kind]} {kind}" for kind in ("diverged", "failed") if kinds[kind]]
    words += ["its rates may still grow"] if row.growing else []
    words += ["stale"] if row.stale else []
    words += ["at the edge of its grid"] if row.edges else []
    return words


def _failures(
    known: dict[str, tuple[Trial, Record | None]], store: Store
) -> Iterator[tuple[Trial, Record, Path | None]]:
    for trial, record in known.values():
        if record is not None and record.status == "failed":
            log = store.folder(trial) / "log.txt"
            yield trial, record, log if log.exists() else None


def _failure_lines(found: StudyStatus) -> Iterator[str]:
    for trial, record, log in found.failed:
        yield f"{trial.label()}: {' '.join(record.reason.split())}"
        yield f"  {log or 'no log here (the record came with the repository)'}"
