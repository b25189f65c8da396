"""The home of a study's trials: `results/<study>/<scale>/`, plain files, no database, no lock."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from nos_repro.experiments.files import json_line, remove_scratch, write_atomically, write_json
from nos_repro.experiments.heartbeat import Lease, read_lease
from nos_repro.experiments.record import Record, RecordError
from nos_repro.experiments.trial import Trial


class Store:
    """The folder of one study at one scale.

    `trials/<id>/` holds a trial's settings, `metrics.jsonl`, checkpoint, log and, written last,
    `record.json`. `records.jsonl` is the compact form that is committed, one line per record.
    ``problems`` collects what could not be read, one sentence each; nothing is skipped silently.
    """

    def __init__(self, results: Path, study: str, scale: str) -> None:
        self.root = results / study / scale
        self.problems: list[str] = []
        self._compact: dict[str, Record] | None = None
        self._unreadable: list[bytes] = []

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

    def other_settings(self, trial: Trial) -> bool:
        """Whether there is a record under the trial's identity that has other settings."""
        record = self._known(trial)
        return record is not None and not trial.same_settings(record.trial)

    def others(self, known: set[str]) -> Counter[str]:
        """How many committed records of each optimizer there are besides the ``known`` trials'."""
        records = self._compacted().values()
        return Counter(str(r.trial.get("optimizer")) for r in records if r.id not in known)

    def claim(self, trial: Trial) -> Lease | None:
        """The live claim on a trial, if some process works on it now."""
        claim = read_lease(self.folder(trial))
        return claim if claim is not None and claim.alive else None

    def open(self, trial: Trial) -> Path:
        """Makes the trial's folder, with its settings, and returns it."""
        folder = self.folder(trial)
        if not (folder / "settings.json").exists():
            write_json(folder / "settings.json", trial.to_json())
        return folder

    def forget(self, trial: Trial) -> None:
        """Sets a trial back to the start: its record, checkpoint and compact line go."""
        record = self.folder(trial) / "record.json"
        record.unlink(missing_ok=True)
        shutil.rmtree(self.folder(trial), ignore_errors=True)
        if self._compacted().pop(trial.id, None):
            self._write_compact(self._compacted().values())

    def replace(self, *records: Record) -> None:
        """Replaces the older records of the same trials, in full and in compact form."""
        for record in records:
            path = self.folder(record.id) / "record.json"
            if path.exists():
                write_json(path, record.to_json())
        self._compact = None
        thinned = {record.id: record.thinned() for record in records}
        known = {**self._compacted(), **thinned}
        self._write_compact(known.values())
        self._compact = known

    def compact(self, trials: Iterable[Trial]) -> None:
        """Brings `records.jsonl` up to date with the records of ``trials``.

        Lines of other trials stay: what a clone brought is never lost.
        """
        self._compact = None
        records = dict(self._compacted())
        for trial in trials:
            known = self._known(trial)
            if known is not None and known is not records.get(trial.id):
                records[trial.id] = known.thinned()
        self._write_compact(records.values())
        self._compact = records

    def _write_compact(self, records: Iterable[Record]) -> None:
        ordered = sorted(records, key=lambda record: record.id)
        text = "".join(json_line(record.to_json()) for record in ordered).encode()
        text += b"".join(line + b"\n" for line in self._unreadable)
        if not self.compact_path.exists() or self.compact_path.read_bytes() != text:
            remove_scratch(self.root)
            write_atomically(self.compact_path, text)

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
        path = f"{self.root}/trials/{id_}/record.json"  # a Path takes longer to make
        try:
            with open(path, "rb") as file:
                return Record.read(file.read(), path)
        except FileNotFoundError:
            return None
        except (RecordError, OSError) as error:
            message = str(error) if isinstance(error, RecordError) else f"{path}: {error.strerror}"
            self._report(f"{message}; the trial counts as not run, and `run` goes on from its"
                         " checkpoint")  # fmt: skip
            return None

    def _compacted(self) -> dict[str, Record]:
        if self._compact is None:
            self._compact, self._unreadable = {}, []
            for number, line in enumerate(self._lines(), 1):
                self._read_line(line, number)
        return self._compact

    def _lines(self) -> list[bytes]:
        try:
            return self.compact_path.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            self._report(f"{self.compact_path}: {error.strerror}; its records are left out")
            return []

    def _read_line(self, line: bytes, number: int) -> None:
        where = f"{self.compact_path}, line {number}"
        try:
            record = Record.read(line, where)
        except RecordError as error:
            self._unreadable.append(line)
            self._report(f"{error}; left out, the line is kept as it is")
        else:
            assert self._compact is not None
            self._compact[record.id] = record

    def _report(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)
