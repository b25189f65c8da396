"""The parts of a search's report: its course, its best rules, what was refused, what they share."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence

from nos_repro.report.layout import Cell, Column, ReportTable
from nos_repro.report.search.expressions import SIGNS, Lift, shares
from nos_repro.report.search.history import History, Reward
from nos_repro.report.search.protocol import protocol_lines
from nos_repro.rules.simplest import simplest_text
from nos_repro.search.child import Evaluation
from nos_repro.search.entropy import rule_entropy
from nos_repro.search.refusals import REASONS

BEST_RULES = 20
BEST_SHARE = 0.1
"""Which share of the healthy rules counts as the best where sub-expressions are counted."""
LIFTS = 15
FEW_RULES = 20
"""Below this many healthy rules, shares say nothing."""
LEARNED = 1.5
"""A reward this many times that of chance counts as having learned something."""
SETTLED = 0.5
"""A controller that draws one rule more often than this has settled on it."""
STATUSES = ("healthy", "stopped", "reused", "refused", "diverged", "overran", "failed")
NONE = "-"


def course(history: History) -> ReportTable:
    """What became of the rules, in all and in the first and the last quarter."""
    asked, rewards = history.asked, history.rewards
    heading = [
        asked.title,
        *([f"Claim: {asked.claim}"] if asked.claim else []),
        *protocol_lines(history),
    ]
    if not rewards:
        return ReportTable(heading, [], [], ["No rule yet.", *history.notes])
    quarter = len(rewards) // 4
    parts = [rewards, *((rewards[:quarter], rewards[-quarter:]) if quarter > 1 else ((), ()))]
    columns = [Column(title) for title in ("", "all", "first quarter", "last quarter")]
    first = {reward.sample for reward in history.fresh}
    fresh = [[reward for reward in part if reward.sample in first] for part in parts]
    rows = [
        ["draws with a reward", *(f"{len(part):,}" if part else NONE for part in parts)],
        ["different rules", *(f"{len({r.key for r in p}):,}" if p else NONE for p in parts)],
        ["fresh ones, first drawn there", *(f"{len(f):,}" if p else NONE
                                            for p, f in zip(parts, fresh, strict=True))],
        ["entropy of the rules drawn (nats)", *map(_entropy_words, parts)],
        ["mean reward of all draws", *map(_mean_words, parts)],
        ["mean reward of the fresh rules", *map(_mean_words, fresh)],
        ["best reward", *(f"{max(r.reward for r in p):.4f}" if p else NONE for p in parts)],
    ]  # fmt: skip
    counts = [Counter(reward.status for reward in part) for part in parts]
    rows += [
        [status, *(_of(count[status], count.total()) for count in counts)]
        for status in STATUSES
        if counts[0][status]
    ]
    cells = [[Cell(text) for text in row] for row in rows]
    return ReportTable(heading, columns, cells, [*_course_notes(history, parts), *history.notes])


def _mean(part: Sequence[Reward]) -> tuple[float, float]:
    values = [reward.reward for reward in part]
    mean, count = statistics.fmean(values), len(values)
    squares = math.fsum((value - mean) ** 2 for value in values)
    return mean, math.sqrt(squares / (count - 1) / count)


def _mean_words(part: Sequence[Reward]) -> str:
    if len(part) < 2:
        return f"{part[0].reward:.4f}" if part else NONE
    mean, error = _mean(part)
    return f"{mean:.4f} ± {error:.4f}"


def _entropy_words(part: Sequence[Reward]) -> str:
    return str(rule_entropy(reward.key for reward in part)) if len(part) > 1 else NONE


def _course_notes(history: History, parts: Sequence[Sequence[Reward]]) -> list[str]:
    tally, asked = history.tally, history.asked
    under_way = tally.sampled - tally.evaluated - history.withdrawn
    notes = [
        f"{tally.evaluated:,} of {asked.budget.asked}, of {history.unique:,} different rules,"
        f" for which {history.children:,} children were trained; {under_way} under way,"
        f" {history.withdrawn} withdrawn (their workers vanished, or their children failed)."
    ]
    if history.refused:
        why = "; ".join(f"{n:,}: {reason}" for reason, n in history.refused.most_common())
        notes.append(f"Refused without training, reward 0: {why}.")
    notes.append("Reused: an equal rule's reward; what diverged, overran or failed has reward 0.")
    if tally.statuses["stopped"]:
        notes.append(
            "Stopped: not trained in full; its reward is a forecast from a stage of the cascade."
        )
    if parts[1]:
        notes += [
            f"The mean reward of all draws {_trend(history.rewards)}. That of fresh rules (each at"
            f" its first draw, by quarters of these) {_trend(history.fresh)}. Only fresh rules tell"
            " whether the search finds better ones; the mean of all also rises when it repeats"
            " a good one.",
            "Entropy of the rules drawn: how many different ones the search writes, as the"
            " logarithm of that number if all were as likely (by Chao, Wang & Jost 2013; ± its"
            " standard error; a lower bound where most draws differ).",
            _most_drawn(history, parts[2]),
        ]
    if history.updates:
        entropies, ages = zip(*history.updates, strict=True)
        notes.append(
            f"{len(entropies):,} updates of the controller; entropy of its strings, of which many"
            f" write one rule, {entropies[0]:.2f} nats at the first, {entropies[-1]:.2f} at the"
            f" last; a sample was on average {statistics.fmean(ages):.1f} updates old when it was"
            " learned from."
        )
    if history.seconds:
        hours = history.seconds / 3600
        notes.append(
            f"{history.children:,} children in {hours:.2f} worker-hours:"
            f" {history.children / hours:.0f} children per hour and worker. Draws of known or"
            " refused rules cost nothing."
        )
    return notes


def _trend(rewards: Sequence[Reward]) -> str:
    """`rose: last quarter less first +0.4198 ± 0.0295 (95 %)`."""
    quarter = len(rewards) // 4
    if quarter < 2:
        return "cannot be judged yet"
    (before, a), (after, b) = _mean(rewards[:quarter]), _mean(rewards[-quarter:])
    change, half = after - before, 1.96 * math.hypot(a, b)
    word = "rose" if change > half else "fell" if change < -half else "shows no clear trend"
    return f"{word}: last quarter less first {change:+.4f} ± {half:.4f} (95 %)"


def _most_drawn(history: History, last: Sequence[Reward]) -> str:
    """Whether the controller still looks around, or has settled on something."""
    (key, count), *_ = Counter(reward.key for reward in last).most_common(1)
    share = count / len(last)
    settled = (
        "; the controller has settled on it, and a mean that rises for that says nothing of new"
        " rules"
    )
    return (
        f"Drawn most in the last quarter: {simplest_text(history.rules[key])}, {share:.0%} of it"
        f" ({history.hall.drawn[key]:,} times in all){settled if share > SETTLED else ''}."
    )


def hall_of_fame(history: History) -> ReportTable:
    """The best rules, with the baselines at their ranks among them."""
    rewards = [event["reward"] for event in history.hall.ranked()]
    heading = [f"Hall of fame: the best {min(BEST_RULES, len(rewards))} different rules"]
    columns = [Column(t) for t in ("rank", "rule", "reward", "rate", "drawn", "sample")]
    lines: list[tuple[float, list[str]]] = [
        (entry.reward, [f"{rank}", entry.rule, f"{entry.reward:.4f}", f"{entry.lr:g}",
                        f"{entry.drawn}", f"{entry.sample}"])
        for rank, entry in enumerate(history.best(BEST_RULES), 1)
    ]  # fmt: skip
    for named, found in history.baselines:
        rank = 1 + sum(reward > found.reward for reward in rewards)
        reward = f"{found.reward:.4f}" if found.status == "healthy" else found.status
        rate = f"{found.lr:g}" if found.lr is not None else NONE
        row = [f"({rank})", f"{named.name} (baseline)", reward, rate, NONE, NONE]
        lines.append((found.reward, row))
    if not history.hall.order:
        lines.sort(key=lambda line: -line[0])
    if not rewards:
        heading[0] = "Hall of fame: no rule yet"
    rows = [[Cell(text) for text in row] for _, row in lines]
    raced = (
        f"The first {len(history.hall.order)} are in the order of their race, the others in that of"
        " their rewards; baselines come last."
    )
    notes = [
        *([raced] if history.hall.order else []),
        f"A reward is one training by one seed, the same for all. The best of {len(rewards):,} is"
        " the best by luck too: only fresh seeds tell what it is worth (`search ... --confirm`).",
        "Rank in brackets: where a baseline, in the same protocol, stands among all found rules.",
        "Drawn: how often the search wrote the rule or an equal one. Rules are shown in their"
        " simplest form; `search ... --export-best N` writes the very texts that were trained.",
    ]
    return ReportTable(heading, columns if rows else [], rows, notes if rows else [])


def refused(history: History) -> ReportTable:
    """Refused rules that were trained all the same: whether the refusals miss anything."""
    trained: dict[str, list[Evaluation]] = {}
    for named, found in history.of("refused"):
        trained.setdefault(named.name, []).append(found)
    title = "The refusals put to the test: refused rules that were trained all the same"
    if not trained:
        return ReportTable(
            [title], [], [], ["Not run yet: `search ... --train-refused N` trains some."]
        )
    healthy = [event["reward"] for event in history.hall.ranked()]
    median = statistics.median(healthy) if healthy else math.nan
    chance = chance_reward(history)
    columns = [Column(t) for t in ("refused because", "in the search", "trained", "healthy",
               "mean reward", "best reward", "learned", "at the median")]  # fmt: skip
    everything = [found for group in trained.values() for found in group]
    groups = sorted(trained.items()) + ([("all", everything)] if len(trained) > 1 else [])
    rows = []
    for reason, group in groups:
        values = [found.reward for found in group]
        count = history.refused.total() if reason == "all" else history.refused[reason]
        row = [
            reason,
            f"{count:,}",
            f"{len(group)}",
            f"{sum(found.status == 'healthy' for found in group)}",
            f"{statistics.fmean(values):.4f}",
            f"{max(values):.4f}",
            f"{sum(value > LEARNED * chance for value in values)}",
            f"{sum(value >= median for value in values)}",
        ]
        rows.append([Cell(text) for text in row])
    best = max(found.reward for found in everything)
    rank = 1 + sum(reward > best for reward in healthy)
    notes = [
        f"Learned: a reward above {LEARNED:g} times that of chance ({chance:.4f}). At the median:"
        f" of the {len(healthy):,} healthy rules of the search ({median:.4f}) or above.",
        f"The best of the refused would stand at rank {rank:,} of {len(healthy) + 1:,}.",
        "Drawn at random among the refused, and trained by the search's own seed; what diverged"
        " has reward 0 and counts in the mean.",
    ]
    if REASONS["no descent"] in trained and not history.settings.get("canonical_sign"):
        notes.append(
            "What never points downhill was trained as it is. Its negative may train well: with"
            " `canonical_sign` a search trains that instead."
        )
    return ReportTable([title], columns, rows, notes)


def chance_reward(history: History) -> float:
    """The reward of a child that has learned nothing."""
    return history.metric.reward(history.chance)


def expressions(history: History) -> ReportTable:
    """What the best rules have in common, against all healthy ones."""
    ranked = [event["rule"] for event in history.hall.ranked()]
    title = "What the best rules share: sub-expressions of the normal forms"
    if len(ranked) < FEW_RULES:
        few = f"Too few rules yet: {len(ranked)} healthy ones, of the {FEW_RULES} that it takes."
        return ReportTable([title], [], [], [few])
    counted = shares(ranked, math.ceil(BEST_SHARE * len(ranked)))
    least = max(5, math.ceil(len(ranked) / 100))
    top = counted.top(LIFTS, least)
    signs = counted.find(SIGNS)
    columns = [
        Column("sub-expression"),
        Column(f"among the best {counted.best:,}"),
        Column(f"among all {counted.all:,}"),
        Column("lift"),
    ]

    def row(lift: Lift) -> list[Cell]:
        times = NONE if math.isnan(lift.lift) else f"{lift.lift:.1f}"
        cells = [lift.text, _of(lift.best, counted.best), _of(lift.all, counted.all), times]
        return [Cell(text) for text in cells]

    rows = [row(lift) for lift in [*top, *([] if signs in top else [signs])]]
    notes = [
        f"The best: the best {BEST_SHARE:.0%} of the healthy different rules, in the order of the"
        " hall of fame. What few rules hold had hardly a chance to be among them."
        f" Lift: share among them over share among all. Shown: the {len(top)} largest lifts of what"
        f" {least} rules or more hold, and {SIGNS} in any case (000 sec. 4.3: in 5 of its top 10).",
        "Every two factors of a product and every two terms of a sum count as a sub-expression;"
        " numbers in front and signs do not. A rule counts once, however often it was drawn.",
        "Few occurrences make large lifts by chance, and parts of one expression share theirs.",
    ]
    return ReportTable([title], columns, rows, notes)


def _of(count: int, total: int) -> str:
    return f"{count:,} ({count / total:.1%})" if total else NONE
