"""The verb `search`: baselines, the search, its race, and what the verb's other flags do."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nos_repro.errors import ConfigError
from nos_repro.experiments.build import Conditions
from nos_repro.experiments.estimate import measure
from nos_repro.experiments.trial import make_settings
from nos_repro.launch.base import Launcher
from nos_repro.launch.cost import steps_here, timed_here
from nos_repro.launch.dry_run import slurm_plan
from nos_repro.launch.progress import duration
from nos_repro.launch.run import jobs_per_pack
from nos_repro.launch.settings import LauncherSettings, launcher_settings
from nos_repro.launch.work import keep_freed_memory
from nos_repro.rules.rule import Rule
from nos_repro.search.child import Child, Evaluation
from nos_repro.search.crossed import crossed_runs, seeds_that_chose
from nos_repro.search.folder import check_settings, folder_of
from nos_repro.search.hall import best_rules
from nos_repro.search.job import EvaluationJob
from nos_repro.search.log import Event, Log
from nos_repro.search.loop import SearchFollower, SearchLoop
from nos_repro.search.progress import make_display
from nos_repro.search.race import next_lap
from nos_repro.search.settings import Search
from nos_repro.search.side_runs import (
    SideRun,
    SideRunDisplay,
    evaluate_named,
    log_race,
    race_order,
    read_side_runs,
)
from nos_repro.tasks import TASKS

log = logging.getLogger(__name__)


def run_search(
    search: Search,
    results: Path,
    launcher: Launcher[EvaluationJob],
    conditions: Conditions,
    workers: int,
    follower: SearchFollower | None = None,
    *,
    retry: bool = False,
) -> None:
    """Scores the baselines, searches, then races the best rules; all continue from what is on disk.
    With ``retry``, what failed before is trained again."""
    prepare(search.child, conditions)
    if search.cheap is not None:
        prepare(search.cheap, conditions)
    folder = folder_of(search, results)
    check_settings(search, folder)
    Log(folder / "log.jsonl").check()
    display = make_display()
    try:
        baselines = [
            SideRun("baseline", name, optimizer, search.seed)
            for name, optimizer in search.baselines.items()
        ]
        evaluate_named(baselines, search.child, folder, launcher, conditions, display, retry=retry)
        if search.cheap is not None:
            again = [dataclasses.replace(each, purpose="cheap") for each in baselines]
            evaluate_named(again, search.cheap, folder, launcher, conditions, display, retry=retry)
        SearchLoop(search, folder, launcher, conditions, display, workers, follower, retry).run()
        run_race(search, folder, launcher, conditions, display, retry=retry)
    finally:
        display.close()
        launcher.close()


def run_race(
    search: Search,
    folder: Path,
    launcher: Launcher[EvaluationJob],
    conditions: Conditions,
    display: SideRunDisplay,
    *,
    retry: bool = False,
) -> None:
    """Races the best rules by their rewards, if the search has a race, and logs the order in which
    they end. What was trained for it before is not trained again, but for what failed, if it is to
    ``retry``: a failure counts as a reward of 0 until then."""
    if search.race is None:
        return
    runners = {found.rule: f"rule: {found.text}" for found in best_rules(folder, search.race.best)}

    def raced() -> list[tuple[SideRun, Evaluation]]:
        known = read_side_runs(folder, log.warning)
        return [
            (named, found)
            for named, found in known
            if named.purpose == "race" and runners.get(named.name) == named.optimizer
        ]

    if retry:
        known = [named for named, _ in raced()]
        evaluate_named(known, search.child, folder, launcher, conditions, display, retry=True)
    while True:
        rewards: dict[str, dict[int, float]] = {rule: {} for rule in runners}
        for named, found in raced():
            rewards[named.name][named.seed] = found.reward
        lap = next_lap(search.race, list(runners), rewards, search.seed)
        if not lap.missing:
            break
        wanted = [SideRun("race", rule, runners[rule], seed) for rule, seed in lap.missing]
        evaluate_named(wanted, search.child, folder, launcher, conditions, display)
    if lap.order:
        log_race(folder, lap.order)


def confirm(
    search: Search,
    results: Path,
    launcher: Launcher[EvaluationJob],
    conditions: Conditions,
    *,
    retry: bool = False,
) -> None:
    """Trains the best rules and the baselines again with fresh seeds, and measures test metrics; a
    race that is not over is finished first. With `confirm.against`, another search's best rules
    train too, and all of them in its environment as well.

    The best of many is partly lucky; only seeds that were not used to choose it show its worth:
    with `confirm.against`, none that the other search chose its rules by.
    """
    folder = folder_of(search, results)
    if not best_rules(folder, 1):
        raise ConfigError(f"{folder}: no rules found yet; run the search first")
    with _side_runs(search, folder, launcher, conditions) as display:
        run_race(search, folder, launcher, conditions, display, retry=retry)
        best = best_rules(folder, search.confirm.best, race_order(folder))
        candidates = {**search.baselines, **{entry.rule: f"rule: {entry.text}" for entry in best}}
        taken = seeds_that_chose(search, folder) if search.confirm.against else set()
        fresh = (seed for seed in itertools.count(search.seed + 1) if seed not in taken)
        seeds = list(itertools.islice(fresh, search.confirm.seeds))
        rates = tuple(search.confirm.rates)
        wanted = [
            SideRun("confirm", name, optimizer, seed, test=True, rates=rates)
            for seed in seeds
            for name, optimizer in candidates.items()
        ]
        asked = [(search.child, wanted)]
        if search.confirm.against:
            asked += crossed_runs(search, folder, candidates, seeds)
        for child, runs in asked:
            evaluate_named(runs, child, folder, launcher, conditions, display, retry=retry)


def train_refused(
    search: Search,
    results: Path,
    number: int,
    launcher: Launcher[EvaluationJob],
    conditions: Conditions,
    *,
    retry: bool = False,
) -> None:
    """Trains ``number`` of the rules that the probes refused, to see what was missed.

    Raises ConfigError if none was refused.
    """
    folder = folder_of(search, results)
    tokens: dict[int, list[str]] = {}
    refused: dict[str, Event] = {}
    for event in Log(folder / "log.jsonl").read(note=log.warning):
        if event["event"] == "proposed":
            tokens[event["sample"]] = event["tokens"]
        elif event["event"] == "evaluated" and event["status"] == "refused":
            refused.setdefault(event["key"], event)
    if not refused:
        raise ConfigError(f"{folder}: no rules were refused; run the search first")
    chosen = random.Random(search.seed).sample(sorted(refused), min(number, len(refused)))
    wanted = [
        SideRun(
            "refused",
            refused[key]["reason"],
            f"rule: {Rule.from_tokens(tokens[refused[key]['sample']])}",
            search.seed,
        )
        for key in chosen
    ]
    with _side_runs(search, folder, launcher, conditions) as display:
        evaluate_named(wanted, search.child, folder, launcher, conditions, display, retry=retry)


@contextmanager
def _side_runs(
    search: Search, folder: Path, launcher: Launcher[EvaluationJob], conditions: Conditions
) -> Iterator[SideRunDisplay]:
    """A display for children beside the search; at the end it and the launcher are closed."""
    check_settings(search, folder)
    prepare(search.child, conditions)
    display = make_display()
    try:
        yield display
    finally:
        display.close()
        launcher.close()


def prepare(child: Child, conditions: Conditions) -> None:
    """Reads the children's data once, so that a missing data set is reported before any training.

    Raises DataError.
    """
    for sweep in (True, False):
        trial = child.trial("sgd", 0.1, 0, sweep=sweep)
        settings = make_settings(trial.task, trial.task_settings)
        TASKS.find(trial.task).make_data(settings, data_dir=conditions.data_dir, seed=0).prepare()


def child_seconds(child: Child, conditions: Conditions) -> float:
    """The seconds a healthy child takes, estimated from a few timed steps on this machine."""
    return sum(_part_seconds(child, conditions))


def _part_seconds(child: Child, conditions: Conditions) -> tuple[float, float]:
    """The seconds of a child's sweep, and of the rest."""
    prepare(child, conditions)
    keep_freed_memory()
    seconds = []
    for trial in (child.trial("sgd", 0.1, 0, sweep=sweep) for sweep in (True, False)):
        epochs = trial.training.epochs
        training = dataclasses.replace(trial.training, evaluate_every=epochs)
        seconds.append(measure(trial, conditions).of(training, 0, epochs))
    return len(child.rates) * seconds[0], seconds[1]


def dry_run(search: Search, results: Path, conditions: Conditions, workers: int) -> str:
    """The space, the time of a child and of the whole search; on SLURM the script too."""
    space, child, cascade = search.make_space(), search.child, search.cascade
    sweep, rest = _part_seconds(child, conditions)
    one = each = sweep + rest
    rules = search.budget.most_children
    settings = launcher_settings(search.launcher)
    slurm = settings.name == "slurm"
    if slurm:
        workers = settings.array_parallelism
    lines = [
        f"{search.search} at scale {search.scale}: {search.budget.asked} from a space of"
        f" {space.size:.3g} strings of {space.length} tokens, with {search.algorithm['name']}",
        f"  a healthy child: {len(child.rates)} rates x {child.sweep_epochs} epochs, then"
        f" {child.epochs} epochs: about {duration(one)} on one worker here",
    ]
    if cascade is not None:
        cheap = 0.0 if cascade.cheap is None else child_seconds(cascade.cheap, conditions)
        each = cascade.seconds(cheap, sweep, rest)
        if search.children:
            rules = min(search.samples, round(search.children / math.prod(cascade.passing)))
        lines.append(f"  in the cascade a rule takes {each:.3g} s on average, if all are healthy")
    hours = rules * each / max(1, workers)
    lines.append(
        f"  if all rules are healthy and different: {duration(hours)} with {workers} workers"
        " like this machine; refused, repeated and diverging rules, often most of them, cost"
        " almost nothing"
    )
    if search.race is not None:
        lines.append(
            f"  the race at the end: {search.race.children} children,"
            f" {duration(search.race.children * one / max(1, workers))}"
        )
    if slurm:
        lines += _first_packs(search, folder_of(search, results), settings, one)
    return "\n".join(lines)


def _first_packs(
    search: Search, folder: Path, settings: LauncherSettings, seconds: float
) -> list[str]:
    """What is submitted to SLURM at first; after that, a new pack whenever one ends."""
    at_once = settings.array_parallelism * jobs_per_pack(settings, lambda: seconds)
    jobs = min(search.budget.most_children, at_once)
    source = steps_here() if timed_here(settings) else None
    plan = slurm_plan(settings, folder, search.search, jobs, seconds, source, proposing=True)
    return ["at the start:", *plan]
