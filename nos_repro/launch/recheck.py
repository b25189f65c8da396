"""`recheck`: whether a recorded number is reproduced, from its checkpoint or by training again."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nos_repro.errors import ConfigError
from nos_repro.experiments.build import Conditions, build
from nos_repro.experiments.checkpoint import MISFITS, Checkpoints, first_line
from nos_repro.experiments.record import Record
from nos_repro.experiments.selection import Outcome
from nos_repro.experiments.store import Store
from nos_repro.experiments.trained import read_state
from nos_repro.experiments.training import STATE, Run, train
from nos_repro.experiments.trial import Trial

RELATIVE = 1e-3
"""Numbers this close agree: other machines and libraries round differently."""


@dataclass(frozen=True)
class Rechecked:
    """A trial evaluated again: each metric of the record's last line, and its value now.

    ``problem`` says why nothing could be compared; then the check has failed.
    """

    trial: Trial
    seed: int
    values: dict[str, tuple[float, float]] = field(default_factory=dict)
    problem: str = ""

    @property
    def exact(self) -> bool:
        return bool(self.values) and all(then == now for then, now in self.values.values())

    @property
    def passed(self) -> bool:
        return bool(self.values) and all(_near(*pair) for pair in self.values.values())


def _near(then: float, now: float) -> bool:
    return math.isclose(then, now, rel_tol=RELATIVE, abs_tol=1e-9)


def recheck(
    outcome: Outcome,
    store: Store,
    conditions: Conditions,
    prepare: Callable[[], None] = lambda: None,
    *,
    retrain: bool = False,
) -> Iterator[Rechecked]:
    """Evaluates again every trial behind the row's cells, one by one; ``prepare`` is called before
    the first, if there is something to check.

    Raises ConfigError if the row has no number, or if a checkpoint is missing (a clone has only the
    records) and ``retrain`` is False.
    """
    records = [record for record in outcome.counting if record.status == "finished"]
    if not records:
        raise ConfigError(
            f"row {outcome.name} has no number to check: no trial of it has finished (see `why`)"
        )
    trials = {trial.id: trial for trial in outcome.trials}
    if not retrain:
        _require_checkpoints(outcome.name, records, store)
    prepare()
    for record in records:
        trial = trials[record.id]
        again = _retrained if retrain else _evaluated
        yield again(trial, record, store.folder(trial), conditions)


def _require_checkpoints(row: str, records: list[Record], store: Store) -> None:
    missing = [r.id for r in records if not (store.folder(r.id) / "checkpoint.pt").exists()]
    if missing:
        raise ConfigError(
            f"row {row}: {len(missing)} of {len(records)} checkpoints are not here, e.g."
            f" {store.folder(missing[0]) / 'checkpoint.pt'}\n"
            "  checkpoints are not committed, so a clone has only the records: train again with"
            " --retrain"
        )


def _evaluated(trial: Trial, record: Record, folder: Path, conditions: Conditions) -> Rechecked:
    """Checks the stored checkpoint, which is only read."""
    run = build(trial, conditions)
    try:
        run.restore(read_state(folder / "checkpoint.pt", STATE))
    except ConfigError as error:
        return Rechecked(trial, trial.seed, problem=f"its checkpoint is corrupt: {error}")
    except MISFITS as error:
        problem = f"its checkpoint does not fit: {first_line(error)}"
        return Rechecked(trial, trial.seed, problem=problem)
    if run.epoch != record.epoch:
        problem = f"its checkpoint is at epoch {run.epoch}, its record at epoch {record.epoch:g}"
        return Rechecked(trial, trial.seed, problem=problem)
    return _compared(trial, record, _measured(run))


def _retrained(trial: Trial, record: Record, folder: Path, conditions: Conditions) -> Rechecked:
    """Checks by training from scratch; what is on disk is not touched."""
    run = build(trial, conditions)
    with tempfile.TemporaryDirectory() as scratch:
        ending = train(run, Checkpoints(Path(scratch), every_seconds=math.inf))
    if ending.status != record.status:
        return Rechecked(trial, trial.seed, problem=f"now it {ending.status}: {ending.reason}")
    return _compared(trial, record, run.history[-1])


def _measured(run: Run) -> dict[str, float]:
    """The metrics of the held-out parts. A final checkpoint does not hold the training loss."""
    return {key: value for key, value in run.measure().items() if key[:4] in ("val_", "test")}


def _compared(trial: Trial, record: Record, now: dict[str, float]) -> Rechecked:
    then = record.metrics[-1]
    keys = [key for key in then if key in now and key[:4] in ("val_", "test")]
    return Rechecked(trial, trial.seed, {key: (then[key], now[key]) for key in keys})


def lines(checked: Rechecked) -> Iterator[str]:
    """PASS or FAIL, then every compared number, then and now."""
    word = "PASS" if checked.passed else "FAIL"
    how = "to the last bit" if checked.exact else f"within {RELATIVE:.1%}"
    said = checked.problem or (how if checked.passed else "the numbers differ")
    yield f"{word}  {checked.trial.id}  {checked.trial.label()}: {said}"
    for key, (then, now) in checked.values.items():
        sign = "=" if then == now else "~" if _near(then, now) else "!"
        yield f"      {sign} {key}: {then:.6g} on record, {now:.6g} now"
