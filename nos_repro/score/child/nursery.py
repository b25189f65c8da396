"""The process from which each training of a candidate is forked: `python -m ...child.nursery`.

It has imported torch and never runs a candidate's code, so that a training starts in milliseconds
and knows nothing of the trainings before it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import io
import json
import mmap
import os
import resource
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import torch

from nos_repro.score.channel import Channel
from nos_repro.score.child import landlock, run
from nos_repro.score.child.originals import Originals

DIE_WITH_PARENT, ADOPT_ORPHANS = 1, 36
LARGEST_FILE = 64 << 20
"""Bytes of a file that a candidate may write."""


def main() -> None:
    """Forks for each message on the socket whose number is the first argument; ends when that
    closes. The second is the folder below which candidates may write."""
    control = socket.socket(fileno=int(sys.argv[1]))
    torch.set_num_threads(1)
    ctypes.CDLL(None).prctl(ADOPT_ORPHANS, 1, 0, 0, 0)  # so that none that is left gets lost
    _warm()
    ruleset, originals = landlock.Ruleset(Path(sys.argv[2])), Originals()
    gc.freeze()  # a collection in a forked process would copy all that it looks at
    control.send(b"{}")
    while True:
        text, numbers, _, _ = socket.recv_fds(control, 1 << 16, 2)
        if not text:
            return
        asked: dict[str, Any] = json.loads(text)
        if "reap" in asked:
            control.send(json.dumps(_reap(asked["reap"])).encode())
            continue
        child = os.fork()
        if child == 0:
            control.close()
            _become(asked, numbers[0], numbers[1], ruleset, originals)
        for number in numbers:
            os.close(number)
        control.send(json.dumps({"pid": child}).encode())


def _become(
    spec: dict[str, Any], end: int, memory: int, ruleset: landlock.Ruleset, originals: Originals
) -> None:
    """The forked process, which never returns."""
    try:
        os.setsid()
        _die_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        scratch = Path(spec["scratch"])
        os.chdir(scratch)
        os.environ.update({"HOME": str(scratch), "TMPDIR": str(scratch)})
        shared = mmap.mmap(memory, spec["bytes"])
        os.close(memory)
        _limit(spec)
        ruleset.add(map(Path, spec["modules"]))
        version = ruleset.restrict()
        sock = socket.socket(fileno=end)
        Channel(sock).send({"ok": {"landlock": version}})
        run.serve(sock, torch.frombuffer(shared, dtype=torch.float32), spec, originals)
    finally:
        os._exit(1)


def _limit(spec: dict[str, Any]) -> None:
    """Memory beyond what Python and torch have mapped already, time on the processor, files."""
    mapped = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
    memory = mapped * resource.getpagesize() + spec["memory"]
    for kind, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, int(spec["seconds"]) + 60),
        (resource.RLIMIT_FSIZE, LARGEST_FILE),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))


def _reap(child: int) -> dict[str, Any]:
    _, status, used = os.wait4(child, 0)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:  # orphans that were ended
            pass
    return {
        "status": os.waitstatus_to_exitcode(status),
        "cpu": used.ru_utime + used.ru_stime,
        "memory": used.ru_maxrss * 1024,
    }


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)


def _warm() -> None:
    """Has this process import what the first optimizers of a process import."""
    from nos_repro.optim.factory import make_optimizer

    for name in ("torch.optim.SGD", "torch.optim.AdamW", "powersign-cd", "g * exp(m) + adam"):
        weight = torch.nn.Parameter(torch.ones(2, 2))
        weight.grad = torch.ones(2, 2)
        rule = {} if "." in name else {"foreach": True}
        optimizer = make_optimizer(name, [weight], lr=0.1, total_steps=10, **rule)
        optimizer.step()
        file = io.BytesIO()
        torch.save(optimizer.state_dict(), file)
        file.seek(0)
        optimizer.load_state_dict(torch.load(file, weights_only=True))


if __name__ == "__main__":
    main()
