"""What was queued, and what became of it: plain files next to the records.

`results/<study>/<scale>/slurm/<batch>/` holds one submission. `batch.json` says which jobs are in
which pack; it is written before submission and again with the array's number. Packs and front ends
leave messages in `reports/`, one per file. A pack is over when all its jobs have reported or a
front end has closed it. No process removes a file that another may still want to read.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from nos_repro.errors import LaunchError
from nos_repro.experiments.files import file_names, is_there, read_file, unwritable, write_json
from nos_repro.experiments.heartbeat import WITNESS, Heartbeat, Witness
from nos_repro.launch.base import JobEnding

REPORT = re.compile(r"(\d{1,9})-(\d{1,9})\.json")
MARK = re.compile(r"(\d{1,9})\.(begun|closed)")
"""What a pack leaves in `reports/`; anything else there is somebody else's."""
PRUNE_SECONDS = 300.0


@dataclass(frozen=True)
class Message:
    """What a pack, or the process that closed it, says about one of its jobs."""

    outcome: JobEnding
    message: str = ""
    detail: str = ""


@dataclass
class JobArray:
    """One submission: an array of packs, each a few jobs that run one after the other.

    ``array`` is SLURM's number, None until sbatch has returned it. ``packs`` names the jobs by
    identity. The rest is what has been read from the folder so far: ``messages`` by (pack, place),
    ``begun`` and ``closed`` packs.
    """

    folder: Path
    packs: list[list[str]]
    array: str | None = None
    submitted: float = 0.0
    host: str = ""
    messages: dict[tuple[int, int], Message] = field(default_factory=dict)
    begun: set[int] = field(default_factory=set)
    closed: set[int] = field(default_factory=set)
    _seen: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        """Also the job's name on the cluster; it is unique, so that the job can be found there."""
        return self.folder.name

    @property
    def reports(self) -> Path:
        return self.folder / "reports"

    def task(self, pack: int) -> str:
        """SLURM's number of a pack."""
        return f"{self.array}_{pack}" if len(self.packs) > 1 else str(self.array)

    def unreported(self, pack: int) -> list[int]:
        """Places of a pack's jobs that have not reported."""
        return [n for n in range(len(self.packs[pack])) if (pack, n) not in self.messages]

    def over(self, pack: int) -> bool:
        return pack in self.closed or not self.unreported(pack)

    @property
    def open(self) -> list[int]:
        """The packs that are not over."""
        return [pack for pack in range(len(self.packs)) if not self.over(pack)]

    def save(self) -> None:
        """Writes `batch.json`. Raises StoreError."""
        values = {"array": self.array, "submitted": self.submitted, "host": self.host}
        write_json(self.folder / "batch.json", {**values, "packs": self.packs})

    def look(self) -> list[tuple[int, int]]:
        """Reads what is new in the folder; returns the (pack, place) of new messages. Raises
        StoreError."""
        fresh = []
        for name in file_names(self.reports):
            if name in self._seen:
                continue
            if match := REPORT.fullmatch(name):
                message = _read_message(self.reports / name)
                if message is None:
                    continue
                pack, place = int(match[1]), int(match[2])
                self.messages[pack, place] = message
                fresh.append((pack, place))
            elif match := MARK.fullmatch(name):
                {"begun": self.begun, "closed": self.closed}[match[2]].add(int(match[1]))
            self._seen.add(name)
        return fresh

    def is_closed(self, pack: int) -> bool:
        """Whether the pack has been given up, as read from disk."""
        return is_there(self.reports / f"{pack}.closed")

    def has_said(self, pack: int, place: int) -> bool:
        """Whether a job has reported, as read from disk."""
        return is_there(self.reports / f"{pack}-{place}.json")

    def begin(self, pack: int, note: dict[str, Any]) -> None:
        """Notes that a pack's process has started."""
        write_json(self.reports / f"{pack}.begun", note)

    def close(self, pack: int, reason: str) -> None:
        """Closes a pack: if SLURM ever starts it again, its process exits at once."""
        write_json(self.reports / f"{pack}.closed", {"reason": reason})
        self.closed.add(pack)

    def say(self, pack: int, place: int, message: Message) -> None:
        """Leaves a message about a job; an earlier one is kept."""
        if not self.has_said(pack, place):
            write_json(self.reports / f"{pack}-{place}.json", asdict(message))


def _read_message(path: Path) -> Message | None:
    """None if it is not whole yet, as happens on a network file system. Raises StoreError."""
    try:
        message = Message(**orjson.loads(read_file(path) or b""))
    except (ValueError, TypeError):
        return None
    said = (message.outcome, message.message, message.detail)
    return message if all(isinstance(word, str) for word in said) else None


@dataclass(frozen=True)
class Queued:
    """Where to find the report of a job that is on the cluster."""

    batch: JobArray
    pack: int
    place: int

    @property
    def task(self) -> str:
        """The number of the SLURM job that it is in."""
        return self.batch.task(self.pack) if self.batch.array else "not yet numbered"

    @property
    def message(self) -> Message | None:
        return self.batch.messages.get((self.pack, self.place))


class Ledger:
    """All batches of one study or search."""

    def __init__(self, folder: Path, witness: Witness = WITNESS) -> None:
        self.folder = folder.absolute()
        self._witness = witness
        self.batches: dict[str, JobArray] = {}

    def refresh(self) -> None:
        """Reads batches that others have added. Raises LaunchError for a damaged one, StoreError
        for one that cannot be read: its jobs would be queued twice."""
        for name in file_names(self.folder):
            known = self.batches.get(name)
            if known is None or known.array is None:
                path = self.folder / name / "batch.json"
                data = read_file(path)
                if data is not None:  # else not written yet, or pruned meanwhile
                    self.batches[name] = _read_batch(path, data)

    def new(self, study: str, packs: Sequence[Sequence[str]]) -> JobArray:
        """A new batch, saved in its own folder but not submitted yet. Raises StoreError."""
        moment = time.strftime("%Y%m%d-%H%M%S")
        folder = self.folder / f"{study}-{moment}-{uuid.uuid4().hex[:6]}"
        batch = JobArray(
            folder, [list(pack) for pack in packs], None, time.time(), socket.gethostname()
        )
        batch.save()
        try:
            batch.reports.mkdir()
        except OSError as error:
            raise unwritable(batch.reports, error) from None
        self.batches[batch.name] = batch
        return batch

    @property
    def open(self) -> list[JobArray]:
        return [batch for batch in self.batches.values() if batch.open]

    def queued(self) -> dict[str, Queued]:
        """Where every queued or running job is, by identity."""
        self.refresh()
        found = {}
        for batch in self.open:
            batch.look()
            for pack in batch.open:
                for place in batch.unreported(pack):
                    found[batch.packs[pack][place]] = Queued(batch, pack, place)
        return found

    def prune(self) -> None:
        """Removes batches that ended well a while ago, since their jobs' records say everything. A
        batch with a lost job keeps its logs."""
        for name, batch in list(self.batches.items()):
            if batch.open or batch.closed:
                continue
            if all(message.outcome == "recorded" for message in batch.messages.values()):
                with contextlib.suppress(OSError):
                    if time.time() - batch.reports.stat().st_mtime > PRUNE_SECONDS:
                        shutil.rmtree(batch.folder, ignore_errors=True)
                        del self.batches[name]

    @contextlib.contextmanager
    def submitting(self) -> Iterator[bool]:
        """Lets one process submit at a time; yields False if another is submitting now."""
        heartbeat = Heartbeat(self.folder, witness=self._witness)
        if not heartbeat.take():
            yield False
            return
        try:
            yield True
        finally:
            heartbeat.release()


def _read_batch(path: Path, data: bytes) -> JobArray:
    try:
        values = orjson.loads(data)
        packs = [[str(identity) for identity in pack] for pack in values["packs"]]
        array = None if values["array"] is None else str(values["array"])
        return JobArray(path.parent, packs, array, float(values["submitted"]), str(values["host"]))
    except (ValueError, KeyError, TypeError) as error:
        raise LaunchError(
            f"{path}: damaged ({error}); once `squeue` shows no job named {path.parent.name},"
            " remove the folder"
        ) from None
