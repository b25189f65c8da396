"""Which rows a trial is trained for, and in which phase of the protocol."""

import pytest

from nos_repro.experiments.grid import points, repeat_trials, sweep_trial
from nos_repro.experiments.load import load_study
from nos_repro.experiments.schema import Halving, Row, Selection
from nos_repro.experiments.trial import Training
from nos_repro.tracking.metrics import StudyRole, deciding_phase, role_of, trial_config
from nos_repro.tracking.wandb_runs import tags
from tests.conftest import ROOT
from tests.experiments.helpers import digits_study, digits_trial


def test_every_trial_of_a_study_has_its_row_and_phase():
    study = digits_study()
    for name, row in study.rows.items():
        for point in points(study, row):
            assert role_of(study, sweep_trial(study, row, point)) == StudyRole((name,), "sweep")
            for trial in repeat_trials(study, row, point):
                assert role_of(study, trial) == StudyRole((name,), "repeat")


def test_if_a_study_halves_its_rows_every_trial_is_in_the_race():
    study = digits_study(
        selection=Selection(), training=Training(epochs=4), halving=Halving(rungs=[2])
    )
    row = study.rows["SGD"]
    assert role_of(study, sweep_trial(study, row, points(study, row)[0])).phase == "race"
    assert deciding_phase(study) == "race"


def test_a_trial_that_two_rows_share_has_both():
    study = digits_study({"one": Row("sgd"), "other": Row("sgd"), "third": Row("adam")})
    trial = sweep_trial(study, study.rows["one"], points(study, study.rows["one"])[0])
    place = role_of(study, trial)
    assert place.rows == ("one", "other")
    assert trial_config(study, trial, place)["row"] == "one / other"


def test_a_trial_that_one_row_sweeps_and_another_repeats_counts_as_swept():
    study = digits_study({"one": Row("sgd"), "other": Row("sgd", seed=1)})
    trial = sweep_trial(study, study.rows["other"], points(study, study.rows["other"])[0])
    assert trial in repeat_trials(study, study.rows["one"], points(study, study.rows["one"])[0])
    assert role_of(study, trial) == StudyRole(("one", "other"), "sweep")


def test_another_studys_trial_has_neither_row_nor_phase():
    assert role_of(digits_study(), digits_trial(lr=0.777)) == StudyRole((), "")


@pytest.mark.parametrize(
    "path", sorted((ROOT / "configs").glob("table*.yaml")), ids=lambda p: p.stem
)
def test_no_tag_is_longer_than_wandb_allows_and_none_is_repeated(path):
    study = load_study(path, scale="smoke")
    for row in study.rows.values():
        trial = sweep_trial(study, row, points(study, row)[0])
        said = tags(trial, role_of(study, trial))
        assert len(said) == len(set(said))
        assert all(1 <= len(tag) <= 64 for tag in said)


def test_a_config_is_flat_where_wandb_groups_and_filters():
    study = digits_study()
    trial = sweep_trial(study, study.rows["SGD"], points(study, study.rows["SGD"])[0])
    config = trial_config(study, trial, role_of(study, trial))
    said = {key: config[key] for key in ("study", "scale", "row", "phase", "optimizer", "lr")}
    assert said == {"study": "tiny", "scale": "smoke", "row": "SGD", "phase": "sweep",
                    "optimizer": "sgd", "lr": 0.01}  # fmt: skip
    assert {"weight_decay", "seed", "schedule", "trial"} <= config.keys()
