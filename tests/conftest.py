"""What every test shares: one thread a process, and no trace left in the user's cache."""

import os
import signal
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
os.environ.setdefault("MPLBACKEND", "agg")

# Properties are tried on the same examples every time, and leave no folder in the checkout.
os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = f"{tempfile.gettempdir()}/hypothesis-{os.getuid()}"
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")

# A shell's background job ignores SIGINT, and what it starts would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root, wherever pytest was started."""
    return ROOT


@pytest.fixture(autouse=True)
def no_user_data(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests see no data set of the user's and write none: each brings its own folder."""
    folder = tmp_path_factory.getbasetemp() / "data"
    monkeypatch.setenv("NOS_REPRO_DATA", str(folder))
