"""Streams, paths and folders that the command line meets in the wild."""

import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nos_repro.cli import main
from tests.conftest import ROOT

LEAST = """
study: mine
task: {name: rosenbrock}
sweep: {lr: [0.01]}
rows: {Adam: {optimizer: adam}}
"""


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", line.replace("nos-repro", f"{sys.executable} -P -m nos_repro")],
        env={**os.environ, **environment}, capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_terminal_without_our_signs_loses_only_these(encoding: str) -> None:
    done = shell("nos-repro why table5:Adam --scale small", PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Adam" in done.stdout


@pytest.mark.parametrize(
    ("redirected", "status", "problem"),
    [(">&-", 0, ""), ("2>&- >&-", 0, ""), ("<&- >&-", 0, ""),
     (">/dev/full", 1, "error: No space left on device\n")],
)  # fmt: skip
def test_closed_and_full_streams_end_quietly(redirected: str, status: int, problem: str) -> None:
    done = shell(f"nos-repro rule g {redirected}")
    assert (done.returncode, done.stdout, done.stderr) == (status, "", problem)


def test_an_error_that_cannot_be_said_is_in_the_status() -> None:
    assert shell("nos-repro report nowhere.yaml 2>/dev/full").returncode == 2


def test_a_notebook_s_backend_does_not_matter_to_figures(tmp_path: Path) -> None:
    """Jupyter hands its own to `!nos-repro report`, whose Python may be another one."""
    shutil.copytree(ROOT / "results/table5", tmp_path / "table5")
    words = f"report table5 --scale small --write --results {tmp_path}"
    done = shell(f"nos-repro {words}", MPLBACKEND="module://nowhere.backend_inline")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("what", ["a folder", "a pipe"])
def test_a_study_that_is_no_file_is_called_what_it_is(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a folder").mkdir()
    os.mkfifo("a pipe")
    assert main(["report", what]) == 2
    assert f"error: {what}: is {what}" in capsys.readouterr().err


def test_pages_are_written_of_and_into_a_folder_that_is_not_utf_8(tmp_path: Path) -> None:
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/r\xe9sultats")
    shutil.copytree(ROOT / "results/table5", Path(folder, "table5"))
    given = ["report", "table5", "--scale", "small", "--results", folder, "--html", folder]
    assert main(given) == 0
    page = Path(folder, "table5-small.html").read_text(encoding="utf-8")
    assert r"r\udce9sultats" in page


def test_the_command_finds_a_module_in_the_working_folder(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/lion.py").write_text("from torch.optim import Adam\nclass Lion(Adam): pass\n")
    (tmp_path / "mine.yaml").write_text(LEAST.replace("optimizer: adam", "optimizer: mine.lion"))
    done = shell("nos-repro status mine.yaml", PYTHONPATH=str(ROOT))  # -P: not by Python itself
    assert (done.returncode, done.stderr) == (0, "")


def test_a_user_without_a_home_gets_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unknown(number: int) -> Any:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    (tmp_path / "mine.yaml").write_text(LEAST)
    for name in ("HOME", "XDG_CACHE_HOME", "NOS_REPRO_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert main(["run", "mine.yaml", "--workers", "0"]) == 2
    assert "this user has no home folder: set HOME, or XDG_CACHE_HOME" in capsys.readouterr().err
    assert main(["status", "mine.yaml"]) == 0


# fmt: off
PLACES = {
    "x" * 256:        "File name too long",
    "mine.yaml/x":    "is a file, not a folder",
    "mine.yaml":      "is a file, not a folder",
    "dangling":       "is a link to missing/x, which is missing",
    "loop":           "Too many levels of symbolic links",
    "":               "name a file or folder, not nothing",
    "~nobody-here/x": "Could not determine home directory",
}
# fmt: on


@pytest.mark.parametrize("verb", ["run", "report", "status"])
@pytest.mark.parametrize("place", PLACES)
def test_a_folder_that_cannot_be_is_one_error(
    place: str, verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.yaml").write_text(LEAST)
    (tmp_path / "dangling").symlink_to("missing/x")
    (tmp_path / "loop").symlink_to("loop")
    try:
        status = main([verb, "mine.yaml", "--results", place])
    except SystemExit as ended:
        status = int(ended.code or 0)
    assert status == 2
    assert PLACES[place] in capsys.readouterr().err


def test_a_tilde_in_quotes_is_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "mine.yaml").write_text(LEAST)
    assert main(["run", "mine.yaml", "--workers", "0", "--results", "~/results"]) == 0
    assert (tmp_path / "home/results/mine/default/records.jsonl").exists()
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["search", "search", "--export-best", "1", "--confirm"], "not allowed with"),
        (["search", "search", "--confirm", "--dry-run"], "not allowed with"),
        (["search", "search", "--output", "x.yaml"], "--output is for --export-best"),
        (["run", "table2", "--dry-run", "--detach"], "not allowed with"),
        (["run", "table2", "--dry-run", "--threads", "1000000000"], "--threads must be from 1"),
        (["status", "table2", "--rows", "SGD", "Adam"], "each in quotes after a --rows of its own"),
        (["report", "--all", "/etc/passwd"], "not a study"),
        (["report", "x\0y"], "no such file"),
    ],
)
def test_flags_that_say_nothing_together_are_refused(
    words: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(words)
    except SystemExit as ended:
        status = int(ended.code or 0)
    assert status == 2
    said = capsys.readouterr().err
    assert problem in said
    assert said.startswith("error: ")
