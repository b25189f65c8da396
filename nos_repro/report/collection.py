"""Everything in a results folder, read once: every study and search that has records, and the
claims. Unreadable parts are reported and skipped."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nos_repro.errors import ConfigError, NosError
from nos_repro.experiments.device import CHECKS
from nos_repro.experiments.files import StoreError, write_atomically
from nos_repro.experiments.layers import scales_of
from nos_repro.experiments.record import Record
from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import Outcome
from nos_repro.experiments.settings_file import TABLES, is_search, read_values
from nos_repro.experiments.store import Store
from nos_repro.report.arena.files import arena_of, begun_arenas, write_arena
from nos_repro.report.arena.standing import ArenaStanding
from nos_repro.report.board.files import write_board
from nos_repro.report.board.standing import BoardStanding, begun_boards, board_standing
from nos_repro.report.claims.evidence import Finding
from nos_repro.report.claims.judge import Judged, judge_claim, own_claims
from nos_repro.report.claims.listed import Claim, beyond, claims
from nos_repro.report.claims.page import claims_file
from nos_repro.report.claims.results import Results
from nos_repro.report.documents.base import Document
from nos_repro.report.nosbench.card import write_card
from nos_repro.report.paths import by_name, config_words
from nos_repro.report.scale_orders import ScaleOrders, scale_orders, write_orders
from nos_repro.report.search.files import write_search_report
from nos_repro.report.search.history import History
from nos_repro.report.study.duels import read_duels
from nos_repro.report.study.files import write_report
from nos_repro.report.study.rows import is_complete
from nos_repro.report.study.verdict import CellVerdict, judge_study
from nos_repro.search.arena.runs import FOLDER as ARENA
from nos_repro.search.table.loaded import RuleTable, load

BENCH = "bench"
"""The folder of the benchmarks; it is not a study."""


@dataclass(frozen=True)
class FoundStudy:
    """A study at a scale, its rows, and the verdicts on its cells."""

    study: Study
    rows: list[Outcome]
    store: Store
    verdicts: list[CellVerdict]

    @functools.cached_property
    def records(self) -> list[Record]:
        """The records of all trials, each once: rows may share one."""
        return list({record.id: record for row in self.rows for record in row.records}.values())

    @functools.cached_property
    def duels(self) -> list[Document]:
        """The duels that are stored beside the records; what is wrong with one is a problem of the
        store."""
        return list(read_duels(self.store.root, self.store.problems))

    @property
    def complete(self) -> int:
        """Rows whose every trial has finished."""
        return sum(map(is_complete, self.rows))

    @functools.cached_property
    def core_hours(self) -> float:
        return sum(r.seconds * threads_of(r.provenance) for r in self.records) / 3600


def threads_of(provenance: Mapping[str, Any]) -> int:
    """1 where the provenance has no number of threads."""
    threads = provenance.get("threads")
    return threads if isinstance(threads, int) else 1


@dataclass
class Collection:
    """``files`` state the studies and searches, by their names, and ``claims_from`` claims of a
    user's own. ``left_out`` says what of the
    folder is not shown, and ``broken`` whether any of that should be: it has a file of settings
    and could not be read."""

    root: Path
    files: Mapping[str, Path]
    claims_from: Path | None = None
    studies: list[FoundStudy] = field(default_factory=list)
    searches: list[History] = field(default_factory=list)
    arenas: list[ArenaStanding] = field(default_factory=list)
    boards: list[BoardStanding] = field(default_factory=list)
    tables: list[RuleTable] = field(default_factory=list)
    orders: list[ScaleOrders] = field(default_factory=list)
    """Of the studies that have records at several scales."""
    judged: list[Judged] = field(default_factory=list)
    beyond: list[Judged] = field(default_factory=list)
    """What the papers hope for and do not try."""
    left_out: list[str] = field(default_factory=list)
    broken: bool = False

    @property
    def papers_claims(self) -> list[Judged]:
        papers = {claim.id for claim in claims()}
        return [each for each in self.judged if each.claim.id in papers]

    @property
    def problems(self) -> list[str]:
        """What could not be read in studies and searches that are shown."""
        own = [problem for found in self.studies for problem in found.store.problems]
        return own + [problem for history in self.searches for problem in history.problems]

    def words(self, name: str, scale: str) -> str:
        """The words that name this study or search on a command line."""
        return f"{config_words(self.files[name])} --scale {scale}"

    @contextmanager
    def apart(
        self, name: str, scale: str = "", *, but: tuple[type[Exception], ...] = ()
    ) -> Iterator[None]:
        """Whatever goes wrong within is reported under the name of the study or search, and the
        rest goes on; ``but`` is raised."""
        try:
            yield
        except but:
            raise
        except Exception as error:  # noqa: BLE001 whatever is odd or damaged, the rest is shown
            self.leave_out(f"{name}, scale {scale}" if scale else name, error)

    def leave_out(self, what: str, error: Exception) -> None:
        """Says that ``what`` cannot be shown, and why."""
        self.left_out.append(f"{what}: {self.said(error)}")
        self.broken = True

    def said(self, error: Exception) -> str:
        """An error on one line, with folders by their names, since a page is read elsewhere too."""
        text = str(error) if isinstance(error, NosError) else f"{type(error).__name__}: {error}"
        folders = {path.parent for path in self.files.values()}
        return " ".join(by_name(text, self.root, *folders).split())


def read_collection(results: Results, own: Path | None = None) -> Collection:
    """Every study and search of ``results.files``, at every scale that has anything. ``own`` is a
    file of claims beside the papers'. Raises ConfigError for that one."""
    collection = Collection(results.root, results.files, own)
    listed = [*claims(), *_own_claims(own, results)]
    for name, path in results.files.items():
        try:
            scales = results.scales(name)
        except NosError as error:
            collection.leave_out(name, error)
            continue
        for scale in scales:
            with collection.apart(name, scale):
                if is_search(path):
                    collection.searches.append(results.history(name, scale))
                else:
                    collection.studies.append(_study(results, name, scale))
    for name in dict.fromkeys(found.study.study for found in collection.studies):
        with collection.apart(name):
            orders = scale_orders(name, results)
            if len(orders.scales) > 1:
                collection.orders.append(orders)
    for name in begun_arenas(results.root):
        with collection.apart(f"{ARENA}/{name}"):
            collection.arenas.append(arena_of(name, results.root))
    for names, scale in begun_boards(results):
        with collection.apart(f"board {names[0]}", scale):
            collection.boards.append(board_standing(results, names, scale))
    for path in sorted((results.root / TABLES).glob("*/table.json")):
        with collection.apart(f"{TABLES}/{path.parent.name}"):
            collection.tables.append(load(path.parent))
    collection.left_out += _strangers(results)
    collection.judged = [_judged(claim, results, collection) for claim in listed]
    collection.beyond = [_judged(claim, results, collection) for claim in beyond()]
    return collection


def _own_claims(own: Path | None, results: Results) -> Sequence[Claim]:
    listed = () if own is None else own_claims(own, results)
    shipped = {claim.id for claim in (*claims(), *beyond())}
    for claim in listed:
        if claim.id in shipped:
            raise ConfigError(f"{own}: claim {claim.id}: the papers' list has one of that name")
    return listed


def _study(results: Results, name: str, scale: str) -> FoundStudy:
    study, rows = results.study(name, scale)
    outcomes = list(rows.values())
    return FoundStudy(study, outcomes, results.store(name, scale), judge_study(study, outcomes))


def _strangers(results: Results) -> Iterator[str]:
    """Folders that belong to no file of settings."""
    known = results.files
    folders = sorted(path for path in results.root.glob("*") if path.is_dir())
    for folder in folders:
        if folder.name in known:
            yield from _strange_scales(results, folder)
        elif folder.name not in (BENCH, CHECKS, ARENA, TABLES) and not folder.name.startswith("."):
            yield (
                f"{folder.name}: no study or search of that name ships with the suite; `report"
                " --all CONFIG` shows one of your own too"
            )


def _strange_scales(results: Results, folder: Path) -> Iterator[str]:
    file = results.files[folder.name]
    try:
        known, shown = scales_of(read_values(file)), results.scales(folder.name)
    except NosError as error:
        yield f"{folder.name}: {error}"
        return
    for scale in sorted(path.name for path in folder.iterdir() if path.is_dir()):
        if scale not in known:
            yield f"{folder.name}/{scale}: {file.name} has no scale '{scale}'"
        elif scale not in shown:
            yield f"{folder.name}/{scale}: has no records"


def _judged(claim: Claim, results: Results, collection: Collection) -> Judged:
    """A claim whose records cannot be read has no verdict; the others keep theirs."""
    try:
        return Judged(claim, judge_claim(claim, results))
    except Exception as error:  # noqa: BLE001 as in `apart`
        said = collection.said(error)
        if not any(line.endswith(said) for line in collection.left_out):  # many claims, one file
            collection.leave_out(f"claim {claim.id}", error)
        why = f"its records cannot be read: {said}"
        return Judged(claim, [Finding("-", "not run", why)])


def summary(collection: Collection) -> list[str]:
    """One line per study, search, arena, board or table of rules."""
    words = [
        (found.study.study, found.study.scale, _study_words(found)) for found in collection.studies
    ]
    words += [
        (history.asked.search, history.asked.scale,
         f"{history.asked.budget.words(history.tally)} have a reward")
        for history in collection.searches
    ]  # fmt: skip
    words += [
        (f"{ARENA}/{each.arena.arena}", "any",
         f"{sum(row.complete for row in each.rows)} of {len(each.rows)} algorithms played")
        for each in collection.arenas
    ]  # fmt: skip
    words += [
        (f"board {each.lead}", each.scale,
         f"{len(each.counted)} of {len(each.tasks)} tasks have a target,"
         f" {sum(row.score is not None for row in each.rows)} of {len(each.rows)} rows a score")
        for each in collection.boards
    ]  # fmt: skip
    words += [
        (f"{TABLES}/{table.name}", table.packed.settings["scale"],
         f"{len(table.rules):,} rules, {sum(map(len, table.packed.rows.values())):,} rows of"
         f" {', '.join(table.tasks) or 'no task'}")
        for table in collection.tables
    ]  # fmt: skip
    if not words:
        return [f"nothing under {collection.root} yet"]
    wide, high = (max(len(word[part]) for word in words) for part in (0, 1))
    return [f"{name:<{wide}}  {scale:<{high}}  {said}" for name, scale, said in words]


def _study_words(found: FoundStudy) -> str:
    kinds = [record.status for record in found.records]
    lost = [f"{kinds.count(kind)} {kind}" for kind in ("diverged", "failed") if kind in kinds]
    stale = sum(row.stale for row in found.rows)
    more = lost + ([f"{stale} rows stale"] if stale else [])
    return (
        f"{found.complete} of {len(found.rows)} rows complete, {len(kinds)} trials"
        f"{''.join(f', {each}' for each in more)}, {found.core_hours:.2f} core-hours"
    )


def write_collection(collection: Collection) -> Iterator[Path]:
    """Writes the tables and figures of every study, search, arena and board beside its records, and
    the claims where all their records could be read. What cannot be written is reported and
    skipped. Raises StoreError where the disk refuses, for it would
    refuse the rest too."""
    for found in collection.studies:
        with collection.apart(found.study.study, found.study.scale, but=(StoreError,)):
            yield from write_report(found.study, found.rows, found.store.root)
    for orders in collection.orders:
        with collection.apart(orders.study, but=(StoreError,)):
            yield write_orders(orders, collection.root)
    for history in collection.searches:
        with collection.apart(history.asked.search, history.asked.scale, but=(StoreError,)):
            yield from write_search_report(history)
    for standing in collection.arenas:
        with collection.apart(f"{ARENA}/{standing.arena.arena}", but=(StoreError,)):
            yield from write_arena(standing)
    for board in collection.boards:
        with collection.apart(f"board {board.lead}", board.scale, but=(StoreError,)):
            yield from write_board(board)
    for table in collection.tables:
        with collection.apart(f"{TABLES}/{table.folder.name}", but=(StoreError,)):
            write_card(table.folder)
            yield table.folder / "README.md"
    if not collection.broken:
        path = collection.root / "claims.md"
        write_atomically(path, claims_file(collection.papers_claims, collection.beyond))
        yield path
