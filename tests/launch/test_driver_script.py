"""The scripts that run a driver as a job: told that their time is over, they are queued again, but
not for ever. SLURM's commands and Python are stand-ins here; `test_slurm` runs the real ones."""

import os
import signal
import subprocess

import pytest

from tests.conftest import ROOT

STAND_INS = {
    "python": "#!/bin/sh\ntrap 'exit 130' TERM\necho started\nwhile :; do sleep 0.05; done\n",
    "squeue": "#!/bin/sh\necho RUNNING\n",
    "scontrol": "#!/bin/sh\necho queued again\nkill -KILL $PPID\n",
    "sleep": "#!/bin/sh\nexec /bin/sleep 0.05\n",
}


@pytest.fixture
def told(tmp_path):
    """Runs a script until its program has started, tells it that its time is over, and returns what
    it printed."""
    for name, text in STAND_INS.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)

    def run(script, restarts, results, save=False):
        environment = {
            **os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
            "SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": str(restarts),
        }  # fmt: skip
        process = subprocess.Popen(
            ["bash", str(ROOT / "slurm" / script), "x.yaml", "--results", str(results)],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        first = process.stdout.readline()
        if save:
            results.mkdir()
            (results / "checkpoint.pt").touch()
        process.send_signal(signal.SIGUSR2)
        return first + process.communicate(timeout=60)[0]

    return run


@pytest.mark.parametrize("script", ["table.sh", "search.sh"])
def test_attempts_in_which_nothing_is_saved_come_to_an_end(script, told, tmp_path):
    results = tmp_path / "results"
    assert "queued again\n" in told(script, 0, results)
    said = told(script, 2, results)
    assert "nothing new was saved in this attempt, number 3" in said
    assert "queued again\n" not in said
    assert "queued again\n" in told(script, 9, results, save=True)
