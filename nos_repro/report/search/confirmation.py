"""Found rules against baselines over fresh seeds: whether the search found anything better.

The rule whose verdict counts is declared before any of these children is trained: the winner of
the race of the best, and without one the rule with the best reward in the search. The difference
that counts is that of the test metric, since the validation images chose the rule and its rate.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from nos_repro.errors import NosError
from nos_repro.experiments.selection import SampleMean
from nos_repro.optim.lookup import find_optimizer
from nos_repro.report.layout import GLUE, Cell, Column, ReportTable
from nos_repro.report.search.history import History
from nos_repro.report.statistics import Comparison, Scores, compare
from nos_repro.report.study.table import show
from nos_repro.rules.simplest import simplest_text
from nos_repro.search.child import Evaluation
from nos_repro.search.side_runs import SideRun
from nos_repro.tasks.metrics import Metric

PARTS = ("test", "val")
WORDS = {"test": "test", "val": "validation"}
NONE = "-"
TITLE = "Confirmation: found rules and baselines by fresh seeds"


@dataclass
class Candidate:
    """A rule or a baseline, with its metric by part and seed; None where there is none.

    ``rank``: a found rule's among all that the search has scored. ``decays``: those of the rate
    that are part of its rule.
    """

    name: str
    baseline: bool
    reward: float | None = None
    rank: float = math.inf
    decays: frozenset[str] = frozenset()
    rates: dict[int, float] = field(default_factory=dict)
    """The rate that the sweep chose, by seed."""
    values: dict[str, dict[int, float | None]] = field(
        default_factory=lambda: {part: {} for part in PARTS}
    )

    def number(self, part: str) -> SampleMean | None:
        """The mean over the seeds that have a value."""
        known = [value for value in self.values[part].values() if value is not None]
        if not known:
            return None
        return SampleMean(
            statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else 0.0, len(known)
        )

    def cell(self, part: str) -> str:
        number, values = self.number(part), self.values[part]
        lost = sum(value is None for value in values.values())
        remark = f"{lost} of {len(values)} without a result" if lost else ""
        if number is None:
            return remark or NONE
        return show(number) + (f" ({remark})".replace(" ", GLUE) if lost else "")


def candidates(
    history: History, runs: Sequence[tuple[SideRun, Evaluation]] | None = None
) -> list[Candidate]:
    """What is confirmed so far, or what ``runs`` hold, best test mean first."""
    metric = history.metric.name
    ranks = {
        event["rule"]: (event["reward"], rank)
        for rank, event in enumerate(history.hall.ranked(), 1)
    }
    scored = {named.optimizer: found.reward for named, found in history.of("baseline")}
    found: dict[str, Candidate] = {}
    for named, evaluation in history.of("confirm") if runs is None else runs:
        if named.optimizer not in found:
            baseline = history.is_baseline(named)
            known = (None, math.inf) if baseline else ranks.get(named.name, (None, math.inf))
            reward = scored.get(named.optimizer) if baseline else known[0]
            name = named.name if baseline else simplest_text(named.name)
            decays = decays_of(named.optimizer)
            found[named.optimizer] = Candidate(name, baseline, reward, known[1], decays)
        candidate = found[named.optimizer]
        healthy = evaluation.status == "healthy"
        if evaluation.lr is not None:
            candidate.rates[named.seed] = evaluation.lr
        for part in PARTS:
            value = evaluation.metrics.get(f"{part}_{metric}") if healthy else None
            candidate.values[part][named.seed] = value
    sign = history.metric.sign

    def key(candidate: Candidate) -> tuple[float, str]:
        number = candidate.number("test") or candidate.number("val")
        return (-sign * number.mean if number is not None else math.inf, candidate.name)

    return sorted(found.values(), key=key)


def decays_of(optimizer: str) -> frozenset[str]:
    """The decays that an optimizer's rule reads: {"ld"} of `g * sqrt(ld)`, none of `adam`."""
    try:
        rule = find_optimizer(optimizer).rule_with({})
    except NosError:  # of a module that is not here
        return frozenset()
    operands = rule.operands if rule is not None else ()
    return frozenset(row.name for row in operands if row.needs_total_steps)


def alike(one: Candidate, found: Sequence[Candidate]) -> list[Candidate]:
    """The baselines that are given every decay that ``one`` has: only these tell whether more than
    the decay makes it better."""
    return [each for each in found if each.baseline and one.decays <= each.decays]


def declared(found: Sequence[Candidate]) -> Candidate | None:
    """The found rule whose verdict counts: the search's best among those that were confirmed, by
    their race if there was one."""
    rules = [each for each in found if not each.baseline]
    return min(rules, key=lambda each: each.rank) if rules else None


def versus(history: History, one: Candidate, other: Candidate, part: str) -> Comparison:
    """The metric of one less that of the other, with its sign changed where smaller is better."""
    return compare(_scores(history, one, part), _scores(history, other, part))


def confirmation(history: History) -> list[ReportTable]:
    """Means over fresh seeds, then the verdicts."""
    found = candidates(history)
    if not found:
        return [ReportTable([TITLE], [], [], ["Not run yet: `search ... --confirm` trains them."])]
    return [_means(history, found), _verdicts(history, found)]


def _means(history: History, found: list[Candidate]) -> ReportTable:
    metric = history.metric.name
    seeds = sorted({seed for each in found for seed in each.values["test"]})
    columns = [Column(t) for t in ("", "search reward", f"validation {metric}", f"test {metric}")]
    rows = []
    for each in found:
        name = f"{each.name} (baseline)" if each.baseline else each.name
        reward = NONE if each.reward is None else f"{each.reward:.4f}"
        rows.append([Cell(text) for text in (name, reward, each.cell("val"), each.cell("test"))])
    notes = [
        f"Mean ± sample standard deviation (n) over seeds {', '.join(map(str, seeds))}, none of"
        f" which took part in the search; each sweeps {_swept(history)} The order is that of the"
        " test means.",
        *_rate_notes(history, found),
    ]
    return ReportTable([TITLE], columns, rows, notes)


def _swept(history: History) -> str:
    rates = history.asked.confirm.rates
    if not rates:
        return "the rates anew."
    return (
        f"{len(rates)} rates from {min(rates):g} to {max(rates):g}. They are not the search's, so"
        " that a factor which only puts a rule's rate between those is no merit."
    )


def _rate_notes(history: History, found: list[Candidate]) -> list[str]:
    """Where the sweep did not choose one rate on all seeds: what each of them led to."""
    shown = []
    for each in found:
        rates = sorted(set(each.rates.values()))
        if len(rates) > 1:
            parts = [f"{rate:g} ({_at_rate(history, each, rate)})" for rate in rates]
            shown.append(f"{each.name} {', '.join(parts)}")
    if not shown:
        return []
    return [
        "Not every seed's sweep chose the same rate. Rates, and the test means of the seeds that"
        f" chose them: {'; '.join(shown)}. Where these lie far apart, a difference says more of the"
        " sweep than of the update."
    ]


def _at_rate(history: History, each: Candidate, rate: float) -> str:
    values = [each.values["test"].get(seed) for seed, own in each.rates.items() if own == rate]
    known = [value for value in values if value is not None]
    return history.metric.decimals(statistics.fmean(known)) if known else NONE


def _verdicts(history: History, found: list[Candidate]) -> ReportTable:
    best = declared(found)
    baselines = [each for each in found if each.baseline]
    rules = [each for each in found if not each.baseline]
    if best is None or not baselines:
        return ReportTable(["Verdicts: no rule and baseline to compare yet"], [], [])
    columns = [Column("baseline")]
    for part in PARTS:
        title = f"best rule less baseline, {WORDS[part]}"
        columns += [Column(title, f"{WORDS[part]} difference"), Column("verdict")]
    columns.append(Column(f"of {len(rules)} rules, test: better / level / worse"))
    rows = []
    said: dict[str, list[str]] = {}
    for baseline in baselines:
        row = [baseline.name]
        for part in PARTS:
            result = versus(history, best, baseline, part)
            row += [difference(result, history.metric), result.verdict]
        said.setdefault(versus(history, best, baseline, "test").verdict, []).append(baseline.name)
        counted = Counter(versus(history, rule, baseline, "test").verdict for rule in rules)
        row.append(" / ".join(f"{counted[kind]}" for kind in ("better", "level", "worse")))
        rows.append([Cell(text) for text in row])
    return ReportTable(
        ["Do the best rules found beat the baselines, in the same child protocol?"],
        columns,
        rows,
        [
            _sentence(history, best, said),
            *_decay_notes(history, best, baselines),
            *_verdict_notes(history, best),
        ],
    )


# fmt: off
VERBS = {
    "better":    "beats",
    "level":     "is level with (the interval holds 0)",
    "worse":     "is worse than",
    "undecided": "cannot be told from (fewer than two seeds)",
}
# fmt: on


def _sentence(history: History, best: Candidate, said: dict[str, list[str]]) -> str:
    parts = [f"{verb} {', '.join(said[kind])}" for kind, verb in VERBS.items() if kind in said]
    how = "in the race" if history.hall.order else "by its search reward"
    return f"The best rule {how}, {best.name}: on test images it {'; '.join(parts)}."


def _decay_notes(history: History, best: Candidate, baselines: list[Candidate]) -> list[str]:
    """What a rule that decays its own rate owes to that."""
    if not best.decays:
        return []
    has = f"{best.name} decays its own rate ({', '.join(sorted(best.decays))})"
    verdicts = {each.name: versus(history, best, each, "test") for each in alike(best, baselines)}
    if not verdicts:
        return [
            f"{has}, and no baseline was given that decay: its lead may be the decay's alone, and"
            " counts as a discovery only against baselines that have it."
        ]
    said = ", ".join(
        f"{result.verdict} than {name}" if result.verdict in ("better", "worse")
        else f"{result.verdict} with {name}" if result.verdict == "level"
        else f"not told from {name}"
        for name, result in verdicts.items()
    )  # fmt: skip
    return [f"{has}. Against baselines that are given the same decay, on test images: {said}."]


def _verdict_notes(history: History, best: Candidate) -> list[str]:
    notes = [
        f"Declared beforehand: the verdict is that of the rule {_declared_by(history)}, on the test"
        " images; the validation images chose rule and rate.",
        "Differences are paired by seed, with Student's 95 % interval (n pairs). None is corrected"
        " for how many are made. Whoever has no result on more seeds than the other is worse.",
    ]
    first = next(iter(history.hall.ranked()), None)
    if first is not None and (rule := simplest_text(first["rule"])) != best.name:
        notes.append(
            f"The best rule of the search by now, {rule} ({first['reward']:.4f}), is not among"
            " those that were confirmed."
        )
    return notes


def _declared_by(history: History) -> str:
    if history.hall.order:
        return "that won the race, which other seeds decided"
    return "with the best reward in the search"


def difference(result: Comparison, metric: Metric) -> str:
    if not result.n:
        return NONE
    half = "" if math.isnan(result.half) else f"{GLUE}±{GLUE}{metric.decimals(result.half)}"
    return f"{metric.signed(result.mean)}{half}{GLUE}({result.n})"


def _scores(history: History, candidate: Candidate, part: str) -> Scores:
    sign = history.metric.sign
    return {
        seed: None if value is None else sign * value
        for seed, value in candidate.values[part].items()
    }
