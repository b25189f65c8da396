"""Plays the runs of an arena that have no record yet, in a few processes.

A record is appended as soon as its run ends: whatever is killed loses the runs under way alone.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import active_children, get_context
from pathlib import Path

from nos_repro.errors import ConfigError
from nos_repro.experiments.files import json_line, unwritable
from nos_repro.extras import installed_versions
from nos_repro.launch.watch import leave_with_parent
from nos_repro.search.arena.play import ground_of, open_table, play
from nos_repro.search.arena.runs import (
    ArenaRun,
    Records,
    RunRecord,
    chosen,
    code_of,
    final_runs,
    read_records,
    records_file,
    together,
    tuning_runs,
)
from nos_repro.search.arena.settings import Arena, Contestant
from nos_repro.search.folder import hold

SIDE_BY_SIDE = 8
"""Policy gradients of so many seeds are played together: their weights stay in the processor's
cache."""
LIBRARIES = ("numpy", "optuna", "torch")
Say = Callable[[str], None]


def complete(
    arena: Arena,
    results: Path,
    say: Say,
    *,
    workers: int = 1,
    rows: Sequence[str] = (),
    again: bool = False,
) -> Records:
    """Tunes, then plays; returns all records.

    rows: only these; again: runs that were played by other code are played once more. Raises
    ConfigError if another process is at work or a table lacks what is to be searched, DataError for
    a table that is not there, RecordError for a damaged file.
    """
    path = records_file(results, arena.arena)
    contestants = asked_rows(arena, rows)
    _check_tables(arena, results)
    with hold(path.parent), Pool(workers, results) as pool:
        _cut_torn_line(path)
        records = Records(read_records(path))
        tuning = [
            run
            for row in contestants.values()
            for tried in tuning_runs(arena, row).values()
            for run in tried
        ]
        _complete(path, records, tuning, pool, say, "tuning", again)
        final = []
        for row in contestants.values():
            section = chosen(arena, row, records)
            assert section is not None, "every tuning run has its record"
            final.append(final_runs(arena, row, section))
        _complete(path, records, _by_seed(final), pool, say, "final", again)
    return records


def _check_tables(arena: Arena, results: Path) -> None:
    """Raises ConfigError if a table does not have the task, or no seed of it that trained every
    rule: only such a seed can reward a search."""
    import numpy as np

    asked = {"": (arena.table, arena.task)}
    if arena.tuning is not None and any(row.grid for row in arena.contestants().values()):
        asked["tuning."] = arena.tuning.table, arena.tuning.task
    for where, (name, task) in asked.items():
        table = open_table(name, results)
        try:
            seeds = table.seeds(task)
        except KeyError as error:
            raise ConfigError(f"{where}task: {error.args[0]}") from None
        if all(np.isnan(table.rewards(task, seed)).any() for seed in seeds):
            raise ConfigError(
                f"{where}task: no seed of {task} has trained every rule of the table {name} yet\n"
                "  train what is missing: python -m nos_repro table CONFIG"
            )


def asked_rows(arena: Arena, rows: Sequence[str]) -> dict[str, Contestant]:
    """The rows of these names; all of them if none is named."""
    return {name: row for name, row in arena.contestants().items() if not rows or name in rows}


def _by_seed(rows: Sequence[Sequence[ArenaRun]]) -> list[ArenaRun]:
    """The first seed of every row, then the second: what is there at any moment is comparable."""
    longest = max((len(runs) for runs in rows), default=0)
    return [runs[seed] for seed in range(longest) for runs in rows if seed < len(runs)]


def _complete(
    path: Path,
    records: Records,
    runs: Iterable[ArenaRun],
    pool: Pool,
    say: Say,
    part: str,
    again: bool,
) -> None:
    asked = list({run.key: run for run in runs}.values())
    known = {run.key for run in asked if records.of([run])}
    stale = {r.key for r in asked if r.key in known and records.of([r])[0]["code"] != code_of(r)}
    if stale and not again:
        say(f"{part}: {len(stale)} runs were played by other code and are kept;"
            " --verify 1 plays one of each kind again and signs them, --again all")  # fmt: skip
    other = {r.key for r in asked if r.key in known and not _fits(pool, r, records.of([r])[0])}
    if other and not again:
        say(f"{part}: {len(other)} runs were played on the table before it got other rows and are"
            " kept; they do not compare with new ones: --again plays them again")  # fmt: skip
    stale |= other
    missing = [run for run in asked if run.key not in known or (again and run.key in stale)]
    say(f"{part}: {len(asked)} runs, {len(missing)} to play")
    for number, record in enumerate(pool.play(missing), 1):
        _append(path, record)
        records.add(record)
        if number % max(1, len(missing) // 20) == 0 or number == len(missing):
            say(f"{part}: {number} of {len(missing)}")


def _fits(pool: Pool, run: ArenaRun, record: RunRecord) -> bool:
    """Whether the table as it is now has the rewards that a record tells of: a seed that is added
    to a table changes which seed rewards a run, and what the others say of a rule."""
    ground = ground_of(open_table(run.table, pool.results), run)
    if record.get("table_seed") != ground.own:
        return False
    told = [(reward, judged, int(rule)) for _, reward, judged, rule in record["best"]]
    return all(
        rule < len(ground.rewards)
        and reward == round(ground.rewards[rule], 6)
        and judged == round(ground.judged[rule], 6)
        for reward, judged, rule in told
    )


class Pool:
    """A few processes, each with one thread; with one worker, this process itself."""

    def __init__(self, workers: int, results: Path) -> None:
        self.results = results
        self._pool = (
            ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_begin)
            if workers > 1
            else None
        )

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        """After an error or Ctrl-C the runs under way are dropped: nobody would read them."""
        if self._pool is not None:
            if error is not None:
                for worker in active_children():
                    worker.terminate()
            self._pool.shutdown(cancel_futures=True)

    def play(self, runs: Sequence[ArenaRun]) -> Iterator[RunRecord]:
        """The records, as they come."""
        groups = together(runs, SIDE_BY_SIDE)
        if self._pool is None:
            _one_thread()
            for group in groups:
                yield from _played(group, self.results)
            return
        waiting = [self._pool.submit(_played, group, self.results) for group in groups]
        for future in as_completed(waiting):
            yield from future.result()


def _begin() -> None:
    """Of each worker: it ends when the arena does, however that ends."""
    threading.Thread(target=leave_with_parent, daemon=True).start()
    _one_thread()


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _played(runs: Sequence[ArenaRun], results: Path) -> list[RunRecord]:
    from nos_repro.experiments.provenance import provenance

    records = play(runs, open_table(runs[0].table, results))
    origin = {**provenance("cpu"), "libraries": installed_versions(LIBRARIES)}
    return [{**record, "code": code_of(runs[0]), "provenance": origin} for record in records]


def _append(path: Path, record: RunRecord) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(json_line(record).encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise unwritable(path, error) from None


def _cut_torn_line(path: Path) -> None:
    """A process that was killed may have left half a line."""
    if not path.exists():
        return
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        os.truncate(path, whole)
