"""GPU-hours per table of the papers, from the steps that were timed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from nos_repro.bench.device_check.frame import Checking, CheckRow, Value
from nos_repro.experiments.estimate import Cost, Planned, model_key, plan
from nos_repro.experiments.load import load_study
from nos_repro.experiments.settings_file import find_config
from nos_repro.experiments.store import Store
from nos_repro.launch.cost import row_costs
from nos_repro.launch.device_timings import Timing, speed_key

# fmt: off
TABLES = {
    "Table 1": "table1", "Table 2": "table2", "Table 3": "table3", "Table 4": "table4",
    "Table 5": "table5", "Table 6": "table6", "Figure 5 (ICML version)": "icml_figure5",
}
# fmt: on


def hours(check: Checking) -> Iterator[CheckRow]:
    """Every trial of each table at the scale `paper`, on one GPU."""
    if not check.cuda:
        check.notes.append("a CPU's hours say nothing of a GPU's: none are given")
        return
    if check.quick:
        check.notes.append("models of a quick check are tiny: no hours are given")
        return
    if not check.timings:
        check.notes.append("no step was timed: add --only steps")
        return
    check.notes.append(
        "evaluations are included for the image models; those of Tables 4 (BLEU) and 5 are left out"
    )
    yield from table_hours(check.timings)


def table_hours(timings: list[Timing]) -> Iterator[CheckRow]:
    """A row per table whose model was timed."""
    known = {timing.key: timing for timing in timings}
    for table, config in TABLES.items():
        study = load_study(find_config(config), scale="paper", trying=False)
        with tempfile.TemporaryDirectory() as nothing:
            store = Store(Path(nothing), study.study, study.scale)
            planned = plan(study, store)
            own = known.get(speed_key(planned[0].trial, study.device))
            if own is None:
                continue
            others = [timing for timing in timings if timing.model == own.model]
            fastest = min(others, key=lambda timing: timing.step_seconds)
            values: dict[str, Value] = {"model": own.model, "trials": len(planned)}
            for title, timing in (("as configured", own), ("by the fastest", fastest)):
                values[f"GPU-hours, {title}"] = _hours(planned, timing.cost, store)
            yield CheckRow(table, {**values, "fastest setting": fastest.how})


def _hours(planned: list[Planned], cost: Cost, store: Store) -> float:
    costs: Mapping[str, Cost] = {model_key(entry.trial): cost for entry in planned}
    return sum(row.left for row in row_costs(planned, costs, store)) / 3600
