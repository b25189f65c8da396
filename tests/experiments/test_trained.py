"""A model trained by a trial, used from its checkpoint: `translate`, `generate`."""

import dataclasses
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from nos_repro.cli import main
from nos_repro.experiments.build import Conditions
from nos_repro.experiments.files import write_json
from nos_repro.experiments.runner import run_trial
from nos_repro.experiments.trial import Trial
from nos_repro.tasks.facts.gnmt import GNMTSettings
from nos_repro.tasks.facts.ptb_lstm import PtbLstmSettings

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


def test_standard_input_is_translated_line_for_line(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only line feeds end lines."""
    given(monkeypatch, "one\u2028two\r\n\nthree\n".encode())
    assert main(["translate", str(trained), "--data", str(trained)]) == 0
    piped = capsys.readouterr().out
    assert (
        main(["translate", str(trained), "one\u2028two", "", "three", "--data", str(trained)]) == 0
    )
    assert piped == capsys.readouterr().out
    assert piped.count("\n") == 3


def test_no_line_is_translated_into_none(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given(monkeypatch, b"")
    assert main(["translate", str(trained), "--data", str(trained)]) == 0
    assert capsys.readouterr().out == ""


def given(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"one\ncaf\xe9\n", "standard input, line 2: not UTF-8 (byte 0xe9)"),
        (b"one\ntw\0o\n", "standard input, line 2: a NUL (byte 0x00)"),
        ("one\n".encode("utf-16"), "standard input: UTF-16, not UTF-8"),
        (b"one\n" + b"two " * 10_000, "standard input, line 2: 20,001 word pieces, task.longest"),
    ],
)
def test_a_bad_line_to_translate_is_named(
    trained: Path,
    content: bytes,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given(monkeypatch, content)
    assert main(["translate", str(trained), "--data", str(trained)]) == 2
    assert re.sub(r"\d\d,\d{3}", "20,001", message) in re.sub(
        r"\d\d,\d{3}", "20,001", capsys.readouterr().err
    )


def test_a_word_that_is_not_text_is_refused(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["translate", str(trained), "caf\udce9", "--data", str(trained)]) == 2
    assert "TEXT is not UTF-8" in capsys.readouterr().err


def copy(trained: Path, to: Path, **settings: Any) -> Path:
    """The trial's folder with other settings."""
    shutil.copy(trained / "checkpoint.pt", to / "checkpoint.pt")
    values = json.loads((trained / "settings.json").read_text())
    write_json(to / "settings.json", {**values, **settings})
    return to


FOREIGN = {
    "no settings.json": ({}, "not a trial's folder"),
    "another size": ({"task_settings": {"data": "numbers", "width": 4}}, "current task 'gnmt'"),
    "an unknown setting": ({"task_settings": {"colour": 1}}, "current task 'gnmt'"),
    "no mapping": ({"task_settings": 3}, "not a trial's folder"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_folder_is_one_clear_error(
    kind: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, message = FOREIGN[kind]
    copy(trained, tmp_path, **settings)
    if not settings:
        (tmp_path / "settings.json").unlink()
    assert main(["translate", str(tmp_path), "one", "--data", str(trained)]) == 2
    assert message in capsys.readouterr().err


def test_weights_that_are_not_finite_are_refused(
    language_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copy(language_model, tmp_path) / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    state["model"]["bias"][0] = torch.nan
    torch.save(state, path)
    assert main(["generate", str(tmp_path), "the", "--data", str(language_model)]) == 2
    assert "its weights are not finite numbers" in capsys.readouterr().err


def test_the_file_that_is_named_is_the_one_that_is_read(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy(trained, tmp_path)
    assert main(["translate", str(tmp_path / "other.pt"), "one", "--data", str(trained)]) == 2
    assert f"no file {tmp_path / 'other.pt'}" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_named_and_left_in_place(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copy(trained, tmp_path) / "checkpoint.pt"
    whole = path.read_bytes()
    for damaged in (whole[:-100], whole[:2000] + b"x" * 100 + whole[2100:], b"no archive"):
        path.write_bytes(damaged)
        assert main(["translate", str(tmp_path), "one", "--data", str(trained)]) == 2
        assert f"{path} is damaged" in capsys.readouterr().err
        assert path.read_bytes() == damaged


@pytest.mark.parametrize("model", [None, 3, {}, {1: 2}, {"w": "x"}])
def test_a_checkpoint_without_its_model_is_one_clear_error(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], model: Any
) -> None:
    path = copy(trained, tmp_path) / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    del state["model"]
    torch.save(state if model is None else {**state, "model": model}, path)
    assert main(["translate", str(tmp_path), "one", "--data", str(trained)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path}")
    assert error.count("\n") == 1


def test_a_damaged_cache_is_named_with_what_to_do(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = tmp_path / "data"
    assert main(["translate", str(trained), "one", "--data", str(cache)]) == 0
    (pieces,) = cache.glob(".decoded/*/pieces.npy")
    content = pieces.read_bytes()
    for damage in (lambda: pieces.write_bytes(content[:200].ljust(len(content), b"\0")),
                   pieces.unlink):  # fmt: skip
        damage()
        capsys.readouterr()
        assert main(["translate", str(trained), "one", "--data", str(cache)]) == 2
        assert re.search(r"text-\w+ is damaged .*\n  remove that folder", capsys.readouterr().err)


def test_another_vocabulary_is_one_clear_error(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy(trained, tmp_path)
    state = torch.load(trained / "checkpoint.pt", weights_only=True)
    state["model"]["vocabulary"] += 1
    torch.save(state, tmp_path / "checkpoint.pt")
    assert main(["translate", str(tmp_path), "one", "--data", str(trained)]) == 2
    assert "not those that the checkpoint was trained with" in capsys.readouterr().err


def test_a_language_model_writes_the_requested_number_of_words(
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
        (["--words", "0"], "--words must be from 1 to 1,000,000, got 0"),
        (["--words", "1" + "0" * 30], "--words must be from 1 to 1,000,000, got 1000"),
        (["--temperature", "-1"], "--temperature must be 0, or 0.01 to 100, got -1.0"),
        (["--temperature", "nan"], "--temperature must be 0, or 0.01 to 100, got nan"),
        (["--temperature", "1e-310"], "--temperature must be 0, or 0.01 to 100"),
        (["--seed", str(2**80)], "--seed must be at least 0 and below 2**63"),
    ],
)
def test_impossible_requests_are_refused(
    language_model: Path, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", str(language_model), *flags]) == 2
    assert message in capsys.readouterr().err


def test_a_checkpoint_of_another_kind_is_refused(
    trained: Path, language_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", str(trained), "--data", str(trained)]) == 2
    assert "not a checkpoint of a language model" in capsys.readouterr().err
    assert main(["translate", str(language_model), "one"]) == 2
    assert "not a checkpoint of a model that translates" in capsys.readouterr().err
