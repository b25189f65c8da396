"""A model that a trial has trained, used from its checkpoint: `translate`."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from nos_repro.cli import main
from nos_repro.experiments.build import Conditions
from nos_repro.experiments.files import write_json
from nos_repro.experiments.runner import run_trial
from nos_repro.experiments.trial import Trial
from nos_repro.tasks.gnmt import GNMTSettings

TINY = GNMTSettings(data="numbers", train_pairs=64, vocabulary=60, layers=2, width=8, batch_size=64,
                    beam=2, bleu_every=0)  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trial")
    trial = Trial("gnmt", json.loads(json.dumps(dataclasses.asdict(TINY))), "sgd", 0.1)
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
