"""Where a trial stands in its study: a trial itself knows neither row nor phase."""

from __future__ import annotations

from dataclasses import dataclass

from nos_repro.experiments.grid import points, repeat_trials, sweep_trial
from nos_repro.experiments.schema import Study
from nos_repro.experiments.trial import Trial

SWEEP, RACE, REPEAT = "sweep", "race", "repeat"


@dataclass(frozen=True)
class StudyRole:
    """The ``rows`` that a trial is trained for, and in which phase of the protocol: the ``sweep``
    that chooses a row's point, the ``race`` of a study that halves its rows, a ``repeat`` of the
    chosen point by a fresh seed."""

    rows: tuple[str, ...]
    phase: str


def first_phase(study: Study) -> str:
    return SWEEP if study.halving is None else RACE


def deciding_phase(study: Study) -> str:
    """The phase whose trials make the table's numbers."""
    return REPEAT if study.selection.repeats else first_phase(study)


def role_of(study: Study, trial: Trial) -> StudyRole:
    """Where the study has the trial. One that a row sweeps and another repeats counts as swept;
    no rows and no phase for a trial of another study."""
    phases: dict[str, str] = {}
    for name, row in study.rows.items():
        grid = points(study, row)
        if any(trial == sweep_trial(study, row, point) for point in grid):
            phases[name] = first_phase(study)
        elif any(trial in repeat_trials(study, row, point) for point in grid):
            phases[name] = REPEAT
    found = phases.values()
    phase = REPEAT if found and set(found) == {REPEAT} else first_phase(study) if found else ""
    return StudyRole(tuple(phases), phase)
