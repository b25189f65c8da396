"""How far a study is: what has ended, what runs now, what waits, what went wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence, Set

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


def study_status(study: Study, store: Store) -> str:
    """The state of every row, of what runs, and of every failure, from the files alone."""
    rows = outcomes(study, store)
    known = _trials(rows)
    open_trials = [trial for trial, record in known.values() if record is None]
    claims = store.claims(open_trials)
    running = [(trial, claims[trial.id]) for trial in open_trials if trial.id in claims]
    queued = _queued(open_trials, claims.keys(), store)
    lines = [
        f"{study.title}, in {store.root}",
        _counts(study, rows, known, store, claims.keys(), queued.keys()),
        *_section("running now", (_running(trial, claim) for trial, claim in running)),
        *_section("on SLURM", iter(queued.values())),
        "",
        *_rows(study, rows),
        *_section("failed (tried again by `run --retry`)", _failures(known, store)),
        *_section("unreadable", (problem.replace("\n", " ") for problem in store.problems)),
    ]
    return "\n".join(map(plain, lines))


def _queued(open_trials: Sequence[Trial], running: Set[str], store: Store) -> dict[str, str]:
    """The trials that wait on a cluster by their ids, as the files have it and, where it answers,
    SLURM."""
    tasks = Ledger(store.root / "slurm").queued()
    places = {identity.partition("@")[0]: at for identity, at in tasks.items()}
    waiting = [t for t in open_trials if t.id in places and t.id not in running]
    standings = cluster.standings(places[trial.id].batch for trial in waiting)
    return {t.id: f"{t.label()}: {_place(places[t.id], standings)}" for t in waiting}


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
    rows: Sequence[Outcome],
    known: dict[str, tuple[Trial, Record | None]],
    store: Store,
    running: Set[str],
    queued: Set[str],
) -> str:
    ended = Counter(record.status for _, record in known.values() if record is not None)
    undecided = sum(row.chosen is None and row.missing > 0 for row in rows)
    total = len(known) + undecided * study.selection.repeats
    begun = [trial for trial, record in known.values() if record is None]
    idle = [trial for trial in begun if trial.id not in running | queued]
    paused = [trial for trial in idle if study.halving is not None and store.record(trial)]
    halted = sum((store.folder(t) / "checkpoint.pt").exists() for t in idle if t not in paused)
    parts = [f"{ended[kind]} {kind}" for kind in STATUSES if ended[kind]]
    parts.append(f"{len(running)} running")
    if queued:
        parts.append(f"{len(queued)} queued")
    if paused:
        parts.append(f"{len(paused)} paused at a rung")
    if halted:
        parts.append(f"{halted} interrupted (`run` goes on from their checkpoints)")
    left = total - ended.total() - len(running) - len(queued) - len(paused) - halted
    parts.append(f"{max(0, left)} not begun")
    return f"{ended.total()} of {total} trials have ended: {', '.join(parts)}"


def _section(title: str, lines: Iterator[str]) -> list[str]:
    body = [f"  {line}" for line in lines]
    return ["", f"{title}:", *body] if body else []


def _running(trial: Trial, claim: Lease) -> str:
    metrics = claim.shown()
    share = f" ({claim.share:.0%})" if claim.steps else ""
    where = f"step {claim.step}/{claim.steps}{share}, pid {claim.pid} on {claim.host}"
    return f"{trial.label()}: {where}" + (f"; {metrics}" if metrics else "")


def _rows(study: Study, rows: Sequence[Outcome]) -> list[str]:
    width = max(len("row"), *(len(row.name) for row in rows))
    lines = [f"{'row':<{width}}  {'sweep':<7}  {'repeats':<7}  chosen"]
    for row in rows:
        swept = sum(scored.record is not None for scored in row.sweep)
        repeated = sum(record is not None for _, record in row.repeats)
        sweep, asked = f"{swept}/{len(row.sweep)}", study.selection.repeats
        repeats = f"{repeated}/{asked}" if asked else "-"
        chosen = str(row.chosen.point) if row.chosen else "-"
        lines.append(f"{row.name:<{width}}  {sweep:<7}  {repeats:<7}  {chosen}{_remarks(row)}")
    return lines


def _remarks(row: Outcome) -> str:
    kinds = Counter(record.status for record in row.records)
    words = [far] if (far := how_far(row)) else []
    words += [f"{kinds[kind]} {kind}" for kind in ("diverged", "failed") if kinds[kind]]
    words += ["stale"] if row.stale else []
    words += ["at the edge of its grid"] if row.edges else []
    return f"  ({', '.join(words)})" if words else ""


def _failures(known: dict[str, tuple[Trial, Record | None]], store: Store) -> Iterator[str]:
    for trial, record in known.values():
        if record is None or record.status != "failed":
            continue
        log = store.folder(trial) / "log.txt"
        place = str(log) if log.exists() else "no log here (the record came with the repository)"
        yield f"{trial.label()}: {' '.join(record.reason.split())}"
        yield f"  {place}"
