"""A trial's identity."""

import dataclasses
import hashlib
import json

import pytest

from nos_repro.experiments.trial import Training
from tests.experiments.helpers import TASK, digits_trial, filled


def test_equal_settings_are_one_trial():
    assert digits_trial().id == digits_trial().id


@pytest.mark.parametrize(
    "change",
    [
        {"lr": 0.1},
        {"seed": 1},
        {"optimizer": "addsign"},
        {"weight_decay": 1e-4},
        {"options": {"beta": 0.5}},
        {"schedule": "cosine"},
        {"training": Training(epochs=3)},
        {"task_settings": filled(head="flat")},
    ],
)
def test_whatever_decides_a_number_decides_the_identity(change):
    assert digits_trial(**change).id != digits_trial().id


def test_an_option_added_next_year_keeps_the_identity_of_trials_that_never_used_it():
    today = digits_trial()
    older = {k: v for k, v in today.task_settings.items() if k != "channels_last"}
    assert today.task_settings["channels_last"] is False
    assert dataclasses.replace(today, task_settings=older).id == today.id
    assert today.same_settings({**today.to_json(), "task_settings": older})


def test_a_default_that_changed_makes_the_stored_settings_differ():
    today = digits_trial()
    stored = today.to_json()
    stored["task_settings"]["head"] = "global"
    assert not today.same_settings(stored)


def test_a_trial_with_other_values_is_the_one_that_is_made_with_them():
    first = digits_trial(schedule="cosine", schedule_options={"end": 0.0})
    for change in (
        {"lr": 0.1},
        {"lr": 1, "weight_decay": 1e-4},
        {"options": {"beta": 0.5, "names": ("a", "b")}, "seed": 3},
        {"training": Training(epochs=3, evaluate_every=2)},
        {"weight_decay": 0.0, "options": {}},
    ):
        other, made = first.at(**change), dataclasses.replace(first, **change)
        assert (other, other.id) == (made, made.id)
        assert other.same_settings(made.to_json())
    assert first.id == dataclasses.replace(first).id


def test_the_identity_is_the_hash_of_the_settings_that_are_not_defaults():
    trial = digits_trial(options={"b": 1e-5, "a": [1, 2.0]}, weight_decay=5e-4)
    settings = {key: trial.task_settings[key] for key in TASK}
    given = {"task": "convnet", "task_settings": settings, "optimizer": "powersign", "lr": 0.05,
             "weight_decay": 5e-4, "options": {"a": [1, 2.0], "b": 1e-5},
             "training": {"epochs": 2}}  # fmt: skip
    text = json.dumps(given, sort_keys=True, separators=(",", ":"))
    assert trial.id == hashlib.sha256(text.encode()).hexdigest()[:12]


def test_the_identity_is_the_same_in_every_process():
    assert digits_trial().id == PINNED


PINNED = "e148f8e5c344"
