"""Results of other processes arrive, whatever a container lacks for sharing them in memory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nos_repro.data.imagenet import PIECE, pieces_ahead
from tests.conftest import ROOT

SCRIPT = """
import torch
from nos_repro.data.workers import in_order

def work(job):
    return torch.full((4, 2**18), job, dtype=torch.uint8).t(), job

for job, (tensor, again) in enumerate(in_order(work, range(12), 2)):
    assert (tensor == job).all() and job == again
    assert tensor.shape == (2**18, 4) and tensor.stride() == (1, 2**18)
print("all there")
"""
SMALL = "mount -t tmpfs -o size=2500k tmpfs /dev/shm"


def run(*before: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.run(
        [*before, sys.executable, "-c", SCRIPT],
        capture_output=True, text=True, timeout=60, env=environment,
    )  # fmt: skip


def may_mount() -> bool:
    try:
        return subprocess.run(["unshare", "-m", "sh", "-c", SMALL], check=False).returncode == 0
    except OSError:
        return False


def test_a_result_for_which_shared_memory_has_no_room_comes_through_the_pipe() -> None:
    """As in a container whose /dev/shm is small: two workers with two tensors of a megabyte each
    have 2.5 MB between them."""
    if not may_mount():
        pytest.skip("a small /dev/shm needs a mount namespace")
    done = run("unshare", "-m", "sh", "-c", f'{SMALL}; exec "$0" "$@"')
    assert done.stdout == "all there\n", done.stderr
    assert done.stderr.count("through pipes") == 1
    assert "No space left on device" in done.stderr


def test_a_temporary_folder_whose_path_is_too_long_for_a_socket_loses_no_result(
    tmp_path: Path,
) -> None:
    folder = tmp_path / ("long" * 25)
    folder.mkdir()
    done = run(TMPDIR=str(folder))
    assert done.stdout == "all there\n", done.stderr
    assert "AF_UNIX path too long" in done.stderr


AHEAD = """
from nos_repro.data.workers import in_order

handed_out = []

def jobs():
    for job in range(100):
        handed_out.append(job)
        yield job

next(in_order(abs, jobs(), 2, ahead=7))
print(len(handed_out))
"""


def test_as_many_jobs_as_asked_for_are_handed_out_in_advance() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", AHEAD], capture_output=True, text=True, timeout=60, env=environment
    )
    assert int(done.stdout) == 2 * 7 + 1, done.stderr  # and one for the result that was taken


@pytest.mark.parametrize(("batch", "workers", "expected"), [
    (1600, 7, 9), (1600, 63, 2), (32, 1, 2), (100, 3, 3), (1, 8, 2), (64, 0, 3),
])  # fmt: skip
def test_decoders_have_a_batch_of_photographs_and_more_in_advance(
    batch: int, workers: int, expected: int
) -> None:
    assert pieces_ahead(batch, workers) == expected
    assert PIECE * expected * max(workers, 1) >= batch + PIECE * max(workers, 1)


def test_where_memory_can_be_shared_nothing_is_said() -> None:
    done = run()
    assert done.stdout == "all there\n"
    assert "through pipes" not in done.stderr
