"""What is logged to W&B, by name. Both the logging and the dashboard take the names from here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nos_repro.experiments.columns import STATE
from nos_repro.experiments.grid import possible_points, repeat_trials, sweep_trials
from nos_repro.experiments.record import Record
from nos_repro.experiments.schema import Study
from nos_repro.experiments.trial import Trial
from nos_repro.search.log import Event
from nos_repro.search.side_runs import read_side_runs, without_dropped
from nos_repro.search.state import Tally
from nos_repro.tasks.registry import find_metric

SWEEP, RACE, REPEAT = "sweep", "race", "repeat"
"""The phases of a study's protocol."""

EPOCH, GLOBAL_STEP = "epoch", "global_step"
"""The x axes of a trial's charts; W&B's own step counts messages over all attempts."""

SAMPLES = "samples"
"""The x axis of a search's charts: how many samples have their rewards."""

LOSS = "loss"
"""The training loss of a step; `train_loss` is an epoch's mean."""

STATUS, CHILDREN, BEST_RULE = "status", "children", "best_rule"

COLUMNS = ("best_val", "best_test", "final_val", "final_test")
"""Logged for every finished trial, in addition to the columns of its study."""

# fmt: off
MADE_BY = ("commit", "host", "device", "threads", "python", "libraries")
COUNTED = ("healthy", "stopped", "refused", "diverged", "reused", "overran", "failed")
CHILD = {
    # column   of an event "evaluated"
    "sample":  "sample",
    "rule":    "rule",
    "status":  "status",
    "reward":  "reward",
    "rate":    "lr",
    "key":     "key",
    "seconds": "seconds",
}
# fmt: on


@dataclass(frozen=True)
class StudyRole:
    """The ``rows`` that a trial is trained for, and its phase of the protocol: the ``sweep`` that
    chooses a row's point, the ``race`` of a study that halves its rows, or a ``repeat`` of the
    chosen point with a fresh seed."""

    rows: tuple[str, ...]
    phase: str


def first_phase(study: Study) -> str:
    return SWEEP if study.halving is None else RACE


def deciding_phase(study: Study) -> str:
    """The phase whose trials make the table's numbers."""
    return REPEAT if study.selection.repeats else first_phase(study)


def role_of(study: Study, trial: Trial) -> StudyRole:
    """The trial's rows and phase in the study. A trial that one row sweeps and another repeats
    counts as swept; a trial of another study has no rows and no phase."""
    phases: dict[str, str] = {}
    for name, row in study.rows.items():
        grid = possible_points(study, row)
        if trial in sweep_trials(study, row, grid):
            phases[name] = first_phase(study)
        elif any(trial in repeat_trials(study, row, point) for point in grid):
            phases[name] = REPEAT
    found = phases.values()
    phase = REPEAT if found and set(found) == {REPEAT} else first_phase(study) if found else ""
    return StudyRole(tuple(phases), phase)


def group_of(name: str, scale: str) -> str:
    """The group that a study's or a search's runs share."""
    return f"{name}/{scale}"


def trial_config(study: Study, trial: Trial, role: StudyRole) -> dict[str, Any]:
    """A run's config: the trial's settings, and what else W&B may group by, all at top level."""
    return {
        **trial.to_json(),
        "study": study.study,
        "scale": study.scale,
        "row": " / ".join(role.rows),
        "phase": role.phase,
        "trial": trial.id,
    }


def made_by() -> dict[str, object]:
    """The commit and the hardware, for a run's config."""
    import torch

    from nos_repro.experiments.provenance import provenance

    known = provenance("cuda" if torch.cuda.is_available() else "cpu")
    return {key: known[key] for key in MADE_BY}


def paper_values(study: Study, role: StudyRole) -> dict[str, float]:
    """The paper's numbers for the trial's rows, the first row's first: `paper_final_test`."""
    values: dict[str, float] = {}
    for name in reversed(role.rows):
        values |= {f"paper_{column}": x for column, x in study.rows[name].paper.items()}
    return values


def baseline_rewards(folder: Path, baselines: Mapping[str, str]) -> dict[str, float]:
    """The rewards of a search's baselines, for its summary: `baseline_Adam`."""
    found = without_dropped(read_side_runs(folder), baselines)
    return {f"baseline_{run.name}": e.reward for run, e in found if run.purpose == "baseline"}


def trial_point(point: dict[str, float]) -> dict[str, float]:
    """A point of the curve, everything under its own name except the step."""
    return {GLOBAL_STEP if key == "step" else key: value for key, value in point.items()}


def curve_metrics(study: Study) -> list[str]:
    """The metrics of the curves that judge a study: the task's metric, and the loss."""
    metric = find_metric(study.task["name"]).name
    parts = ("val", "test") if _tests(study) else ("val",)
    return list(dict.fromkeys([*(f"{part}_{metric}" for part in parts), "train_loss"]))


def columns(study: Study) -> list[str]:
    """The columns of the study that come from records, plus the usual ones."""
    named = [name for name in study.columns if name != STATE]
    usual = [name for name in COLUMNS if _tests(study) or "_test" not in name]
    return list(dict.fromkeys([*named, *usual]))


def _tests(study: Study) -> bool:
    """Whether the study has a test part. ImageNet has none; its validation images give its
    numbers."""
    return any("_test" in name for name in study.columns)


def trial_summary(study: Study, record: Record) -> dict[str, Any]:
    """A run's summary at the end. A trial that has not finished has no columns."""
    values = {name: record.column(name) for name in columns(study)}
    return {
        STATUS: record.status,
        "reason": record.reason,
        "seconds": record.seconds,
        "examples_per_second": record.examples_per_second,
        "memory_gb": record.memory_gb,
        **{name: value for name, value in values.items() if math.isfinite(value)},
    }


def search_point(event: Event, tally: Tally) -> dict[str, Any]:
    """What is logged for a sample that has its reward, and the search's figures at that moment."""
    return {
        SAMPLES: tally.evaluated,
        **dict(zip(CHILD, child_row(event), strict=True)),
        "reward_mean": tally.mean,
        "reward_lately": tally.recent,
        "reward_best": tally.best,
        "entropy": tally.entropy,
        "staleness": tally.staleness,
        **{f"count_{status}": tally.statuses[status] for status in COUNTED},
        **{f"stage_{stage}".replace(" ", "_"): count for stage, count in tally.stages.items()},
    }


def child_row(event: Event) -> list[Any]:
    """The sample's row in the table of children."""
    return [event.get(key) for key in CHILD.values()]
