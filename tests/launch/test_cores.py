"""The cores that a process may use, as its control groups and its affinity say."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nos_repro.data import cores
from nos_repro.data.cores import available_cores, core_numbers, cores_per_gpu
from nos_repro.launch.local import core_shares
from nos_repro.tasks.nasnet_data import decoders

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux has control groups")


@pytest.fixture
def sixty_four(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)


def control_groups(
    folder: Path, monkeypatch: pytest.MonkeyPatch, where: str, files: dict[str, str]
) -> None:
    """What the kernel would show: /proc/self/cgroup, and files below /sys/fs/cgroup."""
    (folder / "proc").write_text(where + "\n")
    for name, text in files.items():
        (folder / "sys" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "sys" / name).write_text(text + "\n")
    monkeypatch.setattr(cores, "PROC", folder / "proc")
    monkeypatch.setattr(cores, "CGROUPS", folder / "sys")


def version_1(folder: str, quota: int, period: int = 100_000) -> dict[str, str]:
    return {f"{folder}/cpu.cfs_quota_us": str(quota), f"{folder}/cpu.cfs_period_us": str(period)}


# fmt: off
QUOTAS = [
    ("0::/",             {"cpu.max": "100000 100000"},                               1),
    ("0::/",             {"cpu.max": "max 100000"},                                 64),
    ("0::/",             {"cpu.max": "250000 100000"},                               3),
    ("0::/",             {"cpu.max": "5000 100000"},                                 1),
    ("0::/",             {"cpu.max": "9900000 100000"},                             64),
    ("0::/a/b",          {"a/cpu.max": "200000 100000", "a/b/cpu.max": "max 100000"}, 2),
    ("0::/seen/outside", {"cpu.max": "200000 50000"},                                4),
    ("0::/",             {"cpu.max": "nonsense"},                                   64),
    ("0::/",             {"cpu.max": "100000 0"},                                   64),
    ("nonsense",         {"cpu.max": "100000 100000"},                              64),
    ("5:cpu,cpuacct:/",  version_1("cpu,cpuacct", 150_000),                          2),
    ("5:cpu:/docker/x",  version_1("cpu", 300_000),                                  3),
    ("5:cpu:/a",         version_1("cpu", -1) | version_1("cpu/a", 800_000, 200_000), 4),
    ("5:cpuset:/",       version_1("cpuset", 100_000),                              64),
]
# fmt: on


@pytest.mark.parametrize(("where", "files", "expected"), QUOTAS)
def test_a_quota_counts_in_either_version_and_from_the_groups_around(
    where: str, files: dict[str, str], expected: int, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, sixty_four: None,
) -> None:  # fmt: skip
    control_groups(tmp_path, monkeypatch, where, files)
    assert available_cores() == expected


@pytest.fixture
def half_a_core() -> Iterator[Path]:
    """A real control group, if this user may make one."""
    group = Path("/sys/fs/cgroup/cpu/nos_repro_test")
    try:
        group.mkdir()
        (group / "cpu.cfs_quota_us").write_text("50000")
    except OSError:
        pytest.skip("this user may not make a control group (version 1) here")
    yield group
    group.rmdir()


def test_a_process_in_a_real_control_group_sees_its_quota(half_a_core: Path) -> None:
    code = (
        "import os, sys, pathlib;"
        "pathlib.Path(sys.argv[1], 'cgroup.procs').write_text(str(os.getpid()));"
        "from nos_repro.data.cores import available_cores; print(available_cores())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(half_a_core)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "1\n"


def test_a_variable_of_thousands_of_digits_is_only_a_large_number(sixty_four: None) -> None:
    for name in ("LOCAL_WORLD_SIZE", "SLURM_CPUS_PER_TASK"):
        assert 1 <= cores_per_gpu(1, {name: "9" * 5000}) <= 64


def test_without_quotas_it_is_the_affinity() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert available_cores() == 1
        assert core_numbers() == [min(before)]
    finally:
        os.sched_setaffinity(0, before)


def test_workers_on_a_cpu_have_a_core_for_each_thread(sixty_four: None) -> None:
    assert core_shares(3, 2) == [[0, 1], [2, 3], [4, 5]]
    assert core_shares(2, 40) == [list(range(40)), []]


def test_workers_beside_gpus_share_all_cores_since_their_images_are_decoded_there(
    sixty_four: None, gpu: None
) -> None:
    first, second = core_shares(2, 1)
    assert first + second == list(range(64))
    assert len(first) == 32
    assert core_shares(4, 20) == [list(range(n, n + 20)) for n in (0, 20, 40)] + [[]]


def test_under_a_quota_workers_are_pinned_to_as_many_cores_wherever_they_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sixty_four: None
) -> None:
    control_groups(tmp_path, monkeypatch, "0::/", {"cpu.max": "400000 100000"})
    starts = set()
    for _ in range(20):
        shares = core_shares(5, 1)
        assert shares[4] == []
        chosen = [core for share in shares for core in share]
        assert chosen == [(chosen[0] + n) % 64 for n in range(4)]
        starts.add(chosen[0])
    assert len(starts) > 1


@pytest.mark.parametrize(("quota", "processes", "expected"), [
    ("max", "1", 63), ("max", "8", 7), ("1600000", "4", 3), ("100000", "1", 1), ("max", "64", 1),
])  # fmt: skip
def test_photographs_for_a_gpu_are_decoded_beside_its_process_and_never_in_it(
    quota: str, processes: str, expected: int, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, sixty_four: None, gpu: None,
) -> None:  # fmt: skip
    control_groups(tmp_path, monkeypatch, "0::/", {"cpu.max": f"{quota} 100000"})
    monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    assert decoders() == expected


# fmt: off
SHARES = [
    # GPUs seen, cores of this process and of its parent, quota, variables           cores
    (1, 64, 64, "max",     {},                                                          64),
    (8, 64, 64, "max",     {},                                                           8),
    (8,  8, 64, "max",     {},                                                           8),
    (8,  1, 64, "max",     {},                                                           1),
    (8, 64, 64, "1600000", {},                                                           2),
    (4, 16, 16, "max",     {"LOCAL_WORLD_SIZE": "4"},                                    4),
    (1, 64, 64, "max",     {"SLURM_NTASKS_PER_NODE": "8"},                               8),
    (1, 64, 64, "max",     {"SLURM_STEP_TASKS_PER_NODE": "8(x2)"},                       8),
    (1, 64, 64, "max",     {"SLURM_CPUS_PER_TASK": "6", "SLURM_NTASKS_PER_NODE": "8"},   6),
    (8, 64, 64, "max",     {"SLURM_CPUS_PER_TASK": "6", "SLURM_NTASKS_PER_NODE": "8"},   6),
    (8, 64, 64, "max",     {"SLURM_CPUS_PER_TASK": "48"},                                6),
    (8,  4, 64, "max",     {"SLURM_CPUS_PER_TASK": "6", "SLURM_NTASKS_PER_NODE": "8"},   4),
    (0, 64, 64, "max",     {},                                                          64),
    (9,  4,  4, "max",     {"LOCAL_WORLD_SIZE": "", "SLURM_CPUS_PER_TASK": "many"},      1),
]
# fmt: on


@pytest.mark.parametrize(("gpus", "own", "parents", "quota", "variables", "expected"), SHARES)
def test_a_gpu_has_its_part_of_the_cores(
    gpus: int, own: int, parents: int, quota: str, variables: dict[str, str], expected: int,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    affinity = {0: own, os.getppid(): parents}
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(affinity[process])))
    control_groups(tmp_path, monkeypatch, "0::/", {"cpu.max": f"{quota} 100000"})
    assert cores_per_gpu(gpus, variables) == expected


def test_eight_unbound_tasks_of_a_node_start_56_decoders_and_not_504(
    sixty_four: None, gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "8")
    assert 8 * decoders() == 56
