"""The study that filters the best rules of a search by long runs (sec. 5.1).

It trains the search's own task, longer; the search's file may say how long and how much larger in
its section `filter`, which holds whatever a study may hold. With `base: NAME` the study is another
one with the rows of the rules: the papers' searches filter on a Wide ResNet.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import yaml

from nos_repro.errors import ConfigError, NosError, unknown
from nos_repro.experiments.files import write_atomically
from nos_repro.experiments.layers import lay
from nos_repro.experiments.load import load_study
from nos_repro.experiments.schema import Study
from nos_repro.experiments.settings_file import find_config, read_values
from nos_repro.search.hall import FoundRule, best_rules
from nos_repro.search.settings import Search
from nos_repro.search.side_runs import race_order, read_side_runs
from nos_repro.tasks.registry import find_metric

LONGER = 8
"""Times as many epochs as a child has, unless the section says otherwise."""
RUNGS = (1 / 8, 1 / 4, 1 / 2)
"""The shares of the training after which the worse half of the rows stops."""
NEAR = (0.1, 10**-0.5, 1.0, 10**0.5, 10.0)
"""Rates around a rule's best one in the search. *Departure*: sec. 6.2 has three; on another network
or after more epochs the best of three was mostly the first or the last."""


def export_study(search: Search, folder: Path, number: int, path: Path) -> tuple[int, str]:
    """Writes the study `filter_<search>`; returns the number of its rules, at most ``number``, and
    the scale to run it at.

    Its rows are the best rules, each at rates around the search's best, and baselines. Raises
    ConfigError if no rule was found, or if the section `filter` makes no study.
    """
    best = best_rules(folder, number, race_order(folder))
    if not best:
        raise ConfigError(f"{folder}: no rules found yet; run the search first")
    section = dict(search.filter)
    base = section.pop("base", None)
    baselines = _baselines(search, folder)
    if base is None:
        values = _own_task(search, section, baselines)
    else:
        values = _based_on(str(base), search, baselines)
    found = {entry.rule: _row(entry) for entry in best}
    values = lay({**values, "rows": {**found, **values["rows"]}}, section, "filter")
    scale = scale_of(search, values)
    heading = (
        f"# The {len(best)} best rules of {search.search} at scale {search.scale}, to be run long"
        f" (002 sec. 5.1).\n#   python -m nos_repro run {path.as_posix()}"
        f" --scale {scale}\n"
    )
    text = yaml.safe_dump(values, sort_keys=False, width=100, allow_unicode=True)
    write_atomically(path, (heading + text).encode())
    try:
        load_study(path, scale=scale)
    except NosError as error:
        raise ConfigError(f"the section `filter` of the search makes no study: {error}") from None
    return len(best), scale


def scale_of(search: Search, values: dict[str, Any]) -> str:
    """The scale at which a study with these values is to be run."""
    scales = list(values["scales"])
    return next((name for name in (search.scale, "small") if name in scales), scales[0])


def check_section(section: dict[str, Any]) -> None:
    """Raises ConfigError for a key that a study does not have."""
    keys = {field.name for field in dataclasses.fields(Study)} - {"scale", "paper_protocol"}
    for key in section:
        if key not in {*keys, "base", "scales"}:
            raise ConfigError(unknown("key of filter:", key, {*keys, "base", "scales"}))


def _baselines(search: Search, folder: Path) -> dict[str, dict[str, Any]]:
    """The search's baselines as rows, each at rates around the search's best."""
    rates = {
        named.optimizer: found.lr
        for named, found in read_side_runs(folder)
        if named.purpose == "baseline" and found.lr is not None
    }
    near = {text: {"sweep": {"lr": _near(rate)}} for text, rate in rates.items()}
    return {
        name: {"optimizer": text, **near.get(text, {})} for name, text in search.baselines.items()
    }


def _own_task(
    search: Search, section: dict[str, Any], baselines: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """A study of the search's task and baselines."""
    epochs = search.child.epochs * LONGER
    training = section.get("training")
    if isinstance(training, dict) and isinstance(training.get("epochs"), int):
        epochs = training["epochs"]
    rungs = sorted({round(epochs * share) for share in RUNGS} - {0, epochs})
    halves = {"rungs": rungs, "keep": 0.5, "by": "best_val"}
    return {
        "study": f"filter_{search.search}",
        "note": f"The rows are the best rules of {search.search} at scale {search.scale}.",
        "claim": "The best of the rules that a short search found can be told from the others in a"
        " long run.",
        "task": dict(search.child.task),
        "training": {"epochs": epochs, "evaluate_every": 1},
        "sweep": {"lr": list(search.child.rates)},
        "selection": {"by": "best_val", "repeats": 0},
        **({"halving": halves} if rungs else {}),
        "columns": {
            f"{when}_{part}": f"{when.title()} {part.title()}"
            for when in ("final", "best")
            for part in ("val", "test")
        },
        "figure": {
            "kind": "curves",
            "metric": f"val_{find_metric(search.child.task['name']).name}",
        },
        "rows": baselines,
        "scales": {search.scale: {}},
    }


def _based_on(base: str, search: Search, baselines: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The study ``base`` without its rules: its baselines stay, at as many rates as a rule has, and
    those that only the search has join them, such as baselines with a decay."""
    values = read_values(find_config(base))
    values["rows"] = {
        name: {**row, **baselines.get(name, {})}
        for name, row in values["rows"].items()
        if not row["optimizer"].startswith("rule:")
    }
    values["rows"] = {**baselines, **values["rows"]}
    values["study"] = f"filter_{search.search}"
    values["source"] = (
        f"{values['source']}, the best rules of {search.search} at scale {search.scale}"
    )
    return values


def _row(entry: FoundRule) -> dict[str, Any]:
    return {
        "optimizer": f"rule: {entry.text}",
        "sweep": {"lr": _near(entry.lr)},
        "note": f"reward {entry.reward:.4f} at rate {entry.lr:g} (sample {entry.sample})",
    }


def _near(rate: float) -> list[float]:
    """The rates around one, to two digits: 0.0316 becomes 0.032."""
    return [float(f"{rate * factor:.2g}") for factor in NEAR]
