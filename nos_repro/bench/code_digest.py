"""The cost of finding which code made a trial's numbers (`experiments.code`).

Processor time per trial in milliseconds, for one trial of each kind of task: in the first process
that reads the code after an edit, in one that finds it parsed by another process, and in one that
has already read it. The budget is 50 ms per trial unless the code has to be parsed first.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from nos_repro.bench.runner import BENCHMARKS, Measurement, Ratio, interleave
from nos_repro.experiments.code import trial_roots
from nos_repro.experiments.digest import Sources
from nos_repro.experiments.grid import points, sweep_trial
from nos_repro.experiments.load import load_study
from nos_repro.experiments.settings_file import shipped

STUDIES = ("icml_figure5", "table2", "table3", "table4", "table5")
ROUNDS = 10


@BENCHMARKS.register("code-digest")
def code_digest() -> Iterator[Measurement]:
    """Milliseconds of processor time for a trial's digest, averaged over five kinds of trials."""
    roots = [_roots(study) for study in STUDIES]

    def digest(sources: Callable[[], Sources]) -> Callable[[], object]:
        return lambda: [sources().digest(origins, rule) for origins, rule in roots]

    with tempfile.TemporaryDirectory() as folder:
        ready = Sources(kept=Path(folder))
        seconds = interleave(
            {
                "first": digest(Sources),
                "kept": digest(lambda: Sources(kept=Path(folder))),
                "again": digest(lambda: ready),
            },
            rounds=ROUNDS,
            clock=time.process_time,
        )
    for name, what, budget in (
        ("first", "the code is read and parsed", None),
        ("kept", "another process has parsed it", 50.0),
        ("again", "this process has read it", 50.0),
    ):
        each = [1000 * s / len(roots) for s in seconds[name]]
        yield Measurement(what, Ratio.of(each, "ms"), at_most=budget)


def _roots(name: str) -> tuple[tuple[str, ...], str]:
    """The roots of the last row's first trial, which is a rule's."""
    study = load_study(shipped()[name], scale="small")
    row = list(study.rows.values())[-1]
    return trial_roots(sweep_trial(study, row, points(study, row)[0]).to_json())
