"""`recheck`: a stored checkpoint reproduces the recorded number, and one that does not FAILs."""

import dataclasses

import pytest
import torch

from nos_repro.cli import main
from nos_repro.errors import ConfigError
from nos_repro.experiments.build import Conditions
from nos_repro.experiments.schema import Row, Selection
from nos_repro.experiments.selection import outcome
from nos_repro.experiments.store import Store
from nos_repro.launch.local import InProcess
from nos_repro.launch.recheck import lines, recheck
from nos_repro.launch.run import run_study
from tests.experiments.helpers import digits_study


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A row of two trials that have run; the better one gives its number."""
    folder = tmp_path_factory.mktemp("trained")
    study = digits_study({"SGD": Row("sgd")}, selection=Selection())
    store = Store(folder, study.study, study.scale)
    assert run_study(study, store, InProcess(), Conditions(folder)) == 0
    return study, store, Conditions(folder)


def checked(trained, **how):
    study, store, conditions = trained
    (result,) = recheck(outcome(study, "SGD", store), store, conditions, **how)
    return result


@pytest.mark.parametrize("retrain", [False, True])
def test_a_number_is_reproduced_to_the_last_bit(trained, retrain):
    result = checked(trained, retrain=retrain)
    assert result.passed
    assert result.exact
    assert {"val_accuracy", "test_accuracy"} <= result.values.keys()
    assert next(lines(result)).startswith("PASS")


def test_a_record_that_says_something_else_fails_with_both_numbers(trained):
    study, store, _ = trained
    row = outcome(study, "SGD", store)
    record = row.counting[0]
    before = record.metrics[-1]["test_accuracy"]
    forged = [{**record.metrics[-1], "test_accuracy": before + 1}]
    store.replace(dataclasses.replace(record, metrics=forged))
    try:
        result = checked(trained)
    finally:
        store.replace(record)
    assert not result.passed
    text = "\n".join(lines(result))
    assert text.startswith("FAIL")
    assert f"! test_accuracy: {before + 1:.6g} on record, {before:.6g} now" in text


def test_a_checkpoint_with_other_weights_fails_and_a_torn_one_is_left_in_place(trained):
    study, store, _ = trained
    path = store.folder(outcome(study, "SGD", store).counting[0].id) / "checkpoint.pt"
    whole = path.read_bytes()
    try:
        state = torch.load(path, weights_only=True)
        for tensor in state["model"].values():
            tensor.zero_()
        torch.save(state, path)
        assert not checked(trained).passed
        path.write_bytes(whole[: len(whole) // 2])
        result = checked(trained)
        assert "corrupt" in result.problem
        assert path.exists()
    finally:
        path.write_bytes(whole)


def test_a_clone_is_told_to_retrain(trained, tmp_path):
    study, store, conditions = trained
    store.compact(outcome(study, "SGD", store).trials)
    clone = Store(tmp_path, study.study, study.scale)
    clone.root.mkdir(parents=True)
    clone.compact_path.write_bytes(store.compact_path.read_bytes())
    with pytest.raises(ConfigError, match="--retrain"):
        next(recheck(outcome(study, "SGD", clone), clone, conditions))
    (again,) = recheck(outcome(study, "SGD", clone), clone, conditions, retrain=True)
    assert again.passed


def test_a_row_without_a_number_has_nothing_to_check(tmp_path):
    study = digits_study({"SGD": Row("sgd")})
    store = Store(tmp_path, study.study, study.scale)
    with pytest.raises(ConfigError, match="no number to check"):
        next(recheck(outcome(study, "SGD", store), store, Conditions(tmp_path)))


@pytest.mark.parametrize("settings", [[], ["device.shard=true"]])  # a checkpoint is whole
def test_the_command_says_so_too(committed, capsys, settings):
    words = [*settings, "--scale", "small", "--results", str(committed)]
    assert main(["recheck", "table2:PowerSign (cosine)", *words]) == 2
    assert "--retrain" in capsys.readouterr().err
