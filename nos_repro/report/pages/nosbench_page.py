"""The page of a table of rules, as plain data: what it says, and its best rules to sort and
filter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nos_repro.experiments.settings_file import TABLES
from nos_repro.report.documents.nosbench import nosbench_document
from nos_repro.report.layout import Cell, Column, ReportTable
from nos_repro.report.nosbench.tables import nosbench_tables
from nos_repro.report.pages.page import commands
from nos_repro.report.pages.search_page import SearchPage
from nos_repro.report.pages.tables import page_table
from nos_repro.report.paths import file_of
from nos_repro.search.table.analysis import Analysis, analyse
from nos_repro.search.table.loaded import RuleTable

MOST_ROWS = 1500
"""Rules that a page lists: all of a small space, the best of a larger one."""


@dataclass(frozen=True)
class TableLine:
    """What the index says of a table of rules."""

    title: str
    page: str
    about: str
    words: str


def page_file(table: RuleTable) -> str:
    """The file name of a table's page: `nosbench-signs-full.html`."""
    return file_of(f"{TABLES}-{table.name}", table.packed.settings["scale"])


def table_line(table: RuleTable) -> TableLine:
    """The line of the index."""
    rows = sum(map(len, table.packed.rows.values()))
    words = f"{len(table.rules):,} rules; {', '.join(table.tasks) or 'no task'}; {rows:,} rows"
    return TableLine(f"NOS-Bench: {table.name}", page_file(table), table.packed.about, words)


def nosbench_page(
    table: RuleTable, words: str, *, results: Path = Path("results"), index: str = ""
) -> SearchPage:
    """``words`` name the table on a command line."""
    found = analyse(table)
    first, *others = nosbench_tables(found)
    tables = [_named(first, "Tasks"), *others, _rules(found)]
    sort = {len(tables) - 1: (1, True)}
    return SearchPage(
        document=nosbench_document(found),
        name=page_file(table).removesuffix(".html"),
        title=f"NOS-Bench: {table.name}",
        scale=table.packed.settings["scale"],
        source="",
        papers=False,
        says="",
        heading=[*first.heading, table.packed.about],
        problems=[],
        course=None,
        picture=None,
        tables=[page_table(each, sort.get(number)) for number, each in enumerate(tables)],
        origin=[
            f"{made.get('task', '')}: code {made.get('code', '')}, {made.get('device', '')},"
            f" Python {made.get('python', '')}"
            for made in table.packed.made
        ],
        commands=commands("table", words, results, page_file(table)),
        index=index,
    )


def _named(table: ReportTable, name: str) -> ReportTable:
    return ReportTable([name], table.columns, table.rows, table.notes)


def _rules(found: Analysis) -> ReportTable:
    """Rules with the mean rewards of every task, the best of the dearest task first."""
    table = found.table
    means = {
        task.task: _mean(np.stack([table.rewards(task.task, seed) for seed in task.seeds]))
        for task in reversed(found.tasks)
    }
    first = next(iter(means.values()), np.zeros(len(table.rules)))
    order = np.argsort(-first, kind="stable")[:MOST_ROWS]
    rows = [
        [
            Cell(table.rules[number].text),
            *(Cell(f"{values[number]:.4f}".replace("nan", "")) for values in means.values()),
            Cell(f"{table.rules[number].strings:,}"),
            Cell(table.rules[number].refused),
        ]
        for number in order
    ]
    shown = f"the best {MOST_ROWS:,} of " if len(table.rules) > MOST_ROWS else ""
    titles = ["rule", *(f"mean reward, {task}" for task in means), "strings", "refused"]
    return ReportTable(
        [f"Rules: {shown}{len(table.rules):,}"], [Column(title) for title in titles], rows
    )


def _mean(rewards: np.ndarray) -> np.ndarray:
    """The mean over the seeds that trained a rule, of [seeds, rules]; NaN where none did."""
    known = np.isfinite(rewards)
    count = known.sum(axis=0)
    mean = np.where(known, rewards, 0.0).sum(axis=0) / np.maximum(count, 1)
    return np.where(count > 0, mean, np.nan)
