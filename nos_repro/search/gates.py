"""The gates of a cascade: which rules go on after a stage, and what the others earn.

All of it follows from the log, whose events are handed over one after the other.
"""

from __future__ import annotations

import bisect
import random
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

from nos_repro.search.cascade import Cascade, Stage
from nos_repro.search.child import Evaluation
from nos_repro.search.job import EvaluationJob
from nos_repro.search.log import Event, LogError

Decision = Literal["open", "passed", "anyway", "stopped"]
"""The gate did not judge yet; the rule passed; it would have been stopped, and is trained in full
all the same; it was stopped."""
DIGITS = 6
"""Digits of a forecast reward."""
SWEPT = ("status", "reward", "lr", "sweep", "seconds")
"""What the rest of a child is told of its sweep."""


class Gates:
    """What a cascade has decided so far, and how it decides next. Without a cascade there are no
    stages, and nothing to decide."""

    def __init__(self, cascade: Cascade | None, seed: int) -> None:
        self.cascade = cascade
        self.seed = seed
        self.stages: list[Stage] = [] if cascade is None else cascade.stages
        self.decided: dict[int, list[Event]] = {}
        """The decisions about each sample that has no reward yet, in the order of the stages."""
        self.seen: dict[Stage, deque[float]] = {
            stage: deque(maxlen=cascade.window if cascade else 0) for stage in self.stages
        }
        """The latest rewards at each stage."""
        self.trained: dict[Stage, list[tuple[float, float]]] = {stage: [] for stage in self.stages}
        """The reward at the stage, and in the end, of every rule that was trained in full."""

    def take(self, event: Event) -> None:
        """Takes an event of the log in. Raises LogError for a decision that cannot come next."""
        if event["event"] == "staged":
            sample, stage = event["sample"], event["stage"]
            if not self._follows(event):
                raise LogError(
                    f"sample {sample} cannot be at the stage {stage} here: a line of the log is"
                    " missing, or it was put together from several\n  restore it from a copy"
                )
            if not self._is_tried(sample):
                self.seen[stage].append(event["reward"])
            self.decided.setdefault(sample, []).append(event)
        elif event["event"] == "evaluated":
            decisions = self.decided.pop(event["sample"], [])
            if event["status"] not in ("stopped", "reused"):
                for before in decisions:
                    self.trained[before["stage"]].append((before["reward"], event["reward"]))

    def next_stage(self, sample: int) -> Stage | None:
        """The stage that is next for a sample; None: what comes after all of them."""
        known = len(self.decided.get(sample, ()))
        return self.stages[known] if known < len(self.stages) else None

    def part_of(self, whole: EvaluationJob, sample: int) -> EvaluationJob:
        """The part of a child's evaluation that is next."""
        stage = self.next_stage(sample)
        if stage == "cheap" and self.cascade is not None and self.cascade.cheap is not None:
            return replace(whole, name=f"{whole.name}-cheap", child=self.cascade.cheap)
        if stage == "sweep":
            return replace(whole, name=f"{whole.name}-sweep", part="sweep")
        for event in self.decided.get(sample, ()):
            if event["stage"] == "sweep":
                known = {key: event[key] for key in SWEPT if key in event}
                return replace(whole, part="rest", swept=Evaluation.from_json(known))
        return whole

    def decide(self, sample: int, found: Evaluation) -> Event | None:
        """The event that says whether a sample goes on after the stage that has ``found`` this, and
        by which threshold; None if its child is over."""
        stage = self.next_stage(sample)
        if stage is None or self.cascade is None:
            return None
        if stage == "sweep" and found.status != "healthy":
            return None
        said = {key: value for key, value in found.to_log().items() if value or key == "reward"}
        event = {"event": "staged", "sample": sample, "stage": stage, "decision": "open", **said}
        if len(self.trained[stage]) < self.cascade.first:
            return event
        keep = self.cascade.keep(stage)
        least = threshold(self.seen[stage], keep) if keep < 1 else 0.0
        decision: Decision = "passed"
        if found.reward < least:
            drawn = random.Random(f"{self.seed} {sample} {stage}").random() < self.cascade.anyway
            decision = "anyway" if drawn or self._is_tried(sample) else "stopped"
        return {**event, "decision": decision, "threshold": least}

    def stopped(self, sample: int) -> Evaluation | None:
        """The result of a sample whose last stage stopped it."""
        if self._last(sample) != "stopped":
            return None
        event = self.decided[sample][-1]
        stage: Stage = event["stage"]
        reward = round(isotonic(self.trained[stage], event["reward"]), DIGITS)
        said = f"{event['reward']:.4g} at the stage {stage}, below {event['threshold']:.4g}"
        return Evaluation("stopped", reward, reason=said)

    def _follows(self, event: Event) -> bool:
        """Whether a decision can come next for its sample."""
        sample, stage, decision = event["sample"], event["stage"], event["decision"]
        return (
            stage == self.next_stage(sample)
            and self._last(sample) != "stopped"
            and decision in get_args(Decision)
            and (decision == "open" or ("threshold" in event and bool(self.trained[stage])))
        )

    def _last(self, sample: int) -> Decision | None:
        decisions = self.decided.get(sample)
        return decisions[-1]["decision"] if decisions else None

    def _is_tried(self, sample: int) -> bool:
        """Whether a sample is trained in full although a gate would have stopped it."""
        return any(event["decision"] == "anyway" for event in self.decided.get(sample, ()))


def threshold(seen: Sequence[float], keep: float) -> float:
    """The least value that at most a share ``keep`` of the values reach; if even the best one is
    shared by more, the best. So of many equal values at the bottom none passes, and of many at the
    top each does."""
    ordered = sorted(seen)
    allowed = int(keep * len(ordered) + 1e-9)
    index = len(ordered) - allowed
    if 0 < index < len(ordered) and ordered[index - 1] == ordered[index]:
        index = bisect.bisect_right(ordered, ordered[index])
    return ordered[min(index, len(ordered) - 1)]


def isotonic(pairs: Sequence[tuple[float, float]], at: float) -> float:
    """The value at ``at`` of the step function that never falls and is nearest, in least squares,
    to the pairs (x, y), by pooling adjacent violators; between two steps, that of the lower one,
    and below all of them that of the lowest. At least one pair is needed."""
    heights: defaultdict[float, list[float]] = defaultdict(list)
    for x, y in pairs:
        heights[x].append(y)
    blocks: list[tuple[float, float, int]] = []  # the first x, the mean of y, how many
    for x, found in sorted(heights.items()):
        mean, count = sum(found) / len(found), len(found)
        while blocks and blocks[-1][1] >= mean:
            x, below, others = blocks.pop()
            mean, count = (mean * count + below * others) / (count + others), count + others
        blocks.append((x, mean, count))
    place = bisect.bisect_right([start for start, _, _ in blocks], at)
    return blocks[max(0, place - 1)][1]
