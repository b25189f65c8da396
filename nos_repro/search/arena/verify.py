"""`arena --verify`: whether today's code still plays what older code played.

A run takes seconds to minutes and there are thousands, but runs that differ by their seeds alone
take the same path through the code. So a few of each kind are played again; if all of them come out
as recorded, every record of that kind is signed with today's code.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from nos_repro.experiments.files import json_line, read_json, write_atomically
from nos_repro.search.arena.complete import Pool, Say, asked_rows
from nos_repro.search.arena.runs import (
    ArenaRun,
    Records,
    RunRecord,
    chosen,
    code_of,
    final_runs,
    key_of_record,
    read_records,
    records_file,
    together,
    tuning_runs,
)
from nos_repro.search.arena.settings import Arena
from nos_repro.search.folder import hold

ORIGIN = ("seconds", "provenance", "code", "verified")
"""The fields of a record that say where it comes from, not what was found."""


def verify_runs(
    arena: Arena,
    results: Path,
    number: int,
    say: Say,
    *,
    workers: int = 1,
    rows: Sequence[str] = (),
) -> bool:
    """Plays ``number`` of the stale runs of each kind again, drawn at random, and signs the kinds
    whose runs all came out as recorded; whether none differed.

    Says of each run that did not what differs. Raises ConfigError if another process is at work,
    RecordError for a damaged file.
    """
    path = records_file(results, arena.arena)
    with hold(path.parent), Pool(workers, results) as pool:
        records = Records(read_records(path))
        kinds = _stale_kinds(arena, rows, records)
        if not kinds:
            say("no run was played by other code")
            return True
        source = random.Random(len(records))
        drawn = [run for kind in kinds for run in source.sample(kind, min(number, len(kind)))]
        say(f"{sum(map(len, kinds)):,} runs of {len(kinds)} kinds were played by other code;"
            f" {len(drawn)} are played again")  # fmt: skip
        wrong = {run for record in pool.play(drawn) for run in _differing(record, records, say)}
        for kind in kinds:
            if not any(run.key in wrong for run in kind):
                for record in records.of(kind):
                    _sign(record, code_of(kind[0]))
        write_atomically(path, "".join(map(json_line, records.by_key.values())).encode())
    right = len(drawn) - len(wrong)
    say(f"{right} of {len(drawn)} runs came out as recorded; their kinds are signed")
    return not wrong


def _stale_kinds(arena: Arena, rows: Sequence[str], records: Records) -> list[list[ArenaRun]]:
    """The runs that other code played, in groups that differ by their seeds alone."""
    runs: dict[str, ArenaRun] = {}
    for row in asked_rows(arena, rows).values():
        played = [run for tried in tuning_runs(arena, row).values() for run in tried]
        section = chosen(arena, row, records)
        played += [] if section is None else final_runs(arena, row, section)
        runs |= {run.key: run for run in played}
    stale = [
        run
        for run in runs.values()
        if any(record["code"] != code_of(run) for record in records.of([run]))
    ]
    return together(stale, len(stale) or 1)


def _differing(now: RunRecord, records: Records, say: Say) -> Iterator[str]:
    """The run's key, if it came out otherwise than its record says; says how."""
    now = read_json(json_line(now).encode())  # as a file would say it
    key = key_of_record(now)
    then = records.by_key[key]
    fields = [name for name in now if name not in ORIGIN and now[name] != then.get(name)]
    if not fields:
        return
    run = now["run"]
    for field in fields:
        say(f"{run['algorithm']['name']}, seed {run['seed']}: {field}: the record says"
            f" {then.get(field)}, now it is {now[field]}")  # fmt: skip
    yield key


def _sign(record: RunRecord, code: str) -> None:
    record["verified"] = [*record.get("verified", []), record["code"]]
    record["code"] = code
