"""A model that a trial has trained, used from its checkpoint: `translate`, `generate`."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from nos_repro.cli import main
from nos_repro.experiments.build import Conditions
from nos_repro.experiments.files import write_json
from nos_repro.experiments.runner import run_trial
from nos_repro.experiments.trial import Trial
from nos_repro.tasks.gnmt import GNMTSettings
from nos_repro.tasks.ptb_lstm import PtbLstmSettings

TINY = GNMTSettings(data="numbers", train_pairs=64, vocabulary=60, layers=2, width=8, batch_size=64,
                    beam=2, bleu_every=0)  # fmt: skip


TINY_LSTM = PtbLstmSettings(data="pydoc", hidden=8, embedding=4, steps_per_epoch=2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("gnmt"), "gnmt", TINY)


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("lstm"), "ptb_lstm", TINY_LSTM)


def train(folder: Path, task: str, settings: Any) -> Path:
    trial = Trial(task, json.loads(json.dumps(dataclasses.asdict(settings))), "sgd", 0.1)
    write_json(folder / "settings.json", trial.to_json())
    assert run_trial(trial, folder, Conditions(folder))[0] == "recorded"
    assert json.loads((folder / "record.json").read_text())["status"] == "finished"
    return folder


def test_lines_come_back_translated_one_for_one(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["forty-two", "", "one hundred and seven"]
    for place in (trained, trained / "checkpoint.pt"):
        assert main(["translate", str(place), *words, "--data", str(trained)]) == 0
        lines = capsys.readouterr().out.split("\n")
        assert len(lines) == 4
        assert lines[1] == ""


def test_no_checkpoint_and_another_vocabulary_are_one_clear_error(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["translate", str(tmp_path / "nothing"), "one"]) == 2
    assert "no trial's checkpoint" in capsys.readouterr().err
    state = torch.load(trained / "checkpoint.pt", weights_only=True)
    state["model"]["vocabulary"] += 1
    torch.save(state, tmp_path / "checkpoint.pt")
    (tmp_path / "settings.json").write_bytes((trained / "settings.json").read_bytes())
    assert main(["translate", str(tmp_path), "one", "--data", str(trained)]) == 2
    assert "not those that the checkpoint was trained with" in capsys.readouterr().err


def test_a_language_model_writes_on_as_many_words_as_asked_for(
    language_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["generate", str(language_model), "the class", "--words", "30"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert text.startswith("the class ")
    ends = text.rstrip("\n").count("\n")
    assert len(text.split()) + ends in (32, 31)  # a last end of a line is not printed twice
    assert "<eos>" not in text
    assert main([*words, "--seed", "0"]) == 0
    assert capsys.readouterr().out == text


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--words", "0"], "--words must be at least 1, got 0"),
        (["--temperature", "-1"], "--temperature must be at least 0, got -1.0"),
        (["--temperature", "nan"], "--temperature must be at least 0, got nan"),
    ],
)
def test_impossible_wishes_are_refused(
    language_model: Path, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", str(language_model), *flags]) == 2
    assert message in capsys.readouterr().err


def test_a_checkpoint_of_another_kind_is_refused(
    trained: Path, language_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", str(trained), "--data", str(trained)]) == 2
    assert "a checkpoint of no language model" in capsys.readouterr().err
    assert main(["translate", str(language_model), "one"]) == 2
    assert "a checkpoint of no GNMT" in capsys.readouterr().err
