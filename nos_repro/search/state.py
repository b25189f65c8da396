"""The state of a search, and how each event of its log changes it. No clock, no disk.

The log is the truth: replaying it gives the same algorithm, to the bit. A checkpoint is a place to
replay from.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from nos_repro.errors import RuleError
from nos_repro.rules.simplest import simplest_text
from nos_repro.search.log import Event, LogError
from nos_repro.search.sample import DIGITS, Sample
from nos_repro.search.settings import Search

RECENT = 0.02
"""Weight of the newest reward in the moving average that is shown."""


@dataclass
class Tally:
    """Running figures of a search, for progress and for the report."""

    sampled: int = 0
    evaluated: int = 0
    withdrawn: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    stages: Counter[str] = field(default_factory=Counter)
    """Decisions of a cascade by stage, `cheap`, and those that stopped a rule, `cheap stopped`."""
    reward_sum: float = 0.0
    best: float = 0.0
    best_rule: str = ""
    recent: float = 0.0
    entropy: float = 0.0
    staleness: float = 0.0

    def take(self, event: Event) -> None:
        """Counts an event."""
        match event["event"]:
            case "proposed":
                self.sampled += 1
            case "staged":
                self.stages[event["stage"]] += 1
                self.stages[f"{event['stage']} stopped"] += event["decision"] == "stopped"
            case "withdrawn":
                self.withdrawn += 1
                self.statuses["failed"] += event.get("status") == "failed"
            case "reopened":
                self.withdrawn -= 1
                self.statuses["failed"] -= event.get("status") == "failed"
            case "evaluated":
                self.evaluated += 1
                self.statuses[event["status"]] += 1
                self.reward_sum += event["reward"]
                self.recent += max(1 / self.evaluated, RECENT) * (event["reward"] - self.recent)
                if event["reward"] > self.best:
                    self.best, self.best_rule = event["reward"], simplest_text(event["rule"])
            case "updated":
                self.entropy = event.get("entropy", 0.0)
                self.staleness = event.get("staleness", 0.0)

    @property
    def children(self) -> int:
        """Different rules that were trained in full."""
        return sum(self.statuses[status] for status in ("healthy", "diverged", "overran"))

    @property
    def settled(self) -> int:
        """Samples from which nothing more is expected."""
        return self.evaluated + self.withdrawn

    @property
    def mean(self) -> float:
        """The mean reward so far."""
        return self.reward_sum / self.evaluated if self.evaluated else 0.0


class SearchState:
    """The algorithm, and the samples that still wait for their rewards."""

    def __init__(self, search: Search) -> None:
        self.algorithm = search.make_algorithm()
        self.redraws = search.redraws
        self.redrawn: set[str] = set()
        """The keys of rules that were drawn again, where that decides what is learned."""
        self.policy = 0
        """Updates so far."""
        self.next_number = 0
        self.open: dict[int, Sample] = {}
        self.learned: list[int] = []
        """Samples that were learned from since the last update."""

    def draw(self) -> Sample:
        """The next string. It depends on the state, the search's seed and its number alone."""
        proposal = self.algorithm.propose(self.next_number, self.open)
        return Sample(self.next_number, self.policy, *proposal)

    def propose(self, sample: Sample) -> None:
        """Takes a sample in, which waits for its reward from now on."""
        self.open[sample.number] = sample
        self.next_number = sample.number + 1

    def reward(self, event: Event) -> Event | None:
        """Gives a sample the reward of its event. If that changes the policy, returns the event of
        the update."""
        sample = self.open.pop(event["sample"])
        if not self._teaches(event):
            return None
        figures = self.algorithm.learn(sample, event["reward"])
        self.learned.append(sample.number)
        if figures is None:
            return None
        self.policy += 1
        samples, self.learned = self.learned, []
        return {
            "event": "updated",
            "policy": self.policy,
            "samples": samples,
            **{key: round(value, DIGITS) for key, value in figures.items()},
        }

    def _teaches(self, event: Event) -> bool:
        """Whether anything is learned from a reward: of a redraw, that depends on the settings."""
        if event["status"] != "reused" or self.redraws == "always":
            return True
        fresh = self.redraws == "once" and event["key"] not in self.redrawn
        self.redrawn.add(event["key"])
        return fresh

    def withdraw(self, number: int) -> None:
        """Gives a sample up without a reward: nothing is learned from it."""
        self.open.pop(number)

    def reopen(self, sample: Sample) -> None:
        """Takes a sample that was given up in again: it waits for its reward."""
        self.open[sample.number] = sample

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the search depends on, except the log."""
        return {
            "algorithm": self.algorithm.state_dict(),
            "policy": self.policy,
            "next_number": self.next_number,
            "open": [dataclasses.asdict(sample) for sample in self.open.values()],
            "learned": self.learned,
            "redrawn": sorted(self.redrawn),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.algorithm.load_state_dict(state["algorithm"])
        self.policy, self.next_number = state["policy"], state["next_number"]
        self.open = {values["number"]: Sample(**values) for values in state["open"]}
        self.learned, self.redrawn = list(state["learned"]), set(state["redrawn"])


def replay(state: SearchState, events: Iterable[Event]) -> Event | None:
    """Replays events on ``state``. Returns an update that was made but not yet logged, if any.

    Raises LogError if the events cannot follow each other, or are not of the search's space.
    """
    due: Event | None = None
    for event in events:
        number, kind = event.get("sample"), event["event"]
        if due is not None and kind != "updated":
            raise _impossible(f"update {due['policy']} of the policy is missing")
        if number is not None and not _follows(state, kind, number):
            raise _impossible(f"sample {number} cannot be {kind} here")
        match kind:
            case "proposed" | "reopened":
                sample = sample_of(event)
                _check_sample(state, sample, kind)
                (state.propose if kind == "proposed" else state.reopen)(sample)
            case "evaluated":
                due = _learn(state, event)
            case "withdrawn":
                state.withdraw(event["sample"])
            case "updated":
                made = event["policy"], event["samples"]
                if due is None or made != (due["policy"], due["samples"]):
                    raise _impossible(f"update {event['policy']} is not what its samples make")
                due = None
    return due


def _learn(state: SearchState, event: Event) -> Event | None:
    try:
        return state.reward(event)
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        said = (str(error).splitlines() or [""])[0]
        what = f"sample {event['sample']} cannot be learned from ({type(error).__name__}: {said})"
        raise _impossible(what) from None


def _check_sample(state: SearchState, sample: Sample, kind: str) -> None:
    if kind == "proposed" and sample.policy != state.policy:
        raise _impossible(f"sample {sample.number} is not of the policy before it")
    if len(sample.log_probs) not in (0, len(sample.tokens)):
        raise _impossible(f"sample {sample.number} lacks log-probabilities")
    try:
        state.algorithm.space.check(sample.tokens)
    except RuleError as error:
        raise LogError(f"sample {sample.number} of the log is not of this space: {error}") from None


def _impossible(what: str) -> LogError:
    return LogError(
        f"{what}: two searches wrote to one log, it was edited, or put together from several\n"
        "  restore it from a copy, or start a new search under another --results"
    )


def _follows(state: SearchState, kind: str, number: int) -> bool:
    """Whether an event of this kind can come next for the sample of that number."""
    match kind:
        case "proposed":
            return number == state.next_number
        case "reopened":
            return number < state.next_number and number not in state.open
        case _:
            return number in state.open


def sample_of(event: Event) -> Sample:
    """The sample that an event proposes or opens again."""
    return Sample(event["sample"], event["policy"], event["tokens"], event["log_probs"])


def proposed(sample: Sample, kind: str = "proposed") -> Event:
    """The event of a draw."""
    return {
        "event": kind,
        "sample": sample.number,
        "policy": sample.policy,
        "tokens": sample.tokens,
        "log_probs": sample.log_probs,
    }
