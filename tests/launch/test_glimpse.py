"""Records of another machine: what old code does here is saved, then compared with today's."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from nos_repro.errors import ConfigError
from nos_repro.experiments.build import Conditions
from nos_repro.experiments.schema import Row, Selection, Study
from nos_repro.experiments.selection import outcome
from nos_repro.experiments.store import Store
from nos_repro.launch.glimpse import save_glimpses, verify_against
from nos_repro.launch.local import InProcess
from nos_repro.launch.run import run_study
from tests.experiments.helpers import digits_study

Saved = tuple[Study, Store, Conditions, Path]
OLD = "0" * 12


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """A study's records and a file of glimpses, both by older code; a rate of 1e9 diverges."""
    tmp_path = tmp_path_factory.mktemp("made")
    rows = {"SGD": Row("sgd"), "noisy": Row("rule: g * drop(m, 0.3)", sweep={"lr": [0.1, 1e9]})}
    study = digits_study(rows, selection=Selection())
    store = Store(tmp_path, study.study, study.scale)
    conditions = Conditions(tmp_path)
    assert run_study(study, store, InProcess(), conditions) == 0
    file = tmp_path / "glimpses.jsonl"
    trials = list(save_glimpses(study, store, conditions, InProcess(), file))
    assert len(trials) == 4
    assert list(save_glimpses(study, store, conditions, InProcess(), file)) == []
    lines = [{**json.loads(line), "code": OLD} for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name in rows:
        for record in outcome(study, name, store).records:
            store.replace(dataclasses.replace(record, code=OLD))
    return study, store, conditions, file


@pytest.fixture
def saved(made: Saved, tmp_path: Path) -> Saved:
    """A copy of them, for a test to change."""
    study, _, conditions, file = made
    shutil.copytree(file.parent, tmp_path, dirs_exist_ok=True)
    store = Store(tmp_path, study.study, study.scale)
    return study, store, conditions, tmp_path / file.name


def test_a_record_whose_first_updates_are_the_same_here_is_signed(saved: Saved) -> None:
    study, store, conditions, file = saved
    agreed = list(verify_against(study, store, conditions, InProcess(), file))
    assert [good for _, good in agreed] == [True] * 4
    for name in study.rows:
        row = outcome(study, name, store)
        assert not row.stale
        assert {tuple(record.verified) for record in row.records} == {(OLD,)}
    assert list(verify_against(study, store, conditions, InProcess(), file)) == []
    assert not (store.root / "verify").exists()


@pytest.mark.parametrize("part", ["losses", "weights", "rate", "metrics"])
def test_a_single_differing_number_leaves_its_record_stale(saved: Saved, part: str) -> None:
    study, store, conditions, file = saved
    first, *others = map(json.loads, file.read_text().splitlines())
    first["glimpse"][part] = "other"
    file.write_text("".join(json.dumps(line) + "\n" for line in [first, *others]))
    agreed = {t.id: ok for t, ok in verify_against(study, store, conditions, InProcess(), file)}
    assert agreed.pop(first["id"]) is False
    assert set(agreed.values()) == {True}
    stale = [r.id for n in study.rows for r in outcome(study, n, store).records if r.code == OLD]
    assert stale == [first["id"]]


def test_a_record_that_is_not_in_the_file_is_left_alone(saved: Saved) -> None:
    study, store, conditions, file = saved
    file.write_text(file.read_text().replace(OLD, "1" * 12))
    assert list(verify_against(study, store, conditions, InProcess(), file)) == []
    assert outcome(study, "SGD", store).stale


@pytest.mark.parametrize("text", [None, "[]", "{", '{"id": 1}', '{"id": "a", "code": "b"}'])
def test_a_file_of_another_kind_is_one_error(saved: Saved, text: str | None) -> None:
    study, store, conditions, file = saved
    file.unlink()
    if text is not None:
        file.write_text(text + "\n")
    with pytest.raises(ConfigError, match="not a file from `verify --save`"):
        list(verify_against(study, store, conditions, InProcess(), file))


def test_a_place_that_cannot_be_written_is_one_error_before_training(saved: Saved) -> None:
    study, store, conditions, file = saved
    nowhere = file.parent / "no_such_folder" / "glimpses.jsonl"
    with pytest.raises(ConfigError, match=r"--save .*no_such_folder.*: No such file or directory"):
        list(save_glimpses(study, store, conditions, InProcess(), nowhere))
