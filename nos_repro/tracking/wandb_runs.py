"""A trial as a run of W&B.

The run's id is the study's, the scale's and the trial's, so that all attempts at a trial, before
and after it was queued again and on whichever host, are one run. `wandb.json` beside the checkpoint
says how much of the curve the run has been told. Points carry their own `epoch` and `step`, which
charts stand on: W&B's own step counts messages and goes on from attempt to attempt.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nos_repro.experiments.files import write_json
from nos_repro.experiments.tracker import Curve
from nos_repro.experiments.trial import Trial

log = logging.getLogger(__name__)

INIT_SECONDS = 30.0
MODES = ("off", "offline", "online")


@dataclass(frozen=True)
class WandbRuns:
    """The trials of one study at one scale, as a group of runs."""

    study: str
    scale: str
    folder: Path
    """Where W&B writes: it makes a folder `wandb` there."""
    project: str = "nos_repro"
    mode: Literal["offline", "online"] = "offline"

    def run_id(self, trial: Trial) -> str:
        return f"{self.study}-{self.scale}-{trial.id}"

    @contextmanager
    def follow(self, trial: Trial, folder: Path) -> Iterator[Callable[[Curve], None]]:
        """Opens the trial's run, or goes on with it; closes it when the attempt ends."""
        run = self._open(trial)
        memory = folder / "wandb.json"
        told = _told(memory)

        def tell(curve: Curve) -> None:
            nonlocal told
            if run is None:
                return
            try:
                for point in curve[told:]:
                    run.log(point)
            except Exception:  # whatever W&B meets is no trial's failure
                log.warning("W&B was not told a point", exc_info=True)
                return
            told = max(told, len(curve))

        try:
            yield tell
        finally:
            if run is not None:
                _close(run, memory, {"id": self.run_id(trial), "told": told})

    def _open(self, trial: Trial) -> Any:
        """The run; None where W&B does not give one."""
        if self.mode == "offline":  # else it looks hosts up at its end
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        try:
            import wandb

            self.folder.mkdir(parents=True, exist_ok=True)
            run = wandb.init(
                project=self.project,
                id=self.run_id(trial),
                resume="allow",
                name=trial.label(),
                group=f"{self.study}/{self.scale}",
                tags=[word[:64] for word in (trial.optimizer, trial.schedule)],
                config=trial.to_json(),
                dir=str(self.folder),
                mode=self.mode,
                reinit="finish_previous",
                settings=wandb.Settings(
                    init_timeout=INIT_SECONDS,
                    silent=True,
                    console="off",
                    x_disable_meta=True,
                    x_disable_stats=True,
                ),
            )
            run.define_metric("*", step_metric="step")
        except Exception:  # no network, no key, a full disk: the trial goes on
            log.warning("W&B gives no run; the records on disk have it all", exc_info=True)
            return None
        return run


def _close(run: Any, memory: Path, said: dict[str, Any]) -> None:
    """Ends this attempt's part of the run; what it was told counts when W&B has it."""
    try:
        run.finish()
        write_json(memory, said)
    except Exception:
        log.warning("W&B did not end its run", exc_info=True)


def _told(memory: Path) -> int:
    """How many points of the curve the run has; 0 where nobody knows."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return int(json.loads(memory.read_bytes())["told"])
    return 0
