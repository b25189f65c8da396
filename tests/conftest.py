"""Shared by all tests: each runs in its own folder and sees nothing of the user's.

The environment is set when this file is imported, before a library or a test module reads it. No
test sees the user's data, caches, logins or locale, the variables of a batch job, or the folder in
which pytest was started.
"""

import atexit
import contextlib
import locale
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.committed import export_committed, why_none

ROOT = Path(__file__).resolve().parent.parent

# fmt: off
FOREIGN = re.compile(
    r"NOS_REPRO_(?!BROWSER|SCREENSHOTS)|WANDB_|XDG_|SBATCH_|SUBMITIT_|SLURM_(?!CONF|LAB_)"  # ours
    r"|(RANK|LOCAL_RANK|GROUP_RANK|NODE_RANK|WORLD_SIZE|LOCAL_WORLD_SIZE)$|MASTER_|TORCHELASTIC_"
    r"|(COLUMNS|LINES|TERM|NO_COLOR|FORCE_COLOR|TTY_\w+|PYTHON_COLORS)$"          # the terminal
    r"|(LANG|LANGUAGE|TZ)$|LC_|PYTHON(UTF8|COERCECLOCALE|IOENCODING|WARNINGS)$"   # the locale
    r"|PYTHONDONTWRITEBYTECODE$"          # each process would compile all modules again
    r"|GIT_(DIR|WORK_TREE|INDEX_FILE)$"                                           # a git hook
    r"|(ALL|HTTPS?|NO)_PROXY$|(MKL|OPENBLAS)_NUM_THREADS$|MPLCONFIGDIR$",
    re.IGNORECASE,
)
"""Names of variables that change what some test sees."""
# fmt: on


def settle(scratch: Path) -> None:
    """Gives this process and all its children one environment, whatever the user's is."""
    for name in list(os.environ):
        if FOREIGN.match(name):
            del os.environ[name]
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    folders = {f"WANDB_{name}_DIR": "wandb" for name in ("CACHE", "DATA", "CONFIG", "ARTIFACT")}
    folders |= {"XDG_CACHE_HOME": "cache", "NOS_REPRO_DATA": "data", "NETRC": "netrc"}
    folders |= {"HYPOTHESIS_STORAGE_DIRECTORY": "hypothesis"}
    os.environ |= {name: str(scratch / folder) for name, folder in folders.items()}
    os.environ |= {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"}
    os.environ |= {"MPLBACKEND": "agg", "MATPLOTLIBRC": os.devnull, "OMP_NUM_THREADS": "1"}
    os.environ |= {"LC_ALL": "C.UTF-8", "COLUMNS": "80", "PYTHONPATH": os.pathsep.join(path)}


SCRATCH = Path(tempfile.mkdtemp(prefix="nos-repro-tests-"))
atexit.register(shutil.rmtree, SCRATCH, ignore_errors=True)
settle(SCRATCH)
with contextlib.suppress(locale.Error):  # a Mac has no such locale, and is UTF-8 without
    locale.setlocale(locale.LC_CTYPE, "C.UTF-8")  # what `open` takes its encoding from

# Properties are tried on the same examples every time.
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")

# A shell's background job ignores SIGINT, and what it starts would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `gpu` are skipped where there is no CUDA; elsewhere torch is not imported."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked and (reason := why_no_cuda()):
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=reason))


def why_no_cuda() -> str:
    """Why no test can run on CUDA; "" if it can."""
    import torch

    if torch.cuda.is_available():
        return ""
    built = "sees no GPU" if torch.version.cuda else "is built without CUDA"
    return f"needs CUDA: torch {torch.__version__} {built}"


@pytest.fixture(scope="session", autouse=True)
def elsewhere() -> Iterator[None]:
    """Fixtures that several tests share run in an empty folder."""
    start = Path.cwd()
    empty = SCRATCH / "empty"
    empty.mkdir()
    os.chdir(empty)
    yield
    os.chdir(start)


@pytest.fixture(autouse=True)
def own_folder(elsewhere: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A test runs in its own folder, so that `results/` is its own too."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root, wherever pytest was started."""
    return ROOT


@pytest.fixture(scope="session")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with only what git tracks; skips if git cannot tell."""
    if reason := why_none():
        pytest.skip(reason)
    return export_committed(tmp_path_factory.mktemp("committed"))
