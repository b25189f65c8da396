"""Whether a cell of a paper's table was reproduced: the rule, and its verdict on every cell.

The difference is ours less the paper's. Its 95 % interval is Student's, with our runs' spread for
both sides (no paper prints one): over our ``n`` runs and the ``runs`` behind the paper's number,
wider by half of its last printed digit. Against a tolerance that is declared beforehand:

- it lies within the tolerance and holds 0: `reproduced`;
- it lies within the tolerance, without 0: `within tolerance`, a real difference, and a small one;
- it lies beyond the tolerance: `differs`;
- it reaches over the tolerance's edge: `inconclusive`, with how many more seeds would decide.

So a true difference beyond the tolerance is called one within it in at most 2.5 % of all cases,
and the other way round.
A cell at any scale but `paper`, or with other settings than the file's own `paper`, has no verdict.
Settings that change the speed alone do not count, and the precision is said beside the verdict;
`precision` tests whether it matters.
"""

from __future__ import annotations

import bisect
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, get_args

from nos_repro.experiments.columns import STATE, metric_of
from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import Outcome, SampleMean
from nos_repro.report.statistics import quantile
from nos_repro.report.study import protocol
from nos_repro.report.study.rows import values_per_parameter
from nos_repro.tasks.metrics import Metric

Verdict = Literal[
    "reproduced",
    "within tolerance",
    "differs",
    "inconclusive",
    "diverged",
    "not run",
    "not comparable (scale)",
]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
MOST_SEEDS = 1000


# fmt: off
PAGES = {    # of the PDF; our text of 002 has no page numbers
    "000 Figure 4": 5, "000 Figure 5": 5, "000 Figure 6": 6, "000 Figure 7": 6,
    "000 Table 1":  7, "000 Table 2":  8,
}
# fmt: on


@dataclass(frozen=True)
class Interval:
    """Of a mean, or of a difference, at 95 %."""

    low: float
    high: float


@dataclass(frozen=True)
class CellVerdict:
    """A cell of a table: the paper's value and ours, and what their difference says.

    ``place``: the paper's table, row and column, with the page where it is known. ``interval`` is
    of our mean, ``difference`` and ``difference_interval`` of ours less the paper's; None where
    there is none. ``metric`` is None for the optimizer's state. ``more_seeds`` would decide what
    is inconclusive if the mean and the spread stayed as they are; None where that many would not,
    or where it is decided. ``precision`` is that of both sides; None without a number of ours.
    """

    row: str
    column: str
    title: str
    place: str
    verdict: Verdict
    reason: str
    paper: float
    metric: Metric | None = None
    ours: SampleMean | None = None
    interval: Interval | None = None
    difference: float | None = None
    difference_interval: Interval | None = None
    tolerance: float | None = None
    more_seeds: int | None = None
    stale: bool = False
    precision: protocol.Precision | None = None


@dataclass(frozen=True)
class PrintedNumber:
    """A number as a paper prints it, the runs it is a mean of, half of its last printed digit."""

    value: float
    runs: int = 1
    rounding: float = 0.0


def half_width(std: float, n: int, runs: int, rounding: float = 0.0) -> float:
    """Half the width of the difference's interval; NaN for fewer than two runs."""
    return quantile(n - 1) * std * math.sqrt(1 / n + 1 / runs) + rounding


def classify(low: float, high: float, tolerance: float) -> Verdict:
    """The verdict on an interval of the difference."""
    if -tolerance <= low and high <= tolerance:
        return "reproduced" if low <= 0 <= high else "within tolerance"
    return "differs" if low > tolerance or high < -tolerance else "inconclusive"


def more_seeds(number: SampleMean, printed: PrintedNumber, tolerance: float) -> int | None:
    """How many more runs would decide if mean and spread stayed as they are; None for more than
    MOST_SEEDS. A single run has no spread: one more is the least."""
    if number.n < 2:
        return 2 - number.n
    difference = number.mean - printed.value

    def decided(extra: int) -> bool:
        half = half_width(number.std, number.n + extra, printed.runs, printed.rounding)
        return classify(difference - half, difference + half, tolerance) != "inconclusive"

    # an interval narrows with every run, and one that decides does so for good
    least = bisect.bisect_left(range(1, MOST_SEEDS + 1), True, key=decided) + 1
    return least if least <= MOST_SEEDS else None


def judge_study(study: Study, outcomes: Sequence[Outcome]) -> list[CellVerdict]:
    """A verdict on every cell of the study that the paper prints, in the table's order."""
    changed = protocol.differences(study)
    rounding = {column: _rounding(study, column) for column in study.columns}
    return [
        _judge_cell(
            study,
            outcome,
            column,
            rounding[column],
            _why_not_comparable(study, outcome.name, changed),
        )
        for outcome in outcomes
        for column in study.columns
        if column in outcome.row.paper
    ]


def _why_not_comparable(study: Study, row: str, changed: Sequence[str]) -> str:
    if study.scale != "paper":
        return f"made at scale {study.scale}, the paper's number was not"
    # the interval takes more or fewer seeds into account
    own = [path for path in changed if path != "selection.repeats" and not path.startswith("rows.")]
    own += [path for path in changed if f"{path}.".startswith(f"rows.{row}.")]
    return f"not the paper's settings: {', '.join(own)}" if own else ""


def _judge_cell(
    study: Study, outcome: Outcome, column: str, rounding: float, why_not: str
) -> CellVerdict:
    paper = outcome.row.paper[column]
    number = _state(study, outcome) if column == STATE else outcome.number(column)
    known: dict[str, Any] = {
        "row": outcome.name,
        "column": column,
        "title": study.columns[column],
        "place": _place(study, outcome.name, column),
        "paper": paper,
        "metric": metric_of(study.task["name"], column) if column != STATE else None,
        "ours": number,
        "interval": _interval(number.mean, quantile(number.n - 1) * number.std / number.n**0.5)
        if number is not None
        else None,
        "stale": column != STATE and number is not None and outcome.stale,
        "precision": protocol.precision(study, outcome.counting)
        if column != STATE and number is not None
        else None,
    }
    if why_not:
        return CellVerdict(verdict="not comparable (scale)", reason=why_not, **known)
    if column == STATE:
        assert number is not None
        same = number.mean == paper
        reason = "counted on the optimizer itself, no record is needed"
        return CellVerdict(verdict="reproduced" if same else "differs", reason=reason, **known)
    if unfinished := _unfinished(study, outcome, number):
        return CellVerdict(verdict=unfinished[0], reason=unfinished[1], **known)
    assert number is not None
    runs = max(1, study.paper_protocol.get("selection", {}).get("repeats", 0))
    words = protocol.precision_words(study, outcome.counting)
    return _judge_number(number, PrintedNumber(paper, runs, rounding), study, known, words)


def _judge_number(
    number: SampleMean, printed: PrintedNumber, study: Study, known: dict[str, Any], words: str
) -> CellVerdict:
    """``words`` of the runs' precision follow the reason."""
    metric: Metric = known["metric"]
    tolerance = metric.tolerance.at(printed.value)
    difference = number.mean - printed.value
    half = float(half_width(number.std, number.n, printed.runs, printed.rounding))
    verdict = classify(difference - half, difference + half, tolerance)
    more = more_seeds(number, printed, tolerance) if verdict == "inconclusive" else None
    if more is not None and not study.selection.repeats:
        more += 1  # the sweep's own run chose the point, so it is not one of the fresh seeds
    reason = _reason(verdict, number, printed, difference, metric.decimals(tolerance), more)
    return CellVerdict(
        verdict=verdict,
        reason="; ".join(filter(None, (reason, words))),
        difference=difference,
        difference_interval=_interval(difference, half),
        tolerance=tolerance,
        more_seeds=more,
        **known,
    )


def _reason(
    verdict: Verdict,
    number: SampleMean,
    printed: PrintedNumber,
    difference: float,
    tolerance: str,
    more: int | None,
) -> str:
    match verdict:
        case "reproduced":
            return f"the interval holds 0 and lies within ±{tolerance}"
        case "within tolerance":
            return f"not 0, but within ±{tolerance}"
        case "differs":
            side = "above" if difference > 0 else "below"
            return f"{side} the paper's by more than {tolerance}"
    if number.n < 2:
        return f"n too small: a single run has no spread; {_seeds(more or 1)} at least"
    if more is not None:
        return f"n too small: {_seeds(more)} would decide, were mean and spread to stay"
    behind = f"{printed.runs} run{'s' if printed.runs > 1 else ''}"
    return f"no number of seeds would decide: the paper's own number rests on {behind}"


def _seeds(count: int) -> str:
    return f"{count} more seed{'s' * (count > 1)} (selection.repeats)"


def _unfinished(
    study: Study, outcome: Outcome, number: SampleMean | None
) -> tuple[Verdict, str] | None:
    """What keeps the row from a verdict: half a row is not judged, since its n is not fixed."""
    if outcome.diverged:
        asked = len(outcome.repeats) or len(outcome.counting) or len(outcome.sweep)
        return "diverged", f"{outcome.diverged} of {asked} runs diverged"
    if outcome.missing or number is None:
        done = number.n if number is not None else 0
        asked = len(outcome.repeats) or max(1, study.selection.repeats)
        stopped = outcome.standing is not None and not outcome.missing
        why = "stopped before its end" if stopped else f"{done} of {asked} runs so far"
        return "not run", why
    broken = sum(record.status == "failed" for record in outcome.counting)
    return ("not run", f"{broken} of {len(outcome.counting)} runs failed") if broken else None


def _state(study: Study, outcome: Outcome) -> SampleMean:
    return SampleMean(values_per_parameter(outcome.row, study.task), 0.0, 1)


def _interval(middle: float, half: float) -> Interval | None:
    return None if math.isnan(half) else Interval(float(middle - half), float(middle + half))


def _rounding(study: Study, column: str) -> float:
    """Half of the last digit that the paper prints; all numbers of a column have as many."""
    values = [str(row.paper[column]) for row in study.rows.values() if column in row.paper]
    digits = max((-int(Decimal(value).as_tuple().exponent) for value in values), default=0)
    return 0.5 * 10.0 ** -max(0, digits)


def _place(study: Study, row: str, column: str) -> str:
    def paged(source: re.Match[str]) -> str:
        page = PAGES.get(source[0])
        return f"{source[0]} (p. {page})" if page else source[0]

    source = re.sub(r"00[02] (?:Table|Figure) \d", paged, study.source)
    return f"{source}, row {row}, {study.columns[column]}"


def counted(cells: Sequence[CellVerdict]) -> str:
    """`3 reproduced, 1 differs, 28 not run`."""
    kinds = Counter(cell.verdict for cell in cells)
    return ", ".join(f"{kinds[kind]} {kind}" for kind in VERDICTS if kinds[kind])
