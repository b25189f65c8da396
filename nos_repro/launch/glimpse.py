"""`verify --save` and `--against`: verification on a machine that rounds differently from the one
on which the records were made.

There even the old code does not repeat a record to the last bit. So a checkout of the old code
first saves a glimpse of each trial, what it does here in its first updates, and today's code is
then compared with these glimpses, to the last bit.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from nos_repro.errors import ConfigError
from nos_repro.experiments.build import Conditions, build
from nos_repro.experiments.code import trial_code
from nos_repro.experiments.files import StoreError, json_line
from nos_repro.experiments.named_file import read_named
from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import is_stale
from nos_repro.experiments.store import Store
from nos_repro.experiments.training import Run, Stopped
from nos_repro.experiments.trial import Trial
from nos_repro.launch.base import JobOutcome, Launcher
from nos_repro.launch.verify import RetrainingJob, finish, recorded

log = logging.getLogger(__name__)

UPDATES = 25
EVALUATED_BATCHES = 2
"""Per held-out part."""

Glimpse = dict[str, Any]
"""The first updates of a trial: the sum of the losses after each, the weights at the end (SHA-256),
the next rate, and the metrics on the first batches of each held-out part, as `float.hex`."""


def take_glimpse(trial: Trial, conditions: Conditions, stop: Callable[[], bool]) -> Glimpse:
    """Trains UPDATES steps, or an epoch if that is shorter. Raises what training raises."""
    run = build(trial, conditions)
    run.task.train()
    updates = min(UPDATES, run.data.steps_per_epoch)
    losses: list[str] = []
    for batch in itertools.islice(run.data.train_share(0, 0, 0, 1), updates):
        if stop():
            raise Stopped
        run.train_step(run.fabric.to_device(batch))
        losses.append("not finite" if run.bad_step() else run.loss_total.hex())
    measured: dict[str, float] = {}
    for part, batches in (("val", run.data.val_batches()), ("test", run.data.test_batches())):
        measured |= run.evaluate(itertools.islice(batches, EVALUATED_BATCHES), part)
    return {
        "losses": losses,
        "weights": _hash_of(run),
        "rate": float(run.schedule.get_last_lr()[0]).hex(),
        "metrics": {name: value.hex() for name, value in sorted(measured.items())},
    }


def _hash_of(run: Run) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(run.task.state_dict().items()):
        digest.update(name.encode())
        flat = value.detach().cpu().contiguous().view(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class GlimpseJob(RetrainingJob):
    """A trial to be trained for a few updates."""

    @property
    def identity(self) -> str:
        return f"{super().identity}-glimpse"

    def run(self, stop: Callable[[], bool]) -> tuple[JobOutcome, str]:
        """Takes the glimpse. If training fails, the glimpse is empty and agrees with none."""
        try:
            return self.reply(take_glimpse(self.trial, self.conditions, stop))
        except (Stopped, StoreError):
            raise
        except Exception:
            log.exception("trial %s cannot be trained", self.trial.id)
            return self.reply({})


def save_glimpses(
    study: Study,
    store: Store,
    conditions: Conditions,
    launcher: Launcher[GlimpseJob],
    path: Path,
    note: Callable[[str], None] = log.warning,
) -> Iterator[Trial]:
    """Adds a line to ``path`` for each record made by today's code that has none there yet; yields
    its trial. Closes the launcher. Raises ConfigError if ``path`` cannot be written."""
    known = read_glimpses(path) if path.exists() else {}
    try:
        path.open("a", encoding="utf-8").close()  # before hours of training
    except OSError as error:
        raise ConfigError(f"--save {path}: {error.strerror}") from None
    jobs = [
        _job(trial, store, conditions)
        for trial, record in recorded(study, store)
        if not is_stale(record) and (trial.id, record.code) not in known
    ]
    for job in finish(jobs, launcher, note):
        line = {"id": job.trial.id, "code": job.code, "glimpse": job.take()}
        with path.open("a", encoding="utf-8") as file:
            file.write(json_line(line))
        yield job.trial


def verify_against(
    study: Study,
    store: Store,
    conditions: Conditions,
    launcher: Launcher[GlimpseJob],
    path: Path,
    note: Callable[[str], None] = log.warning,
) -> Iterator[tuple[Trial, bool]]:
    """Yields the trial of each stale record that has a line in ``path``, and whether it agrees.

    A record that agrees is signed with today's code. Closes the launcher. Raises ConfigError if
    `save_glimpses` did not write the file.
    """
    known = read_glimpses(path)
    stale = {
        trial.id: (trial, record)
        for trial, record in recorded(study, store)
        if is_stale(record) and (trial.id, record.code) in known
    }
    jobs = [_job(trial, store, conditions) for trial, _ in stale.values()]
    for job in finish(jobs, launcher, note):
        record = stale[job.trial.id][1]
        seen = job.take()
        agreed = bool(seen) and seen == known[job.trial.id, record.code]
        if agreed:
            store.replace(record.signed(job.code))
        yield job.trial, agreed


def _job(trial: Trial, store: Store, conditions: Conditions) -> GlimpseJob:
    return GlimpseJob(trial, trial_code(trial.to_json()), store.root / "verify", conditions)


def read_glimpses(path: Path) -> dict[tuple[str, str], Glimpse]:
    """The glimpses of a file, by trial id and the code that made the record. Raises ConfigError."""
    try:
        lines = [json.loads(line) for line in read_named(path).splitlines()]
        return {(line["id"], line["code"]): dict(line["glimpse"]) for line in lines}
    except (ConfigError, OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: not a file from `verify --save`: {error}") from None
