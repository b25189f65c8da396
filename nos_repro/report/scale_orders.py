"""How far each scale of a study can be believed: whether it orders the rows as the paper's numbers
do, and as our own longest runs do, and what that costs.

The scales are those of the study's file and of the table of the paper that it is laid over
(`base`), as far as they have records; `smoke` proves only that everything runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nos_repro.experiments.columns import metric_of
from nos_repro.experiments.files import write_atomically
from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import Outcome
from nos_repro.experiments.settings_file import paper_file, read_values
from nos_repro.report.claims.judge import LEFT_OUT
from nos_repro.report.claims.results import Results
from nos_repro.report.layout import GLUE, Cell, Column, ReportTable
from nos_repro.report.study import protocol
from nos_repro.report.study.order import FEWEST, Tau, kendall
from nos_repro.report.study.rows import is_complete
from nos_repro.report.words import title_of

FILE = "scales.md"
"""Beside the scales' folders, where a study has records at several."""


@dataclass(frozen=True)
class ScaleOrder:
    """One scale: what it trains, its complete rows, its cost in core-hours (of all its trials, and
    of one that counts), and Kendall's tau of its rows' order with the paper's numbers and with the
    order at the dearest scale."""

    study: str
    scale: str
    trains: str
    seeds: int
    rows: int
    core_hours: float
    hours_of_a_run: float
    paper: Tau | None
    dearest: Tau | None
    is_dearest: bool = False


@dataclass(frozen=True)
class ScaleOrders:
    """All scales of a study at which enough rows are complete, the cheapest run first; ``column``
    is the one that is compared."""

    study: str
    column: str
    scales: list[ScaleOrder]


def scale_orders(name: str, found: Results) -> ScaleOrders:
    """Raises what reading a study's file or records raises."""
    column = ""
    known = []
    for study, outcomes in _scales(name, found):
        complete = [outcome for outcome in outcomes if is_complete(outcome)]
        column = column or _column(study)
        runs = [record.seconds for outcome in complete for record in outcome.counting]
        if len(complete) >= FEWEST and runs:
            known.append((sum(runs) / len(runs) / 3600, study, complete))
    known.sort(key=lambda entry: entry[0])
    last = {o.name: _value(o, column, study) for _, study, rows in known[-1:] for o in rows}
    orders = []
    for number, (hours, study, rows) in enumerate(known, 1):
        ours = {outcome.name: _value(outcome, column, study) for outcome in rows}
        printed = {o.name: _sign(column, study) * p for o in rows if (p := o.row.paper.get(column))}
        orders.append(
            ScaleOrder(
                study.study,
                study.scale,
                protocol.short(protocol.settings_of(study)),
                max(len(outcome.counting) for outcome in rows),
                len(rows),
                _core_hours(rows),
                hours,
                _alike(ours, printed),
                None if number == len(known) else _alike(ours, last),
                is_dearest=number == len(known),
            )
        )
    return ScaleOrders(name, column, orders)


def scales_table(found: ScaleOrders) -> ReportTable:
    """A line per scale, the cheapest first."""
    titles = ["scale", "trains", "seeds", "rows", "core-hours", "core-hours per run"]
    titles += ["tau with the paper", "tau with our costliest scale"]
    rows = []
    for order in found.scales:
        name = order.scale if order.study == found.study else f"{order.study} {order.scale}"
        cost = [f"{order.core_hours:.2f}", f"{order.hours_of_a_run:.3g}"]
        dearest = "this one" if order.is_dearest else _words(order.dearest)
        words = [name, order.trains, str(order.seeds), str(order.rows), *cost]
        rows.append([Cell(text) for text in (*words, _words(order.paper), dearest)])
    notes = [
        f"Kendall's tau of the rows' order by {found.column} with its 95 % interval (bootstrap over"
        " the rows); 1: the same order, 0: no relation. The costliest scale is that of our longest"
        " runs.",
        f"A scale counts from {FEWEST} complete rows on.",
    ]
    title = f"{found.study}: how its scales order the rows ({title_of(found.study)})"
    return ReportTable([title], list(map(Column, titles)), rows, notes)


def write_orders(found: ScaleOrders, root: Path) -> Path:
    path = root / found.study / FILE
    write_atomically(path, (scales_table(found).markdown() + "\n").encode())
    return path


def _scales(name: str, found: Results) -> Iterator[tuple[Study, Sequence[Outcome]]]:
    """The study at each of its scales, then the paper's table that it is laid over."""
    names = [name]
    below = paper_file(found.files[name])
    if below is not None:
        names.append(str(read_values(below)["study"]))
    for each in dict.fromkeys(names):
        for scale in found.scales(each):
            if scale != LEFT_OUT:
                study, rows = found.study(each, scale)
                yield study, list(rows.values())


def _column(study: Study) -> str:
    """The one that chooses the rates, if the paper prints it, else the first one that it prints."""
    printed = {column for row in study.rows.values() for column in row.paper}
    own = [column for column in (study.selection.by, *study.columns) if column in printed]
    return (own or list(study.columns))[0]


def _sign(column: str, study: Study) -> float:
    return metric_of(study.task["name"], column).sign


def _value(outcome: Outcome, column: str, study: Study) -> float:
    number = outcome.number(column)
    return math.nan if number is None else _sign(column, study) * number.mean


def _core_hours(rows: Sequence[Outcome]) -> float:
    records = {record.id: record for outcome in rows for record in outcome.records}
    return math.fsum(record.seconds for record in records.values()) / 3600


def _alike(ours: dict[str, float], theirs: dict[str, float]) -> Tau | None:
    pairs = [(ours[row], theirs[row]) for row in ours if row in theirs]
    pairs = [pair for pair in pairs if all(map(math.isfinite, pair))]
    return kendall(pairs) if len(pairs) >= FEWEST else None


def _words(tau: Tau | None) -> str:
    if tau is None:
        return "-"
    return f"{tau.value:.2f}{GLUE}[{tau.low:.2f},{GLUE}{tau.high:.2f}]"
