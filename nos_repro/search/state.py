"""The state of a search, and how each event of its log changes it. No clock, no disk.

The log is the truth: replaying it gives the same controller, to the bit. A checkpoint is a place to
replay from.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nos_repro.rules.rule import Rule
from nos_repro.rules.simplest import simplest_text
from nos_repro.search.algorithms import ALGORITHMS, Algorithm, Batch
from nos_repro.search.log import Event, LogError
from nos_repro.search.settings import Search

if TYPE_CHECKING:
    from nos_repro.search.controller import Controller

DIGITS = 6
"""Log-probabilities are rounded when drawn, so that the log holds exactly what was used."""
RECENT = 0.02
"""Weight of the newest reward in the moving average that is shown."""


@dataclass(frozen=True)
class Sample:
    """A string that the controller wrote: its number, words, log-probabilities when drawn, and the
    number of updates before it."""

    number: int
    policy: int
    tokens: list[str]
    log_probs: list[float]

    @property
    def rule(self) -> Rule:
        return Rule.from_tokens(self.tokens)


@dataclass
class Tally:
    """Running figures of a search, for progress and for the report."""

    sampled: int = 0
    evaluated: int = 0
    withdrawn: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
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
    def settled(self) -> int:
        """Samples from which nothing more is expected."""
        return self.evaluated + self.withdrawn

    @property
    def mean(self) -> float:
        """The mean reward so far."""
        return self.reward_sum / self.evaluated if self.evaluated else 0.0


class SearchState:
    """The controller, its algorithm, and the samples that still wait for their rewards."""

    def __init__(self, search: Search) -> None:
        self.search = search
        self.controller: Controller = search.make_controller()
        settings = search.algorithm_settings()
        self.batch: int = settings.batch
        self.algorithm: Algorithm = ALGORITHMS.find(search.algorithm["name"])(
            self.controller, settings
        )
        self.policy = 0
        self.next_number = 0
        self.open: dict[int, Sample] = {}
        self.rewarded: list[tuple[Sample, float]] = []
        """The batch being collected."""

    def draw(self) -> Sample:
        """The next string, from the current policy. Its draw is seeded by the search's seed and its
        number alone."""
        import torch

        generator = torch.Generator().manual_seed(_mixed(self.search.seed, self.next_number))
        drawn = self.controller.sample(1, generator)
        (tokens,) = self.controller.decode(drawn.tokens)
        log_probs = [round(x, DIGITS) for x in drawn.log_probs[0].tolist()]
        return Sample(self.next_number, self.policy, tokens, log_probs)

    def propose(self, sample: Sample) -> None:
        """Takes a sample in, which waits for its reward from now on."""
        self.open[sample.number] = sample
        self.next_number = sample.number + 1

    def reward(self, number: int, reward: float) -> Event | None:
        """Gives a sample its reward. If that fills a batch, updates the policy and returns the
        event."""
        self.rewarded.append((self.open.pop(number), reward))
        if len(self.rewarded) < self.batch:
            return None
        batch, self.rewarded = self.rewarded, []
        samples = [sample for sample, _ in batch]
        figures = self.algorithm.update(self._batch(batch))
        staleness = statistics.fmean(self.policy - sample.policy for sample in samples)
        self.policy += 1
        figures |= {"staleness": staleness, "baseline": self.algorithm.baseline.value or 0.0}
        return {
            "event": "updated",
            "policy": self.policy,
            "samples": [sample.number for sample in samples],
            **{key: round(value, DIGITS) for key, value in figures.items()},
        }

    def withdraw(self, number: int) -> None:
        """Gives a sample up without a reward: nothing is learned from it."""
        self.open.pop(number)

    def reopen(self, sample: Sample) -> None:
        """Takes a sample that was given up in again: it waits for its reward."""
        self.open[sample.number] = sample

    def _batch(self, rewarded: Iterable[tuple[Sample, float]]) -> Batch:
        import torch

        samples, rewards = zip(*rewarded, strict=True)
        return Batch(
            self.controller.encode([sample.tokens for sample in samples]),
            torch.tensor([sample.log_probs for sample in samples]),
            torch.tensor(rewards, dtype=torch.float32),
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the search depends on, except the log."""
        return {
            "controller": self.controller.state_dict(),
            "algorithm": self.algorithm.state_dict(),
            "policy": self.policy,
            "next_number": self.next_number,
            "open": [dataclasses.asdict(sample) for sample in self.open.values()],
            "rewarded": [(dataclasses.asdict(sample), r) for sample, r in self.rewarded],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.controller.load_state_dict(state["controller"])
        self.algorithm.load_state_dict(state["algorithm"])
        self.policy, self.next_number = state["policy"], state["next_number"]
        self.open = {values["number"]: Sample(**values) for values in state["open"]}
        self.rewarded = [(Sample(**values), reward) for values, reward in state["rewarded"]]


def replay(state: SearchState, events: Iterable[Event]) -> Event | None:
    """Replays events on ``state``. Returns an update that was made but not yet logged, if any.

    Raises LogError if the events cannot follow each other.
    """
    unlogged: Event | None = None
    for event in events:
        number, kind = event.get("sample"), event["event"]
        if number is not None and not _follows(state, kind, number):
            raise LogError(
                f"sample {number} cannot be {kind} here: two searches wrote to one log, or it was"
                " put together from several\n  start a new search under another --results"
            )
        match kind:
            case "proposed":
                state.propose(sample_of(event))
            case "reopened":
                state.reopen(sample_of(event))
            case "evaluated":
                unlogged = state.reward(event["sample"], event["reward"])
            case "withdrawn":
                state.withdraw(event["sample"])
            case "updated":
                unlogged = None
    return unlogged


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


def _mixed(seed: int, number: int) -> int:
    """One seed per (seed, number), by SplitMix64's mixing, so that nearby pairs differ widely."""
    x = (seed * 0x9E3779B97F4A7C15 + number + 1) & (2**64 - 1)
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & (2**64 - 1)
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & (2**64 - 1)
    return (x ^ (x >> 31)) & (2**63 - 1)
