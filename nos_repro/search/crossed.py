"""The best rules of two searches whose children differ in their environment, each in both.

002 sec. 7 hopes for rules that are made for their environment. Whether a search found such rules,
its own report cannot say: they must win where they were found against the rules that were found
elsewhere, and over seeds that chose neither.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nos_repro.errors import ConfigError
from nos_repro.experiments.environment import Environment
from nos_repro.search.child import Child
from nos_repro.search.folder import differences, read_settings
from nos_repro.search.hall import FoundRule, best_rules
from nos_repro.search.settings import Search, completed_child
from nos_repro.search.side_runs import SideRun, race_order, read_side_runs


def other_folder(search: Search, folder: Path) -> Path:
    """Where the search of `confirm.against` is: beside this one's ``folder``, at the same scale."""
    return folder.parent.parent / search.confirm.against / folder.name


def other_rules(search: Search, folder: Path) -> list[FoundRule]:
    """The best rules of the search of `confirm.against`, as many as are confirmed."""
    beside = other_folder(search, folder)
    return best_rules(beside, search.confirm.best, race_order(beside))


def seeds_that_chose(search: Search, folder: Path) -> set[int]:
    """The seeds of the search of `confirm.against` and of its race: they chose its best rules, and
    only others show what these are worth."""
    beside = other_folder(search, folder)
    settings = read_settings(beside) or {}
    raced = {named.seed for named, _ in read_side_runs(beside) if named.purpose == "race"}
    return raced | ({settings["seed"]} if "seed" in settings else set())


def crossed_runs(
    search: Search, folder: Path, candidates: Mapping[str, str], seeds: Sequence[int]
) -> list[tuple[Child, list[SideRun]]]:
    """The children that compare two searches, by the child that they train: the other's best rules
    here; then those and ``candidates`` (optimizers by name) there.

    Raises ConfigError if the other search has no rules, or its child differs in more than its
    environment.
    """
    where, rates = search.confirm.against, tuple(search.confirm.rates)
    there = _child_there(search, folder)
    found = other_rules(search, folder)
    if not found:
        raise ConfigError(f"{other_folder(search, folder)}: no rules found yet; run {where} first")
    theirs = {each.rule: f"rule: {each.text}" for each in found if each.rule not in candidates}
    here = [
        SideRun("crossed", name, optimizer, seed, test=True, rates=rates)
        for seed in seeds
        for name, optimizer in theirs.items()
    ]
    beside = [
        SideRun("crossed", name, optimizer, seed, test=True, where=where, rates=rates)
        for seed in seeds
        for name, optimizer in {**candidates, **theirs}.items()
    ]
    return [(search.child, here), (there, beside)]


def _child_there(search: Search, folder: Path) -> Child:
    """This search's child in the environment of the other search."""
    beside = other_folder(search, folder)
    settings = read_settings(beside)
    if settings is None:
        raise ConfigError(
            f"confirm.against: {beside} does not exist; run that search at scale {search.scale}"
            " first"
        )
    theirs: dict[str, Any] = completed_child(settings["child"])
    environment = theirs.pop("environment", None)
    own = search.identity()["child"]
    own.pop("environment", None)
    if changes := differences(theirs, own, "child"):
        raise ConfigError(
            f"confirm.against: the child of {beside} differs in more than its environment:\n  "
            + "\n  ".join(changes)
        )
    made = None if environment is None else Environment(**environment)
    if made == search.child.environment:
        raise ConfigError(f"confirm.against: {beside} has the same child.environment as this one")
    return dataclasses.replace(search.child, environment=made)


def described(environment: Environment | Mapping[str, Any] | None) -> str:
    """An environment in a few words, for a table: `gradients of 4 bits`."""
    if environment is None:
        return "plain gradients"
    made = environment if isinstance(environment, Environment) else Environment(**environment)
    parts = []
    if made.bits is not None:
        parts.append("scaled signs" if made.bits == 1 else f"gradients of {made.bits} bits")
    if made.workers > 1:
        parts.append(f"{made.workers} workers")
    if made.error_feedback:
        parts.append("error feedback")
    if made.noise:
        parts.append(f"noise {made.noise:g}")
    return ", ".join(parts) or "plain gradients"
