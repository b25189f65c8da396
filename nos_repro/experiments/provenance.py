"""Where a number comes from: machine, versions and commit."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from pathlib import Path

import torch

from nos_repro.extras import installed_versions

LIBRARIES = (
    *("torch", "torchvision", "pytorch-lightning", "numpy"),
    *("sacrebleu", "sentencepiece", "torchtext", "num2words"),
)


def provenance(device: str) -> dict[str, object]:
    """Host, device, versions and commit, for a record. No environment, no user name, no path."""
    return {
        "host": platform.node(),
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else _cpu_name(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "libraries": installed_versions(LIBRARIES),
        "commit": commit(),
    }


@functools.cache
def commit() -> str:
    """The commit of the checkout this package runs from, with `+` if it has changes; else "".

    A package installed inside another project's checkout (its `.venv`) is not part of that.
    """
    here = Path(__file__).parent
    try:
        _git(here, "ls-files", "--error-unmatch", "--", __file__)
        head = _git(here, "rev-parse", "--short=12", "HEAD")
        changed = _git(here, "status", "--porcelain", "--", str(here.parent))
    except (OSError, subprocess.SubprocessError):
        return ""
    return head + ("+" if changed else "")


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", *words], cwd=folder, capture_output=True, encoding="utf-8", check=True, timeout=10
    )
    return done.stdout.strip()


@functools.cache
def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return f"{line.split(':', 1)[1].strip()} ({os.cpu_count()} cores)"
    return platform.processor() or platform.machine()
