"""Files: whole or absent, read or refused, and written where their names lead."""

from __future__ import annotations

import builtins
import errno
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from nos_repro.experiments import files
from nos_repro.experiments.files import (
    StoreError,
    file_names,
    read_file,
    remove_scratch,
    this_host,
    write_atomically,
)
from tests.conftest import ROOT

NO_PROCESS = 2**22 + 1


def failing(times: int, number: int) -> Any:
    """`open`, which the system refuses the first ``times``."""
    left = [number] * times

    def refused(*words: Any, **named: Any) -> Any:
        if left:
            raise OSError(left.pop(), "refused")
        return builtins.open(*words, **named)

    return refused


def test_a_full_disk_is_one_clear_error_and_leaves_no_partial_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "record.json"
    write_atomically(path, b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"record\.json: No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["record.json"]


def test_only_an_absent_file_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    assert read_file(path) is None
    path.write_bytes(b"what it holds")
    assert read_file(path) == b"what it holds"
    assert read_file(path / "below") is None
    for number in (errno.EIO, errno.EACCES, errno.ETIMEDOUT, errno.EMFILE):
        monkeypatch.setattr(files, "open", failing(1, number), raising=False)
        with pytest.raises(StoreError, match=r"cannot read .*/file: "):
            read_file(path)


def test_a_file_that_was_replaced_on_another_host_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"new")
    monkeypatch.setattr(files, "open", failing(2, errno.ESTALE), raising=False)
    assert read_file(path) == b"new"
    monkeypatch.setattr(files, "open", failing(9, errno.ESTALE), raising=False)
    with pytest.raises(StoreError, match="Stale file handle"):
        read_file(path)


def test_a_folder_that_cannot_be_listed_is_not_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: Path) -> list[str]:
        raise PermissionError(errno.EACCES, "refused")

    assert file_names(tmp_path / "none") == []
    monkeypatch.setattr(os, "listdir", refused)
    with pytest.raises(StoreError, match="Permission denied"):
        file_names(tmp_path)


@pytest.mark.parametrize("path", ["file/below", "folder", "n" * 300, "folder/" + "d/" * 3000])
def test_what_cannot_be_written_is_one_error(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match="cannot write"):
        write_atomically(tmp_path / path, b"new")
    assert [p.name for p in tmp_path.iterdir() if p.name.endswith(".tmp")] == []


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_file_that_the_kernel_does_not_make_is_one_error() -> None:
    with pytest.raises(StoreError, match="cannot write /proc/x/records"):
        write_atomically(Path("/proc/x/records"), b"")


def test_a_name_as_long_as_the_system_allows_is_written(tmp_path: Path) -> None:
    write_atomically(tmp_path / ("n" * 255), b"new")
    assert (tmp_path / ("n" * 255)).read_bytes() == b"new"


def test_a_link_is_written_through(tmp_path: Path) -> None:
    target, link = tmp_path / "far" / "target", tmp_path / "link"
    link.symlink_to(target)
    for content in (b"first", b"second"):  # to nothing, then to a file
        write_atomically(link, content)
        assert link.is_symlink()
        assert target.read_bytes() == content
    assert [path.name for path in target.parent.iterdir()] == ["target"]


def test_a_pipe_is_written_into(tmp_path: Path) -> None:
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    write_atomically(pipe, b"what was written")
    reader.join()
    assert got == [b"what was written"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_device_is_written_into() -> None:
    write_atomically(Path(os.devnull), b"what was written")
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)


PRINTS = """
from pathlib import Path
from nos_repro.experiments.files import write_atomically
print("before")
write_atomically(Path("/dev/stdout"), b"what was written\\n")
print("after")
"""


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="no such device here")
@pytest.mark.parametrize("into", ["a pipe", "a file"])
def test_what_is_printed_stays_in_order(tmp_path: Path, into: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (tmp_path / "out").open("wb") as file:
        done = subprocess.run(
            [sys.executable, "-c", PRINTS],
            stdout=file if into == "a file" else subprocess.PIPE, env=environment, check=True,
        )  # fmt: skip
    printed = done.stdout if into == "a pipe" else (tmp_path / "out").read_bytes()
    assert printed == b"before\nwhat was written\nafter\n"


def scratch(folder: Path, name: str, *, host: str | None = None, pid: int, old: bool) -> Path:
    path = folder / f".{name}.{host or this_host()}.{pid}.0123abcd.tmp"
    path.touch()
    if old:
        os.utime(path, (1e9, 1e9))
    return path


def test_scratch_goes_with_its_writer(tmp_path: Path) -> None:
    others = {"host": "elsewhere", "pid": 1}
    kept = [
        scratch(tmp_path, "record.json", pid=os.getppid(), old=True),
        scratch(tmp_path, "record.json", pid=os.getpid(), old=True),
        scratch(tmp_path, "record.json", **others, old=False),
    ]
    scratch(tmp_path, "record.json", pid=NO_PROCESS, old=False)
    scratch(tmp_path, "settings.json", **others, old=True)
    (tmp_path / ".record.json.0123.tmp").touch()  # as older versions named it
    os.utime(tmp_path / ".record.json.0123.tmp", (1e9, 1e9))
    (tmp_path / "record.json").touch()
    remove_scratch(tmp_path)
    assert set(tmp_path.iterdir()) == {*kept, tmp_path / "record.json"}


def test_who_alone_writes_a_file_removes_all_scratch_of_it(tmp_path: Path) -> None:
    scratch(tmp_path, "checkpoint.pt", host="elsewhere", pid=1, old=False)
    kept = scratch(tmp_path, "settings.json", host="elsewhere", pid=1, old=False)
    remove_scratch(tmp_path, held="checkpoint.pt")
    assert list(tmp_path.iterdir()) == [kept]


def test_a_killed_writer_is_known_by_its_scratch(tmp_path: Path) -> None:
    """The name that `write_atomically` gives is the one that `remove_scratch` reads."""
    dies = (
        "import os, sys; from pathlib import Path; from nos_repro.experiments import files\n"
        "os.fsync = lambda _: os.kill(os.getpid(), 9)\n"
        "files.write_atomically(Path(sys.argv[1]), b'half')"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", dies, str(tmp_path / "file")], env=environment)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".file.")
    remove_scratch(tmp_path)
    assert list(tmp_path.iterdir()) == []
