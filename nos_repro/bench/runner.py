"""Times things side by side, and reports whether they stay within budget.

On a shared machine a time in seconds says little, but the ratio of two things timed in turns says
a lot. So every benchmark runs its subjects *interleaved*, round by round, and reports the median of
the per-round ratios with their spread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median

import torch

from nos_repro.data.cores import available_cores
from nos_repro.errors import ConfigError
from nos_repro.experiments.files import write_json
from nos_repro.experiments.provenance import provenance
from nos_repro.registry import Registry, require_call


@dataclass(frozen=True)
class Ratio:
    """A quotient measured over several rounds; `unit` is "x" for a plain ratio."""

    median: float
    low: float
    high: float
    rounds: int
    unit: str = "x"

    @classmethod
    def of(cls, values: Sequence[float], unit: str = "x") -> Ratio:
        return cls(median(values), min(values), max(values), len(values), unit)

    @classmethod
    def between(cls, times: Mapping[str, Sequence[float]], ours: str, theirs: str) -> Ratio:
        """Seconds of `ours` over seconds of `theirs`, round by round."""
        return cls.of([a / b for a, b in zip(times[ours], times[theirs], strict=True)])

    @classmethod
    def rate(cls, seconds: Sequence[float], items: float, unit: str) -> Ratio:
        """Items per second: `Ratio.rate(times["augment"], 5000, "images/s")`."""
        return cls.of([items / s for s in seconds], unit)

    def __str__(self) -> str:
        return f"{_number(self.median)} [{_number(self.low)}, {_number(self.high)}] {self.unit}"


@dataclass(frozen=True)
class Measurement:
    """One line of a benchmark: what was measured, and its budget if it has one."""

    what: str
    value: Ratio
    at_most: float | None = None
    at_least: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the median is within the budget; None without a budget."""
        if self.at_most is not None:
            return self.value.median <= self.at_most
        if self.at_least is not None:
            return self.value.median >= self.at_least
        return None

    @property
    def budget(self) -> str:
        bound = self.at_most if self.at_most is not None else self.at_least
        if bound is None:
            return "-"
        verdict = "met" if self.met else "MISSED"
        return f"{'<=' if self.at_most is not None else '>='} {_number(bound)}: {verdict}"


Benchmark = Callable[[], Iterable[Measurement]]
BENCHMARKS: Registry[Benchmark] = Registry(
    "benchmark",
    "nos_repro.bench",
    check=lambda name, benchmark: require_call(f"benchmark {name}", benchmark, "()"),
    key="bench",
)
"""Its decorator makes a function that returns rows available as `nos-repro bench NAME`."""


def interleave(
    functions: Mapping[str, Callable[[], object]],
    rounds: int = 10,
    warmup: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of every function in every round, all of them in turns.

    The order is reversed every other round, so that the same function does not always follow a
    cache-hungry one. Warm-up rounds are not kept. `clock` returns seconds.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for i in range(warmup + rounds):
        for name in functions if i % 2 == 0 else reversed(list(functions)):
            start = clock()
            functions[name]()
            taken = clock() - start
            if i >= warmup:
                seconds[name].append(taken)
    return seconds


SAY = partial(print, flush=True)


def run_benchmarks(
    names: Sequence[str], results_dir: Path, say: Callable[[str], None] = SAY
) -> tuple[list[dict[str, object]], int]:
    """Runs the named benchmarks (all if none is named); ``say``s and stores each when it ends.

    Returns what was stored, and how many budgets were missed. Raises ConfigError for an unknown
    name.
    """
    chosen = {name: BENCHMARKS.find(name) for name in names or BENCHMARKS.names()}
    records, missed = [], 0
    for name, benchmark in chosen.items():
        say(f"{name}: running ...")
        start = time.perf_counter()
        rows = _measured(name, benchmark())
        if not rows:  # it cannot run here and has said why: keep what was measured elsewhere
            continue
        say(table(name, rows))
        path = results_dir / "bench" / f"{name}.json"
        records.append(store(path, name, rows, seconds=time.perf_counter() - start))
        say(f"  -> {path}\n")
        missed += sum(row.met is False for row in rows)
    if missed:
        say(f"{missed} budget{'s' if missed > 1 else ''} missed")
    return records, missed


def _measured(name: str, rows: object) -> list[Measurement]:
    """Raises ConfigError unless they are measurements."""
    if isinstance(rows, Iterable):
        rows = list(rows)
        if all(isinstance(row, Measurement) for row in rows):
            return rows
    raise ConfigError(f"benchmark {name}: expected a list of Measurement, got {rows!r}")


def table(name: str, rows: Sequence[Measurement]) -> str:
    """The rows as aligned text: what, median [low, high] unit, budget."""
    cells = [(row.what, str(row.value), row.budget) for row in rows]
    heads = (name, "median [low, high]", "budget")
    widths = [max(len(line[i]) for line in [heads, *cells]) for i in range(3)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in [heads, *cells]
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def store(
    path: Path, name: str, rows: Sequence[Measurement], *, seconds: float
) -> dict[str, object]:
    """Writes rows and provenance as JSON, and returns them; if that fails, the old file stays
    whole."""
    record = {
        "benchmark": name,
        "rows": [asdict(row) | {"met": row.met} for row in rows],
        "seconds": round(seconds, 1),
        **where_and_when(),
    }
    write_json(path, record)
    return record


def where_and_when() -> dict[str, object]:
    """The provenance of the numbers: processor, cores, versions, commit, date."""
    return {
        **provenance("cuda" if torch.cuda.is_available() else "cpu"),
        "cores": available_cores(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _number(x: float) -> str:
    return f"{x:,.0f}" if abs(x) >= 1000 else f"{x:.3g}"
