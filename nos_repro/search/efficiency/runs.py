"""The runs of the comparison, and their records.

Every step size is chosen from the same number of values with the same number of tuning seeds; the
final seeds are different ones. *Departure*: the paper's own rate, 1e-5, is run too but is not among
the choices; a search that converges "within a day" with 100 workers sees more samples than these.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, TypeAlias

from nos_repro.experiments.files import read_file, read_json
from nos_repro.experiments.record import RecordError
from nos_repro.search.efficiency.task import SPACE

RunRecord: TypeAlias = dict[str, Any]

FOLDER = Path("bench") / "sample-efficiency"
"""Within the results folder."""

BATCH, CAP, WINDOW, SHARE, BLOCK = 5, 3000, 100, 0.9, 50
TUNING_SEEDS, SEEDS, PAPER_SEEDS = (1000, 1001, 1002), tuple(range(10, 20)), (10, 11, 12)
PAPER_RATE = 1e-5
# fmt: off
STEPS: dict[str, tuple[str, tuple[float, ...]]] = {
    "ppo":       ("lr",     (3e-5, 1e-4, 3e-4, 1e-3)),
    "reinforce": ("lr",     (1e-4, 3e-4, 1e-3, 3e-3)),
    "trpo":      ("max_kl", (0.01, 0.03, 0.1,  0.3)),
}
# fmt: on
PROTOCOL = {
    "space": SPACE.size,
    "cap": CAP,
    "window": WINDOW,
    "share": SHARE,
    "batch": BATCH,
    "entropy": 0.0015,
    "baseline_decay": 0.95,
    "hidden": 150,
}


@dataclass(frozen=True)
class EfficiencyRun:
    """part: "tuning", "final" or "paper" (at the paper's rate). step: None for random search."""

    part: str
    algorithm: str
    step: float | None
    seed: int


def all_runs(records: list[RunRecord]) -> Iterator[EfficiencyRun]:
    """Every run of the comparison; runs that need a chosen step come once it can be chosen.

    ``records`` is read again for every next run, so append each run's record to it.
    """
    for seed in TUNING_SEEDS:
        for algorithm, (_, steps) in STEPS.items():
            yield from (EfficiencyRun("tuning", algorithm, step, seed) for step in steps)
    for seed in SEEDS:
        for algorithm in STEPS:
            yield EfficiencyRun("final", algorithm, chosen_step(records, algorithm), seed)
        yield EfficiencyRun("final", "random", None, seed)
    for seed in PAPER_SEEDS:
        for algorithm in ("ppo", "reinforce"):
            yield EfficiencyRun("paper", algorithm, PAPER_RATE, seed)


def chosen_step(records: Iterable[RunRecord], algorithm: str) -> float:
    """The step that needs the fewest samples on the tuning seeds (a censored run counts as CAP).

    Ties go to the step whose last samples were better.
    """

    def badness(step: float) -> tuple[float, float]:
        runs = of(records, part="tuning", algorithm=algorithm, step=step)
        return fmean(map(needed, runs)), -fmean(run["last"] for run in runs)

    return min(STEPS[algorithm][1], key=badness)


def of(records: Iterable[RunRecord], **wanted: object) -> list[RunRecord]:
    """The records with the wanted values, sorted by seed."""
    found = [record for record in records if wanted.items() <= record.items()]
    return sorted(found, key=lambda record: record["seed"])


def needed(record: RunRecord) -> int:
    """Samples until the target; the cap if it was not reached."""
    return CAP if record["needed"] is None else int(record["needed"])


def records_file(results: Path) -> Path:
    """Where a results folder keeps the records of the comparison."""
    return results / FOLDER / "runs.jsonl"


def read_records(path: Path) -> list[RunRecord]:
    """The records made with this protocol. Raises RecordError, naming a line that is not one."""
    lines = (read_file(path) or b"").splitlines()
    records = [_record(line, f"{path}, line {number}") for number, line in enumerate(lines, 1)]
    return [record for record in records if record["protocol"] == PROTOCOL]


def _record(line: bytes, where: str) -> RunRecord:
    try:
        record = read_json(line)
    except ValueError as error:
        raise RecordError(f"{where}: corrupt ({error}); repair or remove the line") from None
    if not isinstance(record, dict) or "protocol" not in record:
        raise RecordError(f"{where}: not a record of a run; repair or remove the line")
    return record
