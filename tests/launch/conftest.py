"""For the tests of launchers."""

import os
from pathlib import Path

import pytest


@pytest.fixture
def slurm_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`sbatch` and `srun` exist, so that a script can be shown; neither can be run."""
    for name in ("sbatch", "srun"):
        command = tmp_path / "commands" / name
        command.parent.mkdir(exist_ok=True)
        command.write_text("#!/bin/sh\nexit 1\n")
        command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "commands"), prepend=os.pathsep)
