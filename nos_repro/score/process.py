"""A candidate's process, as the evaluator sees it: started, limited, watched, and ended.

A *nursery* (`child.nursery`) is started once. Every training of a candidate is forked from it, so
that a training can keep nothing for the next one. What comes back is memory with weights, and
nothing else of what the candidate says is used.

The guarantees, by who keeps them: model, data, labels, losses and random numbers of the task are
only in the evaluator's process, which computes every gradient and metric. The evaluator keeps the
clock, ends the process group of a candidate that overruns or grows too large, and looks for
processes that it has left. The rest is an alarm in the candidate's process (`child.guard`).
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from nos_repro.errors import LaunchError
from nos_repro.score.candidate import Submission
from nos_repro.score.channel import Channel, Closed, Garbled
from nos_repro.score.fault import KINDS, Fault, OutOfTime
from nos_repro.score.watching import files_kept, memory_taken, processes_of

MARK = "NOS_REPRO_SCORE_RUN"
"""A variable of the environment by which the processes of a nursery are known."""
START_SECONDS, END_SECONDS = 120.0, 2.0
PASSED_ON = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SYSTEMROOT")
LONGEST_OUTPUT = 4000
"""Characters of what a candidate prints that are kept."""
LONGEST_REASON = 500
BETWEEN_LOOKS = 16
"""Calls between two looks at what a candidate keeps in files."""


@dataclass
class Costs:
    """What a candidate has taken so far."""

    seconds: float = 0.0
    """In its own code, as the evaluator's clock says."""
    cpu_seconds: float = 0.0
    memory: int = 0
    """The most bytes of any of its processes, torch itself included."""
    steps: int = 0
    runs: int = 0


@dataclass(frozen=True)
class ProcessLimits:
    """What a candidate may take."""

    seconds: float = 1800.0
    """For everything, the evaluator's own work on it included."""
    call_seconds: float = 20.0
    """For a single call: to be imported, or for one update."""
    memory: int = 4 << 30
    """Bytes, besides what Python and torch take."""


class Nursery:
    """Starts candidates. Use it as a context; it ends what it has started."""

    def __init__(self) -> None:
        self.limits = ProcessLimits()
        self.costs = Costs()
        self.deadline = float("inf")
        self.landlock = 0
        self.mark = secrets.token_hex(8)
        self.folder = Path(tempfile.mkdtemp(prefix="nos-repro-score-")).resolve()
        self._runs = self.folder / "runs"
        self._runs.mkdir()
        self._control, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {key: os.environ[key] for key in PASSED_ON if key in os.environ}
        path = [str(Path(entry or ".").absolute()) for entry in sys.path]
        environment |= {MARK: self.mark, "PYTHONPATH": os.pathsep.join(path)}
        environment |= {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        with (self.folder / "printed").open("ab") as printed:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "nos_repro.score.child.nursery",
                    str(other.fileno()),
                    str(self._runs),
                ],
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=printed,
                pass_fds=[other.fileno()],
                cwd=self.folder,
                env=environment,
                start_new_session=True,
            )
        other.close()
        self._control.settimeout(START_SECONDS)
        self._started = False

    def __enter__(self) -> Nursery:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def has_ended(self) -> bool:
        """Whether the process is gone: the system may have ended it for lack of memory."""
        return self._process.poll() is not None

    def close(self) -> None:
        self._control.close()
        self._process.kill()
        self._process.wait()
        self.end_leftovers()
        shutil.rmtree(self.folder, ignore_errors=True)

    def begin(self, limits: ProcessLimits) -> None:
        """From here on a new candidate's costs and time are counted."""
        self.limits = limits
        self.costs = Costs()
        self.deadline = time.monotonic() + self.limits.seconds
        os.truncate(self.folder / "printed", 0)

    def ask(self, message: dict[str, Any], files: Sequence[int] = ()) -> dict[str, Any]:
        """Raises LaunchError where the nursery has ended."""
        try:
            if not self._started:
                self._started = bool(self._control.recv(1 << 16))
            socket.send_fds(self._control, [json.dumps(message).encode()], list(files))
            found: dict[str, Any] = json.loads(self._control.recv(1 << 16) or b"")
            return found
        except (OSError, ValueError):
            said = self.printed().strip().splitlines()
            why = said[-1] if said else "it said nothing"
            raise LaunchError(f"the process that starts candidates has ended: {why}") from None

    def printed(self) -> str:
        """The end of what candidates have printed. Nothing reads it but people."""
        with contextlib.suppress(OSError):
            return (self.folder / "printed").read_bytes()[-LONGEST_OUTPUT:].decode(errors="replace")
        return ""

    def start(
        self, candidate: Submission, shapes: Sequence[tuple[str, torch.Size]], seed: int
    ) -> RemoteOptimizer:
        """A fresh process of the candidate for parameters of these names and shapes."""
        return RemoteOptimizer(self, candidate, shapes, seed)

    def scratch(self) -> Path:
        """A new folder in which one training of a candidate may write."""
        return Path(tempfile.mkdtemp(dir=self._runs))

    def clear(self) -> None:
        """Removes what candidates have written, wherever they could."""
        for path in self._runs.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def end_leftovers(self) -> int:
        """Ends what candidates have left running; how many processes that were."""
        found: set[int] = set()
        until = time.monotonic() + END_SECONDS
        while left := processes_of(self._process.pid, f"{MARK}={self.mark}"):
            for process in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            found |= left
            if time.monotonic() > until:
                break
            time.sleep(0.002)  # until they are gone; one may be starting another
        return len(found)


@dataclass
class RemoteOptimizer:
    """An optimizer of a candidate, in a process of its own; a context that ends it.

    `weights` and `gradients` are flat, shared with that process. Every call raises Fault for what
    the candidate does wrong, and OutOfTime.
    """

    nursery: Nursery
    candidate: Submission
    shapes: Sequence[tuple[str, torch.Size]]
    seed: int
    modes: bool = field(default=False, init=False)
    """Whether the optimizer evaluates other weights than it trains (`train` and `eval`)."""

    def __enter__(self) -> RemoteOptimizer:
        limits, self._scratch = self.nursery.limits, self.nursery.scratch()
        scratch = self._scratch
        if self.candidate.kind == "file":
            (scratch / "candidate.py").write_text(self.candidate.text, encoding="utf-8")
        size = sum(shape.numel() for _, shape in self.shapes)
        shared = os.memfd_create("weights")
        os.truncate(shared, max(8 * size, mmap.PAGESIZE))
        self._memory = mmap.mmap(shared, 8 * size)
        flat = torch.frombuffer(self._memory, dtype=torch.float32)
        self.weights: Tensor = flat[:size]
        self.gradients: Tensor = flat[size:]
        ours, theirs = socket.socketpair()
        spec = {
            "kind": self.candidate.kind, "name": self.candidate.pick, "seed": self.seed,
            "text": self.candidate.text if self.candidate.kind == "name" else "",
            "modules": self.candidate.modules, "scratch": str(scratch), "bytes": 8 * size,
            "memory": limits.memory, "seconds": limits.seconds,
        }  # fmt: skip
        self._number: int = self.nursery.ask(spec, [theirs.fileno(), shared])["pid"]
        os.close(shared)
        theirs.close()
        self._channel = Channel(ours)
        self._ended = False
        self._own_memory = 0
        self._calls = 0
        self.nursery.costs.runs += 1
        try:
            self.nursery.landlock = self._reply("start")["landlock"]
            self._own_memory = memory_taken(self._number)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()
        left = self.nursery.end_leftovers()
        self.nursery.clear()
        if left and not isinstance(error, Fault):
            raise Fault("processes", f"leaves {left} process{'es' * (left > 1)} behind")

    def make(self, *, lr: float, total_steps: int) -> None:
        """Imports the candidate and makes its optimizer for the weights that are in place."""
        params = [[name, list(shape)] for name, shape in self.shapes]
        said = self.call(
            "make", params=params, lr=lr, total_steps=total_steps, seed=self.seed % 2**31
        )
        self.modes = bool(said.get("modes"))

    def step(self, without: Sequence[int] = ()) -> None:
        """One update with the gradients that are in place; ``without``: parameters without one."""
        self.nursery.costs.steps += 1
        if without:
            self.call("step", without=list(without))
        else:
            self.call("step")

    def call(self, word: str, **values: Any) -> dict[str, Any]:
        """What the candidate's process answers."""
        started, token = time.monotonic(), secrets.token_hex(8)
        try:
            self._channel.send({"do": word, "token": token, **values})
        except Closed:
            raise self._gone(word) from None
        said = self._reply(word, token)
        self._calls += 1
        if self._calls % BETWEEN_LOOKS == 1:
            self._check_files()
        self.nursery.costs.seconds += time.monotonic() - started
        return said

    def _reply(self, word: str, token: str | None = None) -> dict[str, Any]:
        """The answer to a call; one without the call's ``token`` is not the process's own."""
        started = time.monotonic()
        limits = self.nursery.limits

        def watch() -> None:
            now = time.monotonic()
            if now - started > limits.call_seconds:
                self._end()
                did = {"make": "importing and making it", "step": "an update"}.get(word, word)
                raise Fault("time", f"does not return: {did} took over {limits.call_seconds:g} s")
            if now > self.nursery.deadline:
                self._end()
                raise OutOfTime
            self._check_memory()
            self._check_files()

        try:
            said = self._channel.receive(watch)
        except Closed:
            raise self._gone(word) from None
        except Garbled as error:
            raise Fault("protocol", f"writes to the evaluator's channel: {error}") from None
        if time.monotonic() > self.nursery.deadline:
            raise OutOfTime
        if isinstance(said.get("ok"), dict) and said.get("token") == token:
            found: dict[str, Any] = said["ok"]
            return found
        kind = said.get("kind")
        if kind not in KINDS:
            raise Fault("protocol", "writes to the evaluator's channel")
        reason = " ".join(_printable(said.get("said")).split())[:LONGEST_REASON]
        raise Fault(kind, reason, _printable(said.get("traceback"))[:LONGEST_OUTPUT])

    def _check_memory(self) -> None:
        """Between two calls the kernel's own limit holds (`nursery`); this one sees what a process
        takes in truth, besides what it began with: Python and torch."""
        if memory_taken(self._number) - self._own_memory > self.nursery.limits.memory:
            self._end()
            raise Fault("memory", "takes more memory than it may")

    def _check_files(self) -> None:
        """Files count as memory: they may be in memory, and fill the disk else."""
        if files_kept(self._scratch, self._number) > self.nursery.limits.memory:
            self._end()
            raise Fault("memory", "keeps more in files than it may take of memory")

    def _gone(self, word: str) -> Exception:
        """What is wrong if the other end of the channel is closed."""
        status = self._end()
        if word == "start":
            return LaunchError(f"a candidate's process does not start (exit status {status})")
        if status is None:
            return Fault("protocol", "closes the evaluator's channel")
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        if status == -signal.SIGXCPU:
            return Fault("time", "takes more processor time than it may")
        during = {"make": "while it is made", "step": "during an update"}.get(word, f"at {word}")
        return Fault("exit", f"its process ends by itself {during} ({how})")

    def _end(self) -> int | None:
        """Ends the process and what shares its group; its exit status if it had ended by
        itself."""
        if self._ended:
            return None
        self._ended = True
        self._channel.end.close()
        by_itself = self._wait_a_moment()
        for end in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                end(self._number, signal.SIGKILL)
        found = self.nursery.ask({"reap": self._number})
        costs = self.nursery.costs
        costs.cpu_seconds += found["cpu"]
        costs.memory = max(costs.memory, found["memory"])
        return int(found["status"]) if by_itself else None

    def _wait_a_moment(self) -> bool:
        """Whether the process has ended by itself, as its end of the channel has closed."""
        for _ in range(20):
            with contextlib.suppress(OSError):
                state = Path(f"/proc/{self._number}/stat").read_text(encoding="utf-8")
                if state.rpartition(")")[2].split()[0] == "Z":
                    return True
                time.sleep(0.005)
                continue
            return True
        return False


def _printable(text: object) -> str:
    """What a candidate says, without what a terminal obeys and JSON cannot hold."""
    said = text if isinstance(text, str) else ""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in said)
