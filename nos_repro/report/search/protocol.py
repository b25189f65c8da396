"""A search's child in words, how it differs from the paper's scale, and where its numbers come
from."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from nos_repro.report.provenance import machines
from nos_repro.report.search.history import History
from nos_repro.report.search.made_by import code_lines
from nos_repro.report.study import protocol
from nos_repro.search.settings import Search
from nos_repro.tasks.facts.base import SPEED, settings_that_change
from nos_repro.tasks.registry import describe

Settings = dict[str, Any]

SPOKEN_OF = ("scale", "search", "seed", "space", "cascade")
"""Settings that have words of their own or do not belong to the protocol."""


def protocol_lines(history: History) -> list[str]:
    """The child, the space and the controller of this scale, then what the scale paper has."""
    asked, paper = history.asked, history.paper
    own = (
        f"{child_words(history.settings)}; {_search_words(asked, history.settings)}"
        f"{_cascade_words(history.settings.get('cascade'))}."
    )
    if paper is None:
        return [f"Scale {asked.scale}: {own}"]
    ours, papers = map(_without_speed, (history.settings, paper.identity()))
    changes = list(_changes(ours, papers))
    if asked.budget != paper.budget:
        changes.append(f"{asked.budget.asked} instead of {paper.budget.asked}")
    if bool(history.settings.get("cascade")) != bool(paper.cascade):
        changes.append("a cascade" if paper.cascade is None else "no cascade")
    if not changes:
        return [f"The file's scale paper: {own}"]
    theirs = f"{child_words(paper.identity())}; {_search_words(paper, paper.identity())}."
    return [
        f"Scale {asked.scale}: {own}",
        f"The file's scale paper (its readings of the paper stand in the file): {theirs}",
        f"Not as in scale paper: {'; '.join(changes)}.",
    ]


def child_words(settings: Settings) -> str:
    """What a child trains, how its rate is chosen, and what its reward is."""
    child = settings["child"]
    task, sweep, rates = child["task"], child["sweep"], child["rates"]
    trained = {"task": task, "training": {"epochs": child["epochs"]}}
    changes = {key: value for key, value in sweep.items() if task.get(key) != value}
    on = "".join(f", {key}={value}" for key, value in changes.items())
    words = protocol.long(trained, {"task": {"head": None}})
    return (
        f"{words}, at the best of {len(rates)} rates from {min(rates):g} to {max(rates):g}"
        f" ({_epochs(child['sweep_epochs'])} each{on}); the reward is the validation result at the"
        " end, of one seed"
    )


def short_words(settings: Settings) -> str:
    """`small ConvNet, 10,000 training images, 7 rates, 5 epochs`."""
    child = settings["child"]
    images = child["task"].get("train_images")
    parts = [
        protocol.model({"task": child["task"]}),
        f"{images:,} training images" if images else "",
        "1 rate" if len(child["rates"]) == 1 else f"{len(child['rates'])} rates",
        _epochs(child["epochs"]),
    ]
    return ", ".join(filter(None, parts))


def _epochs(count: int) -> str:
    return protocol.epochs({"training": {"epochs": count}})


def _search_words(asked: Search, settings: Settings) -> str:
    space = dataclasses.replace(asked, space=settings["space"]).make_space()
    algorithm = settings["algorithm"]
    batch = f" with batches of {algorithm['batch']}" if "batch" in algorithm else ""
    return (
        f"{asked.budget.asked} from a space of {space.size:.2g} strings, by {algorithm['name']}"
        f"{batch}"
    )


def _cascade_words(cascade: Settings | None) -> str:
    """`, in a cascade: the best 50% after a cheap child (...) go on, ...`."""
    if cascade is None:
        return ""
    stages = []
    if cascade["cheap"] is not None:
        cheap = short_words({"child": cascade["cheap"]})
        stages.append(f"the best {cascade['keep_cheap']:.0%} after a cheap child ({cheap})")
    if cascade["keep_sweep"] < 1:
        stages.append(f"the best {cascade['keep_sweep']:.0%} after the sweep")
    return (
        f", in a cascade: {', then '.join(stages)} go on; {cascade['anyway']:.0%} of the others are"
        " trained in full anyway"
    )


def _without_speed(settings: Settings) -> Settings:
    """The settings without those of the child's task that change its speed alone."""
    child = settings["child"]
    speed = settings_that_change(SPEED, describe(child["task"]["name"]).Settings)
    task = {key: value for key, value in child["task"].items() if key not in speed}
    return {**settings, "child": {**child, "task": task}}


def _changes(ours: Any, papers: Any, where: str = "") -> Iterator[str]:
    """`child.task.train_images 10000 instead of the default`, for whatever is not the same."""
    if isinstance(ours, dict) and isinstance(papers, dict):
        for key in sorted({*ours, *papers}):
            if where or key not in SPOKEN_OF:
                path = f"{where}.{key}" if where else key
                yield from _changes(ours.get(key), papers.get(key), path)
    elif ours != papers:
        yield f"{where} {_value(ours)} instead of {_value(papers)}"


def _value(value: Any) -> str:
    if value is None:
        return "the default"
    return f"{value:g}" if isinstance(value, float) else str(value)


def origin_lines(history: History) -> list[str]:
    """The search, what it cost, and the machines, versions and commits that made it."""
    asked, sessions = history.asked, history.sessions
    beside = sum(found.seconds for _, found in history.named)
    lines = [
        f"Search {asked.search}, scale {asked.scale}, seed {history.settings['seed']}:"
        f" {history.tally.evaluated:,} draws with a reward, of {history.unique:,} different rules.",
        f"{history.children:,} children for them, {len(history.named):,} beside the search;"
        f" {(history.seconds + beside) / 3600:.2f} worker-hours of child training in all.",
    ]
    if sessions:
        workers = sorted({session["workers"] for session in sessions})
        lines += [
            f"{len(sessions)} session{'s' if len(sessions) > 1 else ''}, of"
            f" {' or '.join(map(str, workers))} workers.",
            *code_lines(history),
            *machines([*sessions, *history.beside], "child"),
        ]
    return lines
