"""The log of a search: an append-only file of JSON lines, each written before it takes effect.

A process killed while it writes leaves half a line: that line is dropped, with a message. Anything
else that cannot be read stops the search, since the controller learned from the lost event. So does
a line that was edited, added or taken out (`search.chain`), and a read error of the file system,
even a passing one: a log that cannot be read is not an empty one.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import orjson

from nos_repro.errors import NosError
from nos_repro.experiments.files import StoreError, json_line, read_file, read_json
from nos_repro.search.chain import KEY, Chain, unlinked

Event = dict[str, Any]

Kinds = dict[str, type | tuple[type, ...]]
NUMBER = (int, float)

# fmt: off
FIELDS: dict[str, Kinds] = {
    "session":   {"workers": int, "code": str},
    "proposed":  {"sample": int, "policy": int, "tokens": list, "log_probs": list},
    "evaluated": {"sample": int, "reward": NUMBER, "status": str, "rule": str, "key": str},
    "staged":    {"sample": int, "stage": str, "decision": str, "reward": NUMBER, "status": str},
    "withdrawn": {"sample": int, "reason": str},
    "reopened":  {"sample": int, "policy": int, "tokens": list, "log_probs": list},
    "updated":   {"policy": int, "samples": list},
    "trained":   {"task": str, "rule": int, "seed": int, "code": str, "evaluation": dict},
    "named":     {"purpose": str, "name": str, "optimizer": str, "seed": int, "evaluation": dict},
    "raced":     {"order": list},
}
"""What each kind of event must hold; it may hold more."""
RESULT: Kinds = {
    "reward": NUMBER, "lr": (int, float, type(None)), "sweep": list, "metrics": dict, "curve": list,
    "examples": int, "seconds": NUMBER, "reason": str, "fault": str, "traceback": str,
}
"""What a child's result holds, if it holds it."""
MAYBE: dict[str, Kinds] = {
    "session":   {"host": str, "device": str, "threads": int, "python": str, "libraries": dict,
                  "trains": str, "settings": dict, "device_settings": dict},
    "evaluated": {**RESULT, "sign": int},
    "staged":    {**RESULT, "threshold": NUMBER},
    "withdrawn": {"status": str, "key": str, "rule": str, "sign": int},
    "updated":   {"entropy": NUMBER, "staleness": NUMBER},
    "named":     {"where": str},
}
"""What an event may hold besides, which is then of these types."""
# fmt: on
KINDS = {kind: MAYBE.get(kind, {}) | fields for kind, fields in FIELDS.items()}

LARGEST = 2**63
"""Whole numbers of a log are smaller; seeds may come near."""

ELEMENTS: dict[str, set[type]] = {
    "tokens": {str},
    "log_probs": {int, float},
    "samples": {int},
    "order": {str},
}
"""What the lists of an event hold."""
NARROWER = frozenset({"reward", *ELEMENTS})
"""Not every value of the right kind is one that these keys can have."""

PLAIN = bytes.maketrans(b"123456789E", b"000000000e")
LONG, HIGH = b"0" * 19, b"0e000"
"""What a number that is too large looks like in a line, PLAIN: all digits are 0 there, and there is
no `+`."""


class LogError(NosError):
    """A log is damaged in a way that a crash cannot explain."""


class Log:
    """The events of one file. One process writes; any number may read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._synced = 0
        self._chain = Chain()

    def open(self) -> str | None:
        """Makes the file ready to be appended to. If its last line is torn, the line is cut off
        and a message that says so is returned. Raises StoreError if it cannot be read, LogError if
        it was edited."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        data = read_file(self.path) or b""
        whole = len(data) if _is_whole(data) else data.rfind(b"\n", 0, len(data) - 1) + 1
        self.size, self._chain = whole, Chain()
        for number, line in enumerate(io.BytesIO(data[:whole]), start=1):
            self._check(self._chain, line, number)
        if whole == len(data):
            return None
        os.truncate(self.path, whole)
        return (
            f"{self.path}: the last line is torn ({len(data) - whole} bytes, written by a process"
            " that was killed); it is dropped, and its event will be made again"
        )

    def read(self, start: int = 0, note: Callable[[str], None] | None = None) -> Iterator[Event]:
        """The events from byte ``start`` on. Raises LogError for a line that is not an event,
        StoreError if the file cannot be read.

        Pass ``note`` if another process may be writing: a torn last line, as seen in the middle of
        a write, is then skipped and noted.
        """
        chain = Chain()
        with _reading(self.path) as file:
            lines = itertools.pairwise(itertools.chain(file, [b""]))
            place = 0
            for number, (line, following) in enumerate(lines, start=1):
                if note is not None and not following and not _is_whole(line):
                    note(f"{self.path}, line {number}: incomplete or torn; left out")
                    return
                self._check(chain, line, number)
                if place >= start:
                    yield self._parse(line, number)
                place += len(line)

    def check(self) -> None:
        """Raises LogError if a line is damaged, StoreError if the file cannot be read; a torn last
        line is what a kill leaves."""
        for _ in self.read(note=lambda message: None):
            pass

    def digest(self, size: int | None = None) -> str:
        """A digest of all that was written (of the file's first ``size`` bytes: "" if it has fewer,
        or no line ends there)."""
        if size is None:
            return self._chain.last
        chain = Chain()
        with _reading(self.path) as file:
            for line in io.BytesIO(file.read(size)):
                chain.take(line)
                size -= len(line) * line.endswith(b"\n")
        return "" if size else chain.last

    def append(self, events: Sequence[Event]) -> None:
        """Writes the events, so that they survive the death of this process. Raises StoreError, and
        then leaves nothing half-written."""
        chain = self._chain.copy()
        data = b"".join(chain.linked(json_line(event).encode()) for event in events)
        try:
            with open(self.path, "ab", buffering=0, opener=self._opened) as file:
                self._check_alone(file)
                _write_all(file, data)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.truncate(self.path, self.size)
            raise self._refused(error) from None
        self.size += len(data)
        self._chain = chain

    def sync(self) -> None:
        """Flushes what was appended to disk, so that it survives a crash of the machine."""
        if self.size == self._synced:
            return
        try:
            with self.path.open("rb") as file:
                os.fsync(file.fileno())
        except OSError as error:
            raise self._refused(error) from None
        self._synced = self.size

    def _opened(self, path: str, flags: int) -> int:
        """A file that has events is not made again: its folder was moved or removed."""
        return os.open(path, flags & ~os.O_CREAT if self.size else flags, 0o666)

    def _refused(self, error: OSError) -> StoreError:
        if isinstance(error, FileNotFoundError):
            return StoreError(
                f"{self.path} was moved or removed while this search ran\n"
                "  nothing is lost: run the same command again, with --results where it is now"
            )
        return StoreError(
            f"cannot write {self.path}: {os.strerror(error.errno or 0)}\n"
            "  nothing is lost: fix that and run the same command again"
        )

    def _check_alone(self, file: IO[bytes]) -> None:
        """A claim on the folder is not a lock: a process that slept for long may have lost it."""
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)  # released when the file is closed
        if os.fstat(file.fileno()).st_size != self.size:
            raise StoreError(
                f"{self.path}: another process has written to this file; this one stops\n"
                "  nothing is lost: `status` shows who is at work; the same command continues later"
            )

    def _check(self, chain: Chain, line: bytes, number: int) -> None:
        if not chain.take(line):
            raise self._damaged(
                number, "does not follow the lines above: one was edited, added or taken out"
            )

    def _parse(self, line: bytes, number: int) -> Event:
        line = unlinked(line)
        plain = line.translate(PLAIN, b"+")
        suspect = LONG in plain or HIGH in plain
        try:
            event: Event = _value(line, suspect)
            fields, kinds = FIELDS[event["event"]], KINDS[event["event"]]
        except (ValueError, KeyError, TypeError):
            raise self._damaged(number, "is not an event of a search") from None
        if not fields.keys() <= event.keys():
            missing = min(fields.keys() - event.keys())
            raise self._damaged(number, f"'{missing}' is missing")
        for key in _of_other_kinds(event, kinds):
            raise self._damaged(number, f"'{key}' is invalid")
        for key in _contradictions(event):
            raise self._damaged(number, f"'{key}' does not fit '{event['status']}'")
        if suspect and not _is_sound(event):
            raise self._damaged(number, "holds a number that no search writes")
        if KEY in event:
            raise self._damaged(number, "was written again by another program")
        return event

    def _damaged(self, number: int, how: str) -> LogError:
        return LogError(
            f"{self.path}, line {number}: {how}; a crash of a search cannot cause that;\n"
            "  restore the line from a copy, or start a new search under another --results"
        )


def misfits(values: Mapping[str, Any], kinds: Kinds) -> Iterator[str]:
    """The keys whose values are not of the kind that they are to be, if they are there. No number
    is infinite, NaN, a truth value or larger than 64 bits hold; a reward is between 0 and 1, a
    log-probability at most 0."""
    yield from _of_other_kinds(values, kinds)
    for key, value in values.items():
        if key in kinds and not _is_sound(value):
            yield key


def _value(line: bytes, exactly: bool) -> Any:
    """The JSON value of a line. Only Python's own reader takes whole numbers of any size, and
    escapes of half a character, which stand for file names that are not UTF-8."""
    try:
        return read_json(line) if exactly else orjson.loads(line)
    except ValueError:
        return read_json(line)


def _of_other_kinds(values: Mapping[str, Any], kinds: Kinds) -> Iterator[str]:
    """The keys whose values are not of the kind that they are to be, whatever their size."""
    for key, value in values.items():
        kind = kinds.get(key)
        if kind is None or (_is_a(value, kind) and (key not in NARROWER or _fits(key, value))):
            continue
        yield key
    metrics = values.get("metrics")
    if isinstance(metrics, dict) and not all(_is_a(value, NUMBER) for value in metrics.values()):
        yield "metrics"


def _contradictions(event: Event) -> Iterator[str]:
    """The values that a result of this status cannot have."""
    status = event.get("status") if event["event"] == "evaluated" else None
    if status in ("refused", "diverged", "overran", "failed") and event["reward"]:
        yield "reward"
    if status == "healthy" and not _is_a(event.get("lr"), NUMBER):
        yield "lr"


def _fits(key: str, value: Any) -> bool:
    """Whether a value of the right kind is one that its key, of those NARROWER, can have."""
    if key == "reward":
        return bool(0 <= value <= 1)
    if not set(map(type, value)) <= ELEMENTS[key]:
        return False
    return key != "log_probs" or max(value, default=0) <= 0


def _is_a(value: Any, kind: type | tuple[type, ...]) -> bool:
    """`isinstance`, but that truth values are no numbers."""
    return isinstance(value, kind) and not isinstance(value, bool)


def _is_sound(value: Any) -> bool:
    """Whether all numbers in a value are finite, and fit into 64 bits."""
    if isinstance(value, int):
        return abs(value) < LARGEST
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_is_sound, value.values()))
    return not isinstance(value, list) or all(map(_is_sound, value))


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[IO[bytes]]:
    """The file, open for reading; an empty one if there is none. Raises StoreError if it cannot be
    read."""
    try:
        try:
            file: IO[bytes] = path.open("rb")
        except FileNotFoundError:
            file = io.BytesIO()
        with file:
            yield file
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"cannot read {path}: {error.strerror or error}\n"
        "  nothing is lost: fix that and run the same command again"
    )


def _write_all(file: IO[bytes], data: bytes) -> None:
    """An unbuffered file may take only a part at a time."""
    while data:
        data = data[file.write(data) :]


def _is_whole(data: bytes) -> bool:
    """Whether the last line is a whole JSON value: a disk may keep its end and lose its middle."""
    if not data:
        return True
    if not data.endswith(b"\n"):
        return False
    try:
        read_json(data[data.rfind(b"\n", 0, -1) + 1 :])
    except ValueError:
        return False
    return True
