"""The hall of fame: the best rules of a search."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nos_repro.rules.rule import Rule
from nos_repro.search.judging import negative
from nos_repro.search.log import Event, Log, LogError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FoundRule:
    """A scored rule: its normal form, the ``text`` that was trained, and the child's result.

    ``drawn``: how often the controller wrote it. Normal forms are for reading; ``text`` is what is
    trained.
    """

    rule: str
    text: str
    reward: float
    lr: float
    sample: int
    drawn: int


@dataclass
class Hall:
    """The healthy rules of a log whose events it is given, each different rule once.

    ``order``: the normal forms of the rules that a race has told apart, the winner first.
    """

    order: Sequence[str] = ()
    drawn: Counter[str] = field(default_factory=Counter)
    _scored: dict[str, Event] = field(default_factory=dict)
    _tokens: dict[int, list[str]] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """Takes an event in; of equal rules, the first one found counts."""
        if event["event"] == "proposed":
            self._tokens[event["sample"]] = event["tokens"]
        elif event["event"] == "evaluated":
            self.drawn[event["key"]] += 1
            if event["sample"] not in self._tokens:
                raise LogError(
                    f"sample {event['sample']} has a reward, and the log does not say what it is:"
                    " a line is missing\n  restore the log from a copy"
                )
            if event["status"] == "healthy" and event["key"] not in self._scored:
                self._scored[event["key"]] = event
            else:
                self._tokens.pop(event["sample"], None)

    def ranked(self) -> list[Event]:
        """The evaluation of every rule, best first: those of the race in its order, then the others
        by their rewards; ties go to the rule found first."""
        if not self.order:
            return self.by_reward()
        places = {rule: place for place, rule in enumerate(self.order)}
        return sorted(self.by_reward(), key=lambda event: places.get(event["rule"], math.inf))

    def by_reward(self) -> list[Event]:
        """The evaluation of every rule, by its reward alone, whatever a race said."""
        return sorted(self._scored.values(), key=lambda event: (-event["reward"], event["sample"]))

    def best(self, number: int) -> list[FoundRule]:
        """The ``number`` best different rules."""
        return [
            FoundRule(
                rule=event["rule"],
                text=self._text(event),
                reward=event["reward"],
                lr=event["lr"],
                sample=event["sample"],
                drawn=self.drawn[event["key"]],
            )
            for event in self.ranked()[:number]
        ]

    def _text(self, event: Event) -> str:
        rule = Rule.from_tokens(self._tokens[event["sample"]])
        return str(negative(rule) if event.get("sign") == -1 else rule)


def best_rules(folder: Path, number: int, order: Sequence[str] = ()) -> list[FoundRule]:
    """The ``number`` best different rules; ``order`` as in `Hall`."""
    hall = Hall(order)
    for event in Log(folder / "log.jsonl").read(note=log.warning):
        hall.take(event)
    return hall.best(number)
