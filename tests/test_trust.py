"""A data file is read, never run: only what the user himself names is imported.

A checkpoint, or a results folder, may come from anybody, and importing a module runs it.
"""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from nos_repro.cli import main
from nos_repro.errors import ConfigError
from nos_repro.registry import names_in
from nos_repro.tasks import TASKS
from tests.report.searches import Folder

# fmt: off
NAMES = {
    "a task":           ("stranger", {}),
    "a task's class":   ("stranger.MyTask", {}),
    "a corpus":         ("ptb_lstm", {"data": "stranger"}),
    "an image set":     ("wide_resnet", {"data": "stranger"}),
    "a parallel text":  ("gnmt", {"data": "stranger", "width": 8}),
}
# fmt: on


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package in the working folder; the file is there once any of it has run."""
    trace = tmp_path / "it ran"
    package = tmp_path / "strange"
    package.mkdir()
    (package / "__init__.py").write_text(f"open({str(trace)!r}, 'w').close()\n")
    (package / "stranger.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "strange", raising=False)
    monkeypatch.delitem(sys.modules, "strange.stranger", raising=False)
    return trace


def checkpoint(folder: Path, task: str, settings: dict[str, Any]) -> Path:
    folder.mkdir()
    text = json.dumps({"task": task, "task_settings": settings})
    (folder / "settings.json").write_text(text.replace("stranger", "strange.stranger"))
    return folder


@pytest.fixture
def sound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any checkpoint's weights are read: what is tried is what comes after."""
    monkeypatch.setattr(
        "nos_repro.experiments.trained.read_state", lambda path, holds: {"model": {}}
    )
    monkeypatch.setattr("torch.nn.Module.load_state_dict", lambda self, weights: None)


@pytest.mark.usefixtures("sound")
@pytest.mark.parametrize("verb", ["translate", "generate"])
@pytest.mark.parametrize("kind", NAMES)
def test_a_checkpoint_that_names_a_module_does_not_run_it(
    kind: str, verb: str, stranger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = checkpoint(tmp_path / "trial", *NAMES[kind])
    assert main([verb, str(folder), "one"]) == 2
    said = capsys.readouterr().err
    assert "'strange.stranger" in said
    assert "--trust" in said
    assert str(folder / "settings.json") in said
    assert not stranger.exists()
    assert main([verb, str(folder), "one", "--trust"]) == 2  # it has no task, as is found out then
    assert "--trust" not in capsys.readouterr().err
    assert stranger.exists()


@pytest.mark.parametrize("words", [["report", "search"], ["status", "search"], ["claims"]])
def test_a_search_of_others_that_names_a_module_does_not_run_it(
    words: list[str], stranger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    path = Folder(results).path / "settings.json"
    settings = json.loads(path.read_text())
    settings["child"]["task"]["name"] = "strange.stranger"
    path.write_text(json.dumps(settings))
    scale = ["--scale", "smoke"]
    main([*words, *scale, "--results", str(results)])
    printed = capsys.readouterr()
    assert "strange.stranger" in printed.out + printed.err
    assert "--trust" in printed.out + printed.err
    assert not stranger.exists()
    main([*words, *scale, "--results", str(results), "--trust"])
    assert stranger.exists()


def test_what_the_users_own_file_names_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its records and checkpoints name it too."""
    monkeypatch.syspath_prepend(Path(__file__).parent / "example_package")
    with names_in(tmp_path, trust=False), pytest.raises(ConfigError, match="--trust"):
        TASKS.find("my_package.line")
    own = TASKS.find("my_package.line")
    with names_in(tmp_path, trust=False):
        assert TASKS.find("my_package.line") is own
