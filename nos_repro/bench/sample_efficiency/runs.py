"""One learner, one seed: samples until the mean reward of the last 100 is 0.9 of the optimum.

Every step size is chosen from as many values by as many tuning seeds; the seeds that count are
others. *Departure*: the paper's own rate, 1e-5, is run beside them, not chosen from; a search that
converges "within a day" of 100 workers sees more samples than these.
"""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, TypeAlias

import torch

from nos_repro.bench.sample_efficiency.task import OPTIMUM, SPACE, reward
from nos_repro.experiments.files import json_line, write_atomically
from nos_repro.experiments.provenance import provenance
from nos_repro.experiments.record import RecordError
from nos_repro.search.algorithms import Algorithm, Batch, find_algorithm
from nos_repro.search.controller import Controller

Record: TypeAlias = dict[str, Any]

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


def all_runs(records: list[Record]) -> Iterator[EfficiencyRun]:
    """Every run of the comparison, those behind a choice only once the choice can be made.

    ``records`` is looked at anew whenever the next run is asked for.
    """
    for seed in TUNING_SEEDS:
        for algorithm, (_, steps) in STEPS.items():
            yield from (EfficiencyRun("tuning", algorithm, step, seed) for step in steps)
    for seed in SEEDS:
        for algorithm in STEPS:
            yield EfficiencyRun("final", algorithm, chosen_step(records, algorithm), seed)
        yield EfficiencyRun("final", "random", None, seed)
    for seed in PAPER_SEEDS:
        yield from (
            EfficiencyRun("paper", algorithm, PAPER_RATE, seed)
            for algorithm in ("ppo", "reinforce")
        )


def chosen_step(records: Iterable[Record], algorithm: str) -> float:
    """The step with the fewest samples on the tuning seeds (a censored run counts as the cap).

    Where two need as many, the one whose last samples were better.
    """

    def badness(step: float) -> tuple[float, float]:
        runs = of(records, part="tuning", algorithm=algorithm, step=step)
        return fmean(map(needed, runs)), -fmean(run["last"] for run in runs)

    return min(STEPS[algorithm][1], key=badness)


def of(records: Iterable[Record], **wanted: object) -> list[Record]:
    """The records with those values, by seed."""
    found = [record for record in records if wanted.items() <= record.items()]
    return sorted(found, key=lambda record: record["seed"])


def needed(record: Record) -> int:
    """Samples until the target; the cap where it was not reached."""
    return CAP if record["needed"] is None else int(record["needed"])


def make_learner(run: EfficiencyRun) -> Algorithm:
    """Its controller too: the same first weights for every algorithm of a seed."""
    kind = find_algorithm(run.algorithm)
    settings = {key: PROTOCOL[key] for key in ("batch", "entropy", "baseline_decay")}
    if run.step is not None:
        settings[STEPS[run.algorithm][0]] = run.step
    controller = Controller(SPACE, hidden=int(PROTOCOL["hidden"]), seed=run.seed)
    return kind(controller, kind.Settings(**settings))


def train(run: EfficiencyRun, cap: int = CAP) -> Record:
    """Samples and learns until the target or the cap; the record of it.

    ``curve`` holds the mean rewards of 50 samples each, the last one of what is left. ``seconds``
    are the processor's: others may be using the machine.
    """
    learner = make_learner(run)
    generator = torch.Generator().manual_seed(run.seed + 10_000)
    rewards: list[float] = []
    window: deque[float] = deque(maxlen=WINDOW)
    arrived = False
    start = time.process_time()
    while not arrived and len(rewards) < cap:
        samples = learner.controller.sample(BATCH, generator)
        found = [reward(tuple(string)) for string in learner.controller.decode(samples.tokens)]
        learner.update(Batch(samples.tokens, samples.log_probs, torch.tensor(found)))
        rewards += found
        window.extend(found)
        arrived = len(window) == WINDOW and math.fsum(window) >= SHARE * OPTIMUM * WINDOW - 1e-9
    return {
        **asdict(run),
        "needed": len(rewards) if arrived else None,
        "last": round(fmean(window), 4),
        "best": max(rewards),
        "curve": [
            round(fmean(rewards[at : at + BLOCK]), 4) for at in range(0, len(rewards), BLOCK)
        ],
        "seconds": round(time.process_time() - start, 2),
        "protocol": PROTOCOL,
        "provenance": provenance("cpu"),
    }


def read_records(path: Path) -> list[Record]:
    """The records of this very protocol. Raises RecordError, naming the line that is none."""
    if not path.exists():
        return []
    lines = path.read_bytes().splitlines()
    records = [_record(line, f"{path}, line {number}") for number, line in enumerate(lines, 1)]
    return [record for record in records if record["protocol"] == PROTOCOL]


def _record(line: bytes, where: str) -> Record:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise RecordError(f"{where}: corrupt ({error}); mend or remove the line") from None
    if not isinstance(record, dict) or "protocol" not in record:
        raise RecordError(f"{where}: not a record of a run; mend or remove the line")
    return record


def complete(path: Path) -> list[Record]:
    """Makes every run that has no record in the file, one after the other; all records.

    The file is whole after every run: what is killed loses the run that it was at.
    """
    records = read_records(path)
    for run in all_runs(records):
        if not of(records, **asdict(run)):
            records.append(train(run))
            write_atomically(path, "".join(map(json_line, records)).encode())
            print(_progress(records[-1]), flush=True)
    return records


def _progress(record: Record) -> str:
    step = "" if record["step"] is None else f" at {record['step']:g}"
    reached = f"{record['needed']} samples" if record["needed"] else f"{record['last']} at the cap"
    name = f"{record['part']}: {record['algorithm']}{step}, seed {record['seed']}"
    return f"{name}: {reached}, {record['seconds']} s"
