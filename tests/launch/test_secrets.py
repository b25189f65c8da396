"""Secrets in the environment stay there: no record, page, log or script holds one."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from nos_repro.launch.settings import LauncherSettings
from nos_repro.launch.slurm.submission import script
from tests.conftest import ROOT

# No real keys: letters that occur nowhere else.
SECRETS = {
    "WANDB_API_KEY": "0badc0ffee" * 4,
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMIxNOREALKEYxbPxRfiCY",
    "MY_MADE_UP_TOKEN": "hunter2-hunter2-hunter2",
}
STUDY = {
    "study": "secret",
    "source": "002 Figure 0",
    "claim": "none",
    "training": {"epochs": 2},
    "sweep": {"lr": [0.0001, 0.0002]},
    "columns": {"final_test": "Final"},
    "figure": {"kind": "curves", "metric": "test_loss"},
    "rows": {"SGD": {"optimizer": "sgd"}},
    "scales": {"smoke": {}},
}
STATUS = Path("status.printed")


@pytest.fixture(scope="module", params=["rosenbrock", "tests.launch.breaking"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that was run, reported and inspected, with what was printed."""
    folder = tmp_path_factory.mktemp("secrets")
    config = folder / "secret.yaml"
    config.write_text(yaml.safe_dump({**STUDY, "task": {"name": request.param}}))
    own = {f"WANDB_{name}_DIR": str(folder / "wandb") for name in ("CACHE", "DATA", "CONFIG")}
    environment = {**os.environ, **own, **SECRETS, "PYTHONPATH": str(ROOT)}
    common = ["--scale", "smoke", "--results", str(folder / "results")]
    for verb, *words in (
        ["run", str(config), "--wandb", "offline", "--workers", "1"],
        ["report", str(config), "--write"],
        ["status", str(config)],
        ["verdicts", str(config)],
        ["why", f"{config}:SGD"],
    ):
        whole = [sys.executable, "-m", "nos_repro", verb, *words, *common]
        done = subprocess.run(whole, capture_output=True, env=environment, timeout=300)
        (folder / f"{verb}.printed").write_bytes(done.stdout + done.stderr)
        fails = verb == "run" and "breaking" in request.param
        assert done.returncode == (1 if fails else 0), done.stderr.decode()
    return folder


def files(folder: Path) -> Iterator[tuple[Path, bytes]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder), path.read_bytes()


@pytest.mark.slow
def test_no_secret_of_the_environment_is_written_or_printed(folder: Path) -> None:
    written = dict(files(folder))
    (status,) = {b"2 failed", b"2 finished"} & set(re.findall(rb"2 f\w+", written[STATUS]))
    records = [data for path, data in written.items() if path.name == "record.json"]
    assert [b"broke on purpose" in data for data in records] == [status == b"2 failed"] * 2
    assert any(path.name.endswith(".wandb") for path in written)
    for path, data in written.items():
        for name, secret in SECRETS.items():
            assert secret.encode() not in data, f"{path} holds {name}"


def test_a_script_for_slurm_holds_no_variable_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slurm_commands: None
) -> None:
    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret)
    text = script(tmp_path, "secret", 3, LauncherSettings(name="slurm"))
    assert "#SBATCH" in text
    for name, secret in SECRETS.items():
        assert secret not in text
        assert name not in text
