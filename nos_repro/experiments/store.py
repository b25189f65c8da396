"""The home of a study's trials: `results/<study>/<scale>/`, plain files, no database."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nos_repro.experiments.files import (
    StoreError,
    file_names,
    is_there,
    json_line,
    read_file,
    remove_scratch,
    rename,
    write_atomically,
    write_json,
)
from nos_repro.experiments.heartbeat import Lease, alone, live_leases
from nos_repro.experiments.record import Record, RecordError
from nos_repro.experiments.trial import Trial

LOCK = ".records.lock"
"""The claim of the process that changes `records.jsonl`: others wait, and then change what is there
by then."""


class Store:
    """The folder of one study at one scale.

    `trials/<id>/` holds a trial's settings, `metrics.jsonl`, checkpoint, log and, written last,
    `record.json`. `records.jsonl` is the compact form that is committed, one line per record.
    ``problems`` collects what is damaged, one sentence each; nothing is skipped silently. What the
    system does not let it read raises StoreError, and then nothing is written.
    """

    def __init__(self, results: Path, study: str, scale: str) -> None:
        self.root = results / study / scale
        self.problems: list[str] = []
        self._compact: dict[str, Record] | None = None
        self._unreadable: list[bytes] = []
        self._begun: set[str] | None = None

    @property
    def compact_path(self) -> Path:
        return self.root / "records.jsonl"

    def folder(self, trial: Trial | str) -> Path:
        return self.root / "trials" / (trial if isinstance(trial, str) else trial.id)

    def record(self, trial: Trial) -> Record | None:
        """The record of exactly this trial; None if it has none (or its meaning has changed)."""
        record = self._known(trial)
        if record is None or not trial.same_settings(record.trial):
            return None
        return record

    @contextmanager
    def at_one_moment(self) -> Iterator[None]:
        """Within, this machine's own records are sought in the folders that there are now: one look
        instead of one per trial."""
        with suppress(StoreError):
            self._begun = set(file_names(self.root / "trials"))
        try:
            yield
        finally:
            self._begun = None

    def other_settings(self, trial: Trial) -> bool:
        """Whether there is a record under the trial's identity that has other settings."""
        record = self._known(trial)
        return record is not None and not trial.same_settings(record.trial)

    def others(self, known: set[str]) -> Counter[str]:
        """How many committed records of each optimizer there are besides the ``known`` trials'."""
        records = self._compacted().values()
        return Counter(str(r.trial.get("optimizer")) for r in records if r.id not in known)

    def claims(self, trials: Iterable[Trial]) -> dict[str, Lease]:
        """The live claims on trials, by their ids: some process works on them now (see
        `live_leases`)."""
        folders = {self.folder(trial): trial.id for trial in trials}
        return {folders[path]: lease for path, lease in live_leases(folders).items()}

    def open(self, trial: Trial) -> Path:
        """Makes the trial's folder, with its settings, and returns it."""
        folder = self.folder(trial)
        remove_scratch(folder)
        if not is_there(folder / "settings.json"):
            write_json(folder / "settings.json", trial.to_json())
        return folder

    def retry(self, trial: Trial) -> None:
        """Lets a trial that has failed go on from its checkpoint: its compact line goes, its record
        is kept for reading as `record.failed.1.json`, or the next free number."""
        self._change(lambda records: {k: r for k, r in records.items() if k != trial.id})
        folder = self.folder(trial)
        if is_there(folder / "record.json"):
            names = (folder / f"record.failed.{n}.json" for n in itertools.count(1))
            rename(folder / "record.json", next(name for name in names if not is_there(name)))

    def replace(self, *records: Record) -> None:
        """Replaces the older records of the same trials, in full and in compact form."""
        self._compact = None
        self._compacted()  # if that fails, nothing is replaced
        for record in records:
            path = self.folder(record.id) / "record.json"
            if is_there(path):
                write_json(path, record.to_json())
        thinned = {record.id: record.thinned() for record in records}
        self._change(lambda known: {**known, **thinned})

    def compact(self, trials: Iterable[Trial]) -> None:
        """Brings `records.jsonl` up to date with the records of ``trials``.

        Lines of other trials stay: what a clone or another process brought is never lost.
        """
        known = list(trials)
        self._change(lambda records: self._with_records_of(known, records))

    def _with_records_of(
        self, trials: Iterable[Trial], records: dict[str, Record]
    ) -> dict[str, Record]:
        changed = dict(records)
        for trial in trials:
            known = self._known(trial)
            if known is not None and known is not records.get(trial.id):
                changed[trial.id] = known.thinned()
        return changed

    def _change(self, change: Callable[[dict[str, Record]], dict[str, Record]]) -> None:
        """Changes the lines of `records.jsonl` as they are on disk now.

        If there is nothing to change, the folder may be read-only.
        """
        self._compact = None
        if self._text(change(self._compacted())) == read_file(self.compact_path):
            return
        with alone(self.root, LOCK):
            self._compact = None
            records = change(self._compacted())
            remove_scratch(self.root)
            write_atomically(self.compact_path, self._text(records))
            self._compact = records

    def _text(self, records: dict[str, Record]) -> bytes:
        ordered = sorted(records.values(), key=lambda record: record.id)
        text = "".join(json_line(record.to_json()) for record in ordered).encode()
        return text + b"".join(line + b"\n" for line in self._unreadable)

    def _known(self, trial: Trial) -> Record | None:
        """This machine's record, unless it is one of a pause and the committed one got further."""
        own, committed = self._own(trial.id), self._compacted().get(trial.id)
        if own is None or committed is None:
            return own or committed
        further = not committed.partial or committed.epoch > own.epoch
        if own.partial and further and committed.status != "failed":
            return committed if trial.same_settings(committed.trial) else own
        return own

    def _own(self, id_: str) -> Record | None:
        if self._begun is not None and id_ not in self._begun:
            return None
        path = f"{self.root}/trials/{id_}/record.json"  # a Path takes longer to make
        data = self._read(path)
        try:
            return None if data is None else Record.read(data, path)
        except RecordError as error:
            self._report(f"{error}; the trial counts as not run, and `run` goes on from its"
                         " checkpoint")  # fmt: skip
            return None

    def _compacted(self) -> dict[str, Record]:
        if self._compact is None:
            data = self._read(self.compact_path) or b""
            self._compact, self._unreadable = {}, []
            where = f"{self.compact_path}, line"
            for number, line in enumerate(_lines(data), 1):
                self._read_line(line, f"{where} {number}")
        return self._compact

    def _read(self, path: Path | str) -> bytes | None:
        """The content of a file; a folder in its place is named and holds nothing."""
        try:
            return read_file(path)
        except StoreError:
            if not os.path.isdir(path):
                raise
            self._report(f"{path}: Is a directory; it is left out")
            return None

    def _read_line(self, line: memoryview, where: str) -> None:
        try:
            record = Record.read(line, where)
        except RecordError as error:
            self._unreadable.append(bytes(line))
            self._report(f"{error}; left out, the line is kept as it is")
        else:
            assert self._compact is not None
            self._compact[record.id] = record.shed(line)

    def _report(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)


def _lines(data: bytes) -> Iterator[memoryview]:
    """The lines, without a copy of them: there may be hundreds of megabytes."""
    view, start = memoryview(data), 0
    while start < len(data):
        end = data.find(b"\n", start)
        end = len(data) if end < 0 else end
        yield view[start:end]
        start = end + 1
