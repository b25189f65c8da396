"""Decoded arrays: made once, shared, complete or absent, and made again when the source changes."""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nos_repro.data.decoded import decoded, decoded_files, source_key
from nos_repro.errors import DataError

ARRAYS = {"images": torch.arange(3000, dtype=torch.uint8), "labels": torch.arange(7)}


def never() -> dict[str, Tensor]:
    raise AssertionError("decoded twice")


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Makes the kernel refuse larger files, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_arrays_are_decoded_once_and_come_back_equal(tmp_path: Path) -> None:
    decoded(tmp_path, "set", lambda: ARRAYS)
    again = decoded(tmp_path, "set", never)
    assert again.keys() == ARRAYS.keys()
    assert all(torch.equal(again[name], ARRAYS[name]) for name in ARRAYS)
    assert [path.name for path in (tmp_path / ".decoded").iterdir()] == ["set"]


def test_writing_into_a_map_changes_no_other_map(tmp_path: Path) -> None:
    decoded(tmp_path, "set", lambda: ARRAYS)["images"].zero_()
    assert torch.equal(decoded(tmp_path, "set", never)["images"], ARRAYS["images"])


def test_the_second_to_decode_uses_the_first_one_s_result(tmp_path: Path) -> None:
    def overtaken() -> dict[str, Tensor]:
        decoded(tmp_path, "set", lambda: ARRAYS)
        return {"images": torch.zeros(1)}

    assert torch.equal(decoded(tmp_path, "set", overtaken)["images"], ARRAYS["images"])
    assert [path.name for path in (tmp_path / ".decoded").iterdir()] == ["set"]


def test_two_processes_at_once_leave_one_whole_folder(tmp_path: Path) -> None:
    program = (
        "import sys, torch; from pathlib import Path; from nos_repro.data.decoded import decoded\n"
        "for i in range(50):\n"
        "    got = decoded(Path(sys.argv[1]), f'set{i}', lambda: {'x': torch.arange(9000)})\n"
        "    assert torch.equal(got['x'], torch.arange(9000))\n"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], cwd=os.getcwd())
        for _ in range(2)
    ]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    assert len(list((tmp_path / ".decoded").iterdir())) == 50


def test_a_read_only_data_folder_is_decoded_into_the_users_cache(
    tmp_path: Path, own_cache: Path
) -> None:
    (tmp_path / ".decoded").write_text("a file here refuses the folder, even to root")
    decoded(tmp_path, "set", lambda: ARRAYS)
    assert (own_cache / "decoded" / "set" / "images.npy").is_file()
    decoded(tmp_path, "set", never)


def test_a_full_disk_is_one_error_and_leaves_nothing(tmp_path: Path, own_cache: Path) -> None:
    with largest_file(1000), pytest.raises(DataError, match=r"no place for the .* GB"):
        decoded(tmp_path, "set", lambda: ARRAYS)
    assert list((tmp_path / ".decoded").iterdir()) == []
    assert list((own_cache / "decoded").iterdir()) == []


def test_a_damaged_array_is_named(tmp_path: Path) -> None:
    decoded(tmp_path, "set", lambda: ARRAYS)
    os.truncate(tmp_path / ".decoded" / "set" / "images.npy", 1000)
    with pytest.raises(DataError, match=r"set is damaged .*\n  remove that folder"):
        decoded(tmp_path, "set", never)


def test_a_missing_array_is_named(tmp_path: Path) -> None:
    decoded(tmp_path, "set", lambda: ARRAYS)
    (tmp_path / ".decoded" / "set" / "labels.npy").unlink()
    with pytest.raises(DataError, match=r"set is damaged \(labels\.npy is missing\)\n  remove"):
        decoded(tmp_path, "set", never)["labels"]


def test_files_that_change_while_they_are_decoded_are_not_kept(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")

    def decode() -> dict[str, Tensor]:
        (tmp_path / "a").write_text("22")
        return ARRAYS

    with pytest.raises(DataError, match="changed while they were read"):
        decoded_files(tmp_path, "set", tmp_path, ["a"], decode)
    assert not (tmp_path / ".decoded").exists()
    decoded_files(tmp_path, "set", tmp_path, ["a"], lambda: ARRAYS)


def test_the_key_follows_names_sizes_and_times(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text("1")
    keys = [source_key(tmp_path, ["a", "b"]), source_key(tmp_path, ["a"])]
    (tmp_path / "a").write_text("22")
    keys.append(source_key(tmp_path, ["a", "b"]))
    os.utime(tmp_path / "b", ns=(1, 1))
    keys.append(source_key(tmp_path, ["a", "b"]))
    assert len(set(keys)) == 4
    assert source_key(tmp_path, ["a", "b"]) == keys[-1]
