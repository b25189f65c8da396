"""No input makes a traceback: 300 bad ones over all verbs, always the same.

Others are tried with `BAD_INPUTS_SEED=7 BAD_INPUTS=3000 pytest tests/cli/test_bad_inputs.py`.
"""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nos_repro.cli import main
from tests.cli.bad_inputs import case_of, copy, make_world

SEED = os.environ.get("BAD_INPUTS_SEED", "0")
COUNT = int(os.environ.get("BAD_INPUTS", "300"))
WRITING = ("run", "verify", "recheck", "search")
"""Verbs that may change what is in the results; the others only read it."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    make_world(folder)
    return folder


def contents(folder: Path) -> dict[Path, bytes]:
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def lost(
    words: list[str], sound: dict[Path, bytes], before: dict[Path, bytes], after: dict[Path, bytes]
) -> list[Path]:
    """The files that lost something sound, or that a reading verb changed."""
    writes = bool(words) and words[0] in WRITING
    found = []
    for path, data in before.items():
        if str(path) in words:
            continue  # to be written, as asked
        if not writes or path.parts[0] != "results":
            gone = after.get(path) != data
        elif path.name == "records.jsonl":
            lines = set(data.splitlines()) & set(sound[path].splitlines())
            gone = not lines <= set(after.get(path, b"").splitlines())
        else:
            gone = path.name == "record.json" and sound[path] == data != after.get(path)
        found += [path] * gone
    return found


@pytest.mark.parametrize("number", range(COUNT))
def test_a_bad_input_is_one_error(
    number: int, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy(world, tmp_path)
    case = case_of(f"{SEED}-{number}", tmp_path)
    what = f"{case.words} {case.environment} {case.damage(tmp_path)}"
    for name, value in case.environment.items():
        monkeypatch.setenv(name, value)
    before = contents(tmp_path)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(case.words)
        except SystemExit as ended:
            status = int(ended.code or 0)
        except BaseException as error:
            raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
    check(what, status, case.status, out.getvalue(), err.getvalue())
    assert lost(case.words, contents(world), before, contents(tmp_path)) == [], what


def check(what: str, status: int, expected: int | None, out: str, err: str) -> None:
    assert status in (0, 1, 2), (what, err)
    assert expected in (None, status), (what, out[-300:], err)
    assert "Traceback" not in err, (what, err)
    lines = err.splitlines()
    errors = [place for place, line in enumerate(lines) if line.startswith("error:")]
    if status == 2 and not (errors == [] and "usage: nos-repro" in out):
        assert len(errors) == 1, (what, err)
        assert 1 <= len(lines) - errors[0] <= 4, (what, err)
        assert len(err) < 4000, (what, err)
    elif status == 1:
        assert errors or "warning:" in err or out, (what, err)
    else:
        assert errors == [], (what, err)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(12))
def test_a_process_of_its_own_says_the_same(number: int, world: Path, tmp_path: Path) -> None:
    copy(world, tmp_path)
    case = case_of(f"{SEED}-process-{number}", tmp_path)
    what = f"{case.words} {case.environment} {case.damage(tmp_path)}"
    words = [word.encode(errors="surrogateescape") for word in case.words]
    done = subprocess.run(
        [sys.executable, "-m", "nos_repro", *words], cwd=tmp_path,
        env={**os.environ, **case.environment}, capture_output=True, encoding="utf-8",
        errors="replace", stdin=subprocess.DEVNULL,
    )  # fmt: skip
    check(what, done.returncode, case.status, done.stdout, done.stderr)
