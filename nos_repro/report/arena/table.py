"""The table of an arena: one row per algorithm."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import fmean

from nos_repro.report.arena.standing import (
    ArenaStanding,
    Estimated,
    RowStanding,
    mean_of,
    median_of,
    ratio_of_medians,
    share_of,
)
from nos_repro.report.layout import Cell, Column, ReportTable


def arena_table(found: ArenaStanding) -> ReportTable:
    """What each algorithm found at each budget, and how soon."""
    arena = found.arena
    titles = ["algorithm"]
    titles += [f"best at {budget:,}" for budget in arena.budgets]
    titles += [f"rank at {arena.budgets[-1]:,}"]
    for share in arena.top:
        titles += [f"children to the top {share:.1%}", f"found the top {share:.1%}"]
    titles += [f"times {arena.reference}'s", "strings per child", "converged", "seconds"]
    rows = [_row(found, row) for row in found.rows]
    heading = [
        f"The arena {arena.arena}: {arena.task} on the table {arena.table}",
        *([f"Claim: {arena.claim}"] if arena.claim else []),
    ]
    return ReportTable(heading, list(map(Column, titles)), rows, list(_notes(found)))


def _row(found: ArenaStanding, row: RowStanding) -> list[Cell]:
    arena = found.arena
    if not row.records:
        blanks = 5 + len(arena.budgets) + 2 * len(arena.top)
        return [Cell(f"{row.name} (not played)"), *[Cell("")] * blanks]
    cells = [_named(row)]
    for budget in arena.budgets:
        best = list(row.best_at(budget).values())
        cells.append(interval(mean_of(best), ".4f") if row.reaches(budget) else "")
    rank = found.ranks(arena.budgets[-1]).get(row.name)
    cells.append(interval(rank, ".2f") if rank is not None else "")
    n = len(row.records)
    for place in range(len(arena.top)):
        needed = row.needed(place)
        cells.append(interval(median_of(needed), ",.0f"))
        hits = sum(map(math.isfinite, needed))
        cells.append(f"{hits} of {n} {_range(share_of(hits, n), '.0%')}")
    cells.append(_times(found, row))
    drawn = fmean(record["drawn"] / max(1, record["children"]) for record in row.records)
    cells.append(f"{drawn:.2f}")
    converged = sum(record["converged"] is not None for record in row.records)
    cells.append(f"{converged} of {n}")
    cells.append(f"{fmean(record['seconds'] for record in row.records):.2f}")
    return list(map(Cell, cells))


def _named(row: RowStanding) -> str:
    tuned = ", ".join(f"{key} {value:g}" if isinstance(value, int | float) else f"{key} {value}"
                      for key, value in row.tuned.items())  # fmt: skip
    missing = "" if row.complete else f"; {len(row.records)} of {row.wanted} runs"
    return row.name + (f" ({tuned}{missing})" if tuned or missing else "")


def _times(found: ArenaStanding, row: RowStanding) -> str:
    reference = found.reference
    if reference is None or reference is row:
        return ""
    ratio = ratio_of_medians(row.needed(-1), reference.needed(-1))
    return "" if ratio is None else interval(ratio, ".2f")


def interval(estimate: Estimated, form: str) -> str:
    """`0.91 [0.90, 0.92]`; "never" for infinity."""
    return f"{_number(estimate.value, form)} {_range(estimate, form)}"


def _range(estimate: Estimated, form: str) -> str:
    return f"[{_number(estimate.low, form)}, {_number(estimate.high, form)}]"


def _number(value: float, form: str) -> str:
    return "never" if math.isinf(value) else format(value, form)


def _notes(found: ArenaStanding) -> Iterator[str]:
    arena = found.arena
    yield (
        "A child is a distinct rule that is trained; rules that are known or refused are free."
        f" A run ends at {arena.budgets[-1]:,} children, at {arena.draws} strings for each of them,"
        f" or after {arena.patience:,} strings in a row without a new child."
    )
    yield (
        "A search gets the rewards of one seed of the table; best is the mean of the table's other"
        " seeds for the rule that the search would choose, averaged over the runs, with the 95 %"
        " interval of resampling. The tops are by the mean of the other seeds as well."
    )
    yield (
        "Children to the top: the median over all runs, with its exact 95 % interval; a run that"
        " never found one comes last. Rank: of the runs with one seed, 1 is best."
    )
    yield (
        "Converged: the mean reward of the last 100 strings reached that of the best"
        f" {arena.converged:.0%} of the rules. Strings count known and refused rules too."
    )
    tuning = arena.tuning
    if tuning is not None:
        yield (
            f"Each algorithm with a grid was tuned alike, with {tuning.configurations}"
            f" configurations x {tuning.seeds} seeds of {tuning.children} children on"
            f" {tuning.task} of the table {tuning.table}, which does not count; the choice goes by"
            " the mean logarithm of the children to the narrowest top, a failure costing ten"
            " budgets."
        )
    for row in found.rows:
        if row.edges:
            yield f"{row.name}: {' and '.join(row.edges)} at the edge of its grid."
        capped = sum(record["capped"] for record in row.records)
        if capped:
            spent = fmean(r["children"] for r in row.records if r["capped"])
            yield (
                f"{row.name}: {capped} of {len(row.records)} runs ended before their budget, after"
                f" {spent:,.0f} children on average."
            )
        if row.row.note:
            yield f"{row.name}: {row.row.note}"
    if arena.note:
        yield arena.note
    yield from found.problems


def origin_lines(found: ArenaStanding) -> list[str]:
    """Where the numbers come from, and what they cost."""
    records = [record for row in found.rows for record in row.records]
    if not records:
        return []
    seen = [record["provenance"] for record in records if "provenance" in record]
    versions = sorted({f"{n} {v}" for each in seen for n, v in each["libraries"].items()})
    hours = sum(record["seconds"] for record in records) / 3600

    def said(key: str) -> str:
        return ", ".join(sorted({str(each.get(key)) for each in seen}))

    return [
        f"{len(records)} runs, {hours:.2f} processor hours.",
        f"Commit {said('commit')}; {', '.join(versions)}; Python {said('python')}.",
        f"Hardware: {said('device')}; threads: {said('threads')}.",
    ]
