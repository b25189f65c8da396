"""Which process works in a folder: a claim that it keeps fresh, not a lock.

A claim is made by creating its file, which only one process can do, also over NFS. Others judge it
by whether it still changes while they look, by their own clock: hosts disagree on the time. A claim
that has stopped changing is taken over by creating the file that is named after it: again only one
process can do that, and if it is killed then, its own claim is judged in the same way. So a process
that is killed anywhere delays the others, and never stops them.

A beat overwrites the file in place, with one write and no flush to disk: hundreds of jobs share a
file server. Closing a file sends it to an NFS server, and opening it asks there for the newest, so
others see a beat at once. It is safe: a claim is only ever replaced by a rename, so a process that
has read its own token from an open file writes into its own claim, or into one that is gone. A
reader who meets half a beat reads again.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from nos_repro.experiments.files import (
    StoreError,
    identity,
    process_exists,
    read_file,
    this_host,
    unwritable,
    write_atomically,
)

STALE_SECONDS = 120.0
BEAT_SECONDS = 30.0
FIRST_BEAT_SECONDS = 1.0
CLAIM = "claim.json"
SIZE = 1024
"""A claim is padded to this many bytes, so that few beats change its length."""
READS = 3
"""How often a claim that is no JSON is read before it counts as damaged."""

# fmt: off
KINDS: dict[str, Any] = {
    "host": str, "pid": int, "updated": (int, float), "step": int, "steps": int,
    "latest": (dict, type(None)), "token": str,
}
# fmt: on


@dataclass(frozen=True)
class Lease:
    """A sign of life: which process has the claim, and how far it has come.

    ``updated`` is the time by that host's clock, ``token`` tells this claim from any other.
    """

    host: str
    pid: int
    updated: float
    step: int = 0
    steps: int = 0
    latest: dict[str, float] | None = None
    token: str = ""

    @property
    def share(self) -> float:
        """How much of its steps it has done; 0 if it does not say."""
        return min(1.0, max(0.0, self.step / self.steps)) if self.steps else 0.0

    def shown(self, part: str = "") -> str:
        """Its last metrics whose names begin with ``part``: `val_accuracy=50 test_accuracy=49`."""
        latest = self.latest or {}
        named = {key: value for key, value in latest.items() if key.startswith(part) and "_" in key}
        return " ".join(f"{k}={v:.4g}" for k, v in named.items() if isinstance(v, int | float))

    @property
    def here(self) -> bool:
        return self.host == this_host()

    @property
    def ours(self) -> bool:
        return self.here and self.pid == os.getpid()

    @property
    def gone(self) -> bool:
        """Whether its process was one of this host, and has ended."""
        return self.here and not process_exists(self.pid)


NOBODY = Lease("", 0, 0.0)
"""The claim in a file that holds none; it never changes."""
BEING_MADE = Lease("?", 0, 0.0)
"""The claim in an empty file: its process has created it and not written it yet."""


def read_lease(folder: Path, name: str = CLAIM) -> Lease | None:
    """The claim on a folder, dead or alive; None if there is none. Raises StoreError."""
    return _read(folder / name)


def _read(path: Path) -> Lease | None:
    lease: Lease | None = NOBODY
    for _ in range(READS):
        data = read_file(path)
        lease = None if data is None else _parse(data)
        if lease != NOBODY:
            break
    return lease


def _parse(data: bytes) -> Lease:
    try:
        values = orjson.loads(data)
    except ValueError:
        return NOBODY if data else BEING_MADE
    if not isinstance(values, dict):
        return NOBODY
    known = {key: value for key, value in values.items() if key in KINDS}
    if not {"host", "pid", "updated"} <= known.keys():
        return NOBODY
    sound = all(isinstance(value, KINDS[key]) for key, value in known.items())
    return Lease(**known) if sound and known.get("token", "0").isalnum() else NOBODY


class Witness:
    """Tells live claims from dead ones by whether they change, as seen by the ``clock`` of this
    process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[Path, tuple[Lease, float]] = {}

    def is_dead(self, path: Path, lease: Lease) -> bool:
        """Whether its process has ended, or it has been the same for STALE_SECONDS of looking."""
        now = self._clock()
        if path not in self._seen or self._seen[path][0] != lease:
            self._seen[path] = lease, now
        return lease.gone or lease == NOBODY or now - self._seen[path][1] > STALE_SECONDS


WITNESS = Witness()


def live_leases(
    folders: Iterable[Path], *, now: Callable[[], float] = time.time
) -> dict[Path, Lease]:
    """The claims of processes that seem to live, for a reader who does not stay. Raises StoreError.

    A process of this host can be looked up. One of another host seems to live if its last beat was
    less than STALE_SECONDS ago by the clock of its host or by that of the file system: it takes two
    wrong clocks to show a live process as dead, and nothing is decided on it (`Witness`).
    """
    found = {}
    for folder in folders:
        lease = read_lease(folder)
        if lease is None or not lease.pid or lease.gone:
            continue
        beats = lease.updated, _changed(folder / CLAIM)
        if any(abs(now() - beat) <= STALE_SECONDS for beat in beats):
            found[folder] = lease
    return found


def _changed(path: Path) -> float:
    """When the file was last written, by the clock of its file system."""
    try:
        return path.stat().st_mtime
    except OSError:  # it was released in the meantime
        return -math.inf


def beat_pause(age: float) -> float:
    """Seconds to the next beat of a claim of that age: a trial of a few seconds shows how far it
    is too, and a long one soon beats every BEAT_SECONDS."""
    return min(BEAT_SECONDS, max(FIRST_BEAT_SECONDS, age))


class Heartbeat:
    """Holds the claim of this process on a folder and keeps it fresh, however long a step takes.

    A separate thread writes the claim: an evaluation of minutes, a first compile or a slow file
    system neither lets the claim expire nor delays the training.
    """

    def __init__(
        self, folder: Path, steps: int = 0, *, name: str = CLAIM, witness: Witness = WITNESS
    ) -> None:
        self.path = folder / name
        self.steps = steps
        self._witness = witness
        self._step = 0
        self._latest: dict[str, float] | None = None
        self._token = uuid.uuid4().hex
        self._released = threading.Event()
        self._pulse: threading.Thread | None = None
        self._home: tuple[int, int] | None = None
        self.moved = False
        """Whether the folder was moved or removed since it was claimed; then nothing is written."""

    def take(self) -> bool:
        """Claims the folder; False if another process has it, or may have it. Raises StoreError."""
        self._token = uuid.uuid4().hex
        before = self._chain()
        if not all(lease.ours or self._witness.is_dead(path, lease) for path, lease in before):
            return False
        place = self._end(before)
        if not self._create(place):
            return False
        if before:
            if self._chain()[:-1] != before:  # another has taken over, or is not dead
                place.unlink(missing_ok=True)
                return False
            self.write()
            for _, lease in before:
                self._heir(lease).unlink(missing_ok=True)
        try:
            self._home = identity(self.path.parent)
        except StoreError:
            with contextlib.suppress(OSError):
                place.unlink(missing_ok=True)
            raise
        self._released = threading.Event()
        self._pulse = threading.Thread(target=self._keep_fresh, daemon=True)
        self._pulse.start()
        return True

    def beat(self, step: int, latest: dict[str, float] | None) -> None:
        """Reports that step ``step`` is done; others see it at the next beat."""
        self._step, self._latest = step, latest

    def write(self) -> None:
        """Writes the claim, whoever has it. Raises StoreError."""
        write_atomically(self.path, self._content())

    def release(self) -> None:
        """Ends the claim, unless another process has taken it over in the meantime."""
        self._released.set()
        if self._pulse is not None:
            self._pulse.join()
        with contextlib.suppress(StoreError, OSError):  # else it goes stale
            if self._holds(_read(self.path)):
                self.path.unlink(missing_ok=True)

    def _content(self) -> bytes:
        host, pid, now = this_host(), os.getpid(), time.time()
        claim = Lease(host, pid, now, self._step, self.steps, self._latest, self._token)
        return json.dumps(asdict(claim)).encode().ljust(SIZE)

    def _holds(self, lease: Lease | None) -> bool:
        return lease is not None and lease.ours and lease.token == self._token

    def _keep_fresh(self) -> None:
        began = time.monotonic()
        while not self._released.wait(beat_pause(time.monotonic() - began)):
            # the trial's own writes will meet the same disk error and report it
            with contextlib.suppress(StoreError, OSError):
                if identity(self.path.parent) != self._home:
                    self.moved = True
                    return
                self._refresh()

    def _refresh(self) -> None:
        """Overwrites the claim if it is this one's, and makes it again if there is none."""
        try:
            file = self.path.open("r+b", buffering=0)
        except FileNotFoundError:
            self._create(self.path)
            return
        with file:
            before = file.read()
            if self._holds(_parse(before)):
                file.seek(0)
                file.write(self._content().ljust(len(before)))

    def _chain(self) -> list[tuple[Path, Lease]]:
        """The claim, and those of the processes that have begun to take it over, one from the
        other."""
        chain: list[tuple[Path, Lease]] = []
        while (lease := _read(path := self._end(chain))) is not None:
            chain.append((path, lease))
            if self._end(chain) in [path for path, _ in chain]:
                break
        return chain

    def _end(self, chain: list[tuple[Path, Lease]]) -> Path:
        """The file to create after these."""
        return self._heir(chain[-1][1]) if chain else self.path

    def _heir(self, lease: Lease) -> Path:
        return self.path.with_name(f".{self.path.name}.after-{lease.token or 'none'}.tmp")

    def _create(self, path: Path) -> bool:
        """Writes the claim to a new file; False if there is one. Raises StoreError."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            number = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except OSError as error:
            if isinstance(error, FileExistsError) and path.parent.is_dir():
                return False
            raise unwritable(path, error) from None
        try:
            with open(number, "wb") as file:
                file.write(self._content())
        except OSError as error:
            path.unlink(missing_ok=True)
            raise unwritable(path, error) from None
        return True


@contextlib.contextmanager
def alone(folder: Path, name: str) -> Iterator[None]:
    """Runs the block while no other process is in a block of that folder and name. Raises
    StoreError."""
    heartbeat, pause = Heartbeat(folder, name=name), 0.005
    while not heartbeat.take():
        time.sleep(pause)
        pause = min(2 * pause, 0.5)
    try:
        yield
    finally:
        heartbeat.release()
