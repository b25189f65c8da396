"""Everything that a report needs from a search's folder, read once, at any moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nos_repro.errors import ConfigError
from nos_repro.experiments.settings_file import paper_file
from nos_repro.experiments.trial import make_settings
from nos_repro.registry import names_in
from nos_repro.rules.simplest import simplest_text
from nos_repro.search.child import Evaluation
from nos_repro.search.folder import differences, folder_of, read_settings
from nos_repro.search.hall import FoundRule, Hall
from nos_repro.search.log import Event, Log
from nos_repro.search.settings import Search, load_search
from nos_repro.search.side_runs import (
    Purpose,
    SideRun,
    race_order,
    read_side_runs,
    without_dropped,
)
from nos_repro.search.state import Tally
from nos_repro.tasks.metrics import Metric
from nos_repro.tasks.registry import describe, find_metric

UNKNOWN_CODE = "code that the log does not name"


@dataclass(frozen=True)
class Reward:
    """A sample that has a reward."""

    sample: int
    status: str
    reward: float
    key: str
    """What equal rules share."""


@dataclass
class History:
    """A search, as far as its logs tell it.

    ``settings`` are those it was begun with (`settings.json`); ``asked`` are the file's now, and
    ``notes`` say where the two differ.
    """

    folder: Path
    asked: Search
    settings: dict[str, Any]
    paper: Search | None = None
    """The same file at scale paper, if it has one."""
    named: list[tuple[SideRun, Evaluation]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """Problems of the files at this moment; a report does not say them."""
    tally: Tally = field(default_factory=Tally)
    hall: Hall = field(default_factory=Hall)
    rewards: list[Reward] = field(default_factory=list)
    """In the order of the samples' numbers."""
    rules: dict[str, str] = field(default_factory=dict)
    """The normal form of every rule that has a reward, by its key."""
    refused: Counter[str] = field(default_factory=Counter)
    updates: list[tuple[float, float]] = field(default_factory=list)
    """Entropy and staleness of every update."""
    sessions: list[Event] = field(default_factory=list)
    beside: list[Event] = field(default_factory=list)
    """The sessions of the children beside the search."""
    made_by: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    """The samples that got a reward in sessions of a code: the digest of all of it, and of what
    trains children ("" in older logs)."""
    made_beside: Counter[str] = field(default_factory=Counter)
    """How many children beside the search were made by which code."""
    children: int = 0
    """How many children were trained in full for samples. With the stages of those that were not,
    they took ``seconds`` of a worker's time."""
    seconds: float = 0.0
    healthy_seconds: list[float] = field(default_factory=list)
    """What each healthy child took, the stages of a cascade included."""
    staged: dict[int, list[Event]] = field(default_factory=dict)
    """The decisions of a cascade about each sample, in the order of its stages."""
    ends: dict[int, Event] = field(default_factory=dict)
    """The rewards of these samples."""

    @property
    def metric(self) -> Metric:
        """The metric that the reward is made of."""
        return find_metric(self.settings["child"]["task"]["name"])

    def take(self, event: Event) -> None:
        """Remembers what a report will say about an event."""
        self.tally.take(event)
        self.hall.take(event)
        match event["event"]:
            case "evaluated":
                key, status = event["key"], event["status"]
                self.rewards.append(Reward(event["sample"], status, event["reward"], key))
                self.rules.setdefault(key, event["rule"])
                session = self.sessions[-1] if self.sessions else {}
                code = session.get("code", UNKNOWN_CODE), session.get("trains", "")
                self.made_by.setdefault(code, []).append(event["sample"])
                if status == "refused":
                    self.refused[event.get("reason", "")] += 1
                self.children += status not in ("refused", "reused", "stopped")
                self.seconds += event.get("seconds", 0.0)
                before = self.staged.get(event["sample"], [])
                if before:
                    self.ends[event["sample"]] = event
                if status == "healthy":
                    parts = [each.get("seconds", 0.0) for each in (*before, event)]
                    self.healthy_seconds.append(sum(parts))
            case "staged":
                self.seconds += event.get("seconds", 0.0)
                self.staged.setdefault(event["sample"], []).append(event)
            case "updated":
                self.updates.append((event.get("entropy", 0.0), event.get("staleness", 0.0)))
            case "session":
                self.sessions.append(event)

    def best(self, number: int) -> list[FoundRule]:
        """The best different rules, each in its simplest form."""
        found = self.hall.best(number)
        return [replace(rule, rule=simplest_text(rule.rule)) for rule in found]

    @property
    def withdrawn(self) -> int:
        """Samples that were given up without a reward."""
        return self.tally.withdrawn

    @property
    def finished(self) -> bool:
        """Whether nothing more is expected of the search's own samples."""
        return self.asked.budget.over(self.tally)

    @property
    def chance(self) -> float:
        """The metric of a child that has learned nothing."""
        return chance_of(self.settings)

    @property
    def unique(self) -> int:
        """Different rules among those that have a reward."""
        return len(self.rules)

    @property
    def fresh(self) -> list[Reward]:
        """The first draw of each different rule, in the order of the samples' numbers."""
        first: dict[str, Reward] = {}
        for reward in self.rewards:
            first.setdefault(reward.key, reward)
        return list(first.values())

    def of(self, purpose: Purpose) -> list[tuple[SideRun, Evaluation]]:
        """The children beside the search that were trained for ``purpose``, at the rates that the
        file asks for."""
        rates = tuple(self.asked.confirm.rates) if purpose in ("confirm", "crossed") else ()
        return [
            (named, found)
            for named, found in self.named
            if named.purpose == purpose and named.rates == rates
        ]

    @property
    def baselines(self) -> list[tuple[SideRun, Evaluation]]:
        """Scored as the search's own rules are, best first."""
        return sorted(self.of("baseline"), key=lambda pair: (-pair[1].reward, pair[0].name))

    def is_baseline(self, named: SideRun) -> bool:
        """Whether an optimizer was given, and not found by the search."""
        return (named.name, named.optimizer) in self.asked.baselines.items()


def read_history(
    path: Path,
    results: Path,
    *,
    scale: str = "paper",
    overrides: Sequence[str] = (),
    trust: bool = False,
) -> History:
    """What is known about the search of a file; empty where it has not begun.

    Raises ConfigError (RuleError) for the file or `settings.json`, LogError for a damaged log.
    Without ``trust`` the latter may name the file's own task, and those that ship.
    """
    search = load_search(path, scale=scale, overrides=overrides, trying=False)
    folder = folder_of(search, results)
    settings, notes = _settings(search, folder, trust)
    history = History(folder, search, settings, _paper(path), notes=notes)
    known = read_side_runs(folder, history.problems.append)
    history.named = without_dropped(known, search.baselines)
    history.hall.order = race_order(folder)
    for event in Log(folder / "named.jsonl").read(note=lambda _: None):
        if event["event"] == "session":
            history.beside.append(event)
        else:
            code = history.beside[-1]["code"] if history.beside else UNKNOWN_CODE
            history.made_beside[code] += 1
    for event in Log(folder / "log.jsonl").read(note=history.problems.append):
        history.take(event)
    history.rewards.sort(key=lambda reward: reward.sample)
    return history


def chance_of(settings: dict[str, Any]) -> float:
    """The chance level of the task that a search's settings name."""
    task = dict(settings["child"]["task"])
    name = task.pop("name")
    return describe(name).chance(make_settings(name, task))


def _paper(path: Path) -> Search | None:
    file = paper_file(path)
    return None if file is None else load_search(file, trying=False)


def _settings(search: Search, folder: Path, trust: bool) -> tuple[dict[str, Any], list[str]]:
    """What the search was begun with, and where the file now asks for something else."""
    path, now = folder / "settings.json", search.identity()
    before = read_settings(folder)
    if before is None:
        return now, []
    try:
        with names_in(path, trust=trust):
            chance_of(before)
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        problem = f"{path} is damaged ({type(error).__name__}: {error})"
        raise ConfigError(f"{problem}: restore it from a copy") from None
    before = search.completed(before)
    changes = list(differences(before, now))
    notes = [f"The file has other settings than this search ran with: {'; '.join(changes)}."]
    return before, notes if changes else []
