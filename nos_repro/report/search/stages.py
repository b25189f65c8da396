"""A cascade in the report of its search: what each stage let pass, what it cost, what it lost; and
the race of the best rules."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from nos_repro.launch.progress import duration
from nos_repro.report.distributions import share_interval
from nos_repro.report.layout import GLUE, Cell, Column, ReportTable
from nos_repro.report.search.history import History
from nos_repro.rules.simplest import simplest_text
from nos_repro.search.log import Event

NONE = "-"
WORDS = {"cheap": "cheap child", "sweep": "sweep of the child"}
"""The stages in a table's words."""
GOOD = 0.1
"""The best share of the rules that passed every stage: what a search is after."""


class Fate(NamedTuple):
    """A sample that a cascade has judged: the decisions about it, and how it ended (None: not
    yet)."""

    decisions: list[Event]
    end: Event | None

    @property
    def is_trained(self) -> bool:
        """Whether it was trained in full."""
        return self.end is not None and self.end["status"] not in ("stopped", "reused")

    @property
    def passed(self) -> bool:
        """Whether no gate would have stopped it."""
        return all(event["decision"] in ("open", "passed") for event in self.decisions)

    def caught(self, stage: str) -> str:
        """ "stopped" or "anyway" if this stage was the first to stop the sample or to let it go on
        by chance alone; else ""."""
        for event in self.decisions:
            if event["decision"] in ("stopped", "anyway"):
                return str(event["decision"]) if event["stage"] == stage else ""
        return ""


def fates(history: History) -> list[Fate]:
    """What became of every sample that a cascade has judged."""
    return [
        Fate(decisions, history.ends.get(sample)) for sample, decisions in history.staged.items()
    ]


def cascade_tables(history: History) -> list[ReportTable]:
    """What the stages let pass and cost, and what they lost; [] for a search without a cascade."""
    found = fates(history)
    stages = list(dict.fromkeys(e["stage"] for fate in found for e in fate.decisions))
    stages.sort(key=list(WORDS).index)
    return [_passed(history, found, stages), _lost(found, stages)] if stages else []


def _passed(history: History, found: Sequence[Fate], stages: Sequence[str]) -> ReportTable:
    titles = ("stage", "rules", "healthy there", "passed", "stopped", "trained in full anyway",
              "worker's time", "seconds per rule")  # fmt: skip
    rows, before = [], 0.0
    for stage in stages:
        events = [e for fate in found for e in fate.decisions if e["stage"] == stage]
        kinds = Counter(event["decision"] for event in events)
        spent = sum(event.get("seconds", 0.0) for event in events)
        before += spent
        went = f"{kinds['passed'] + kinds['open']:,}"
        if kinds["open"]:
            went += f" ({kinds['open']:,} before it judged)"
        healthy = sum(event["status"] == "healthy" for event in events)
        counts = (
            f"{len(events):,}",
            f"{healthy:,}",
            went,
            f"{kinds['stopped']:,}",
            f"{kinds['anyway']:,}",
        )
        rows.append([WORDS[stage], *counts, *_cost(spent, len(events))])
    full = [fate for fate in found if fate.is_trained]
    rest = history.seconds - before
    title = "rest of the child" if "sweep" in stages else "the child"
    ended = [fate for fate in full if fate.end is not None and fate.end["status"] == "healthy"]
    none = [NONE] * 3
    rows.append([title, f"{len(full):,}", f"{len(ended):,}", *none, *_cost(rest, len(full))])
    rows.append(["all", f"{len(found):,}", NONE, *none, *_cost(history.seconds, len(found))])
    notes = [
        "A rule goes on if its reward at the stage is among the best share of those before it. One"
        " that is stopped earns the reward that is forecast from its reward there, and is none of"
        " the best rules. One that is trained in full anyway is not stopped later either.",
    ]
    notes += _baselines(history)
    if ended:
        each = statistics.fmean(_seconds(fate, without="cheap") for fate in ended)
        whole = each * len(found)
        notes.append(
            f"A healthy child took {each:.3g} s in full, its cheap child left out: all"
            f" {len(found):,} rules would have taken a worker at most {duration(whole)} without the"
            f" cascade, and took {duration(history.seconds)}."
        )
    cells = [[Cell(text) for text in row] for row in rows]
    heading = ["The cascade: what each stage let pass, and its cost"]
    return ReportTable(heading, list(map(Column, titles)), cells, notes)


def _baselines(history: History) -> list[str]:
    """Whether the last threshold of the cheap child would have stopped the baselines."""
    thresholds = [
        event["threshold"]
        for events in history.staged.values()
        for event in events
        if event["stage"] == "cheap" and "threshold" in event
    ]
    scored = sorted(history.of("cheap"), key=lambda pair: -pair[1].reward)
    if not (scored and thresholds):
        return []
    last = thresholds[-1]
    parts = []
    for word, group in (
        ("pass", [pair for pair in scored if pair[1].reward >= last]),
        ("would be stopped", [pair for pair in scored if pair[1].reward < last]),
    ):
        said = ", ".join(f"{named.name} ({found.reward:.3f})" for named, found in group)
        parts += [f"{said} {word}"] if group else []
    return [
        f"By the last threshold of the cheap child, {last:.3f}, the baselines {'; '.join(parts)}."
    ]


def _cost(seconds: float, rules: int) -> tuple[str, str]:
    return duration(seconds), f"{seconds / rules:.3g}" if rules else NONE


def _seconds(fate: Fate, without: str) -> float:
    spent = [e.get("seconds", 0.0) for e in fate.decisions if e["stage"] != without]
    return float(sum([*spent, 0.0 if fate.end is None else fate.end.get("seconds", 0.0)]))


def _lost(found: Sequence[Fate], stages: Sequence[str]) -> ReportTable:
    heading = ["What the cascade loses: rules that it would have stopped, trained in full anyway"]
    ends = sorted(float(f.end["reward"]) for f in found if f.is_trained and f.passed and f.end)
    if not ends:
        return ReportTable(heading, [], [], ["No rule has passed every stage yet."])
    good, median = ends[-max(1, round(GOOD * len(ends)))], statistics.median(ends)
    titles = ("stage", "stopped", "trained anyway", "as good as the median",
              f"as good as the best {GOOD:.0%}", "best of them")  # fmt: skip
    rows = []
    for stage in stages:
        caught = [fate for fate in found if fate.caught(stage)]
        stopped = sum(fate.caught(stage) == "stopped" for fate in caught)
        tried = [float(f.end["reward"]) for f in caught if f.is_trained and f.end is not None]
        row = [WORDS[stage], f"{stopped:,}", f"{len(tried):,}"]
        row += [_share(sum(reward >= level for reward in tried), len(tried))
                for level in (median, good)]  # fmt: skip
        rows.append([*row, f"{max(tried):.4f}" if tried else NONE])
    notes = [
        f"As good as: a reward at or above that of the {len(ends):,} rules that passed every stage"
        f" ({median:.4f} at their median, {good:.4f} for their best {GOOD:.0%}). The share of those"
        " trained anyway, which were drawn at random, estimates that of all rules that a stage"
        " stopped, with its 95 % interval (Clopper and Pearson 1934).",
    ]
    cells = [[Cell(text) for text in row] for row in rows]
    return ReportTable(heading, list(map(Column, titles)), cells, notes)


def _share(count: int, of: int) -> str:
    if not of:
        return NONE
    low, high = share_interval(count, of)
    return f"{count} ({low:.0%} to {high:.0%})".replace(" ", GLUE)


def race_tables(history: History) -> list[ReportTable]:
    """The race of the best rules; [] where none has begun."""
    raced: dict[str, dict[int, float]] = {}
    for named, found in history.of("race"):
        raced.setdefault(named.name, {})[named.seed] = found.reward
    if not raced:
        return []
    heading = ["The race: the best rules again with fresh seeds, the weaker ones dropping out"]
    order = [rule for rule in history.hall.order if rule in raced]
    if not order:
        return [ReportTable(heading, [], [], ["It is not over yet: `search` goes on with it."])]
    searched = {
        event["rule"]: (event["reward"], rank)
        for rank, event in enumerate(history.hall.by_reward(), 1)
    }
    titles = ("place", "rule", "mean reward in the race", "reward in the search", "rank there")
    rows = []
    for place, rule in enumerate(order, 1):
        values = list(raced[rule].values())
        spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
        reward, rank = searched.get(rule, (0.0, 0))
        mean = f"{statistics.fmean(values):.4f}{spread} ({len(values)})".replace(" ", GLUE)
        rows.append([f"{place}", simplest_text(rule), mean, f"{reward:.4f}", f"{rank}"])
    notes = [
        "Mean ± sample standard deviation (n seeds), of validation. A rule with fewer seeds dropped"
        " out when these were over. The order is that of the hall of fame, and says which rule is"
        " confirmed; neither the search's seed nor those of the confirmation took part.",
    ]
    cells = [[Cell(text) for text in row] for row in rows]
    return [ReportTable(heading, list(map(Column, titles)), cells, notes)]
