"""No test sees what runs left in `results/`, the user's environment, or the working folder."""

import os
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest

from nos_repro.cli import main
from nos_repro.data.paths import data_folder, user_cache
from tests.committed import committed_files, export_committed, why_none
from tests.conftest import ROOT, settle

# fmt: off
DIRTY = {
    "NOS_REPRO_DATA": "/nowhere", "XDG_CACHE_HOME": "/nowhere", "XDG_CONFIG_HOME": "/nowhere",
    "WANDB_MODE": "online", "WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9",
    "SLURM_JOB_ID": "7", "SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SBATCH_PARTITION": "nowhere",
    "RANK": "3", "WORLD_SIZE": "4", "MASTER_ADDR": "nowhere", "http_proxy": "http://127.0.0.1:9",
    "LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "TZ": "Asia/Kolkata", "COLUMNS": "20",
    "NO_COLOR": "1", "PYTHONWARNINGS": "error", "GIT_DIR": "/nowhere", "MPLBACKEND": "nothing",
}
"""What a shell, a login, a batch job or a git hook may leave."""
# fmt: on


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with one result that was staged and then changed, and one that is untracked."""
    results = tmp_path / "checkout" / "results"
    (results / "table2" / "small").mkdir(parents=True)
    (results / "table2" / "small" / "records.jsonl").write_text("staged")
    subprocess.run(["git", "init", "--quiet", results.parent], check=True)
    subprocess.run(["git", "-C", results.parent, "add", "."], check=True)
    (results / "table2" / "small" / "records.jsonl").write_text("of a run since")
    (results / "table2" / "smoke").mkdir()
    (results / "table2" / "smoke" / "records.jsonl").write_text("left by the demo")
    return results.parent


def test_only_what_git_tracks_counts_as_committed(checkout: Path, tmp_path: Path) -> None:
    tracked = PurePosixPath("table2/small/records.jsonl")
    assert why_none(checkout) == ""
    assert committed_files("*/*/records.jsonl", checkout) == [tracked]
    exported = export_committed(tmp_path / "export", checkout)
    assert [path for path in exported.rglob("*") if path.is_file()] == [exported / tracked]
    assert (exported / tracked).read_text() == "staged"


def test_a_checkout_within_another_is_read_too(checkout: Path, tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    (outer / "vendored").mkdir(parents=True)
    (checkout / "results").rename(outer / "vendored" / "results")
    subprocess.run(["git", "init", "--quiet", outer], check=True)
    subprocess.run(["git", "-C", outer, "add", "."], check=True)
    exported = export_committed(tmp_path / "export", outer / "vendored")
    assert (exported / "table2/smoke/records.jsonl").read_text() == "left by the demo"


def test_an_unpacked_archive_says_why_nothing_counts_as_committed(tmp_path: Path) -> None:
    assert "not a git repository" in why_none(tmp_path)
    assert committed_files("*/*/records.jsonl", tmp_path) == []


def test_nothing_of_the_users_environment_is_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "environ", {**DIRTY, "PATH": "/bin", "SLURM_CONF": "the cluster's"})
    settle(tmp_path)
    assert not set(DIRTY.items()) & set(os.environ.items())
    assert os.environ["PATH"] == "/bin"
    assert os.environ["SLURM_CONF"] == "the cluster's"
    assert tmp_path in data_folder().parents
    assert tmp_path in user_cache().parents


def test_a_test_runs_in_its_own_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert Path.cwd() == tmp_path
    assert main(["report", "table2", "--scale", "small"]) == 0  # there are records in the checkout
    assert "not run yet" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.drill
def test_the_suite_passes_next_to_a_users_runs_in_a_users_environment_from_anywhere(
    committed: Path, tmp_path: Path
) -> None:
    """Runs the test files that read `results/`, in a clone of HEAD."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    records = (committed / "table2/small/records.jsonl").read_bytes()
    for left in ("table2/smoke", "table2/small", "mine/paper"):
        (clone / "results" / left).mkdir(parents=True, exist_ok=True)
        (clone / "results" / left / "records.jsonl").write_bytes(records[: len(records) // 2])
    files = ("report/test_committed_results.py", "report/test_collection.py", "test_cli.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", *(clone / "tests" / file for file in files)],
        cwd="/", env={**os.environ, **DIRTY}, capture_output=True, encoding="utf-8",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
