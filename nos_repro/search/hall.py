"""The hall of fame: the best rules of a search, and the study that filters them (sec. 5.1)."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from nos_repro.errors import ConfigError
from nos_repro.experiments.files import write_atomically
from nos_repro.experiments.settings_file import find_config, read_values
from nos_repro.rules.rule import Rule
from nos_repro.search.log import Event, Log

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
    """The healthy rules of a log whose events it is given, each different rule once."""

    drawn: Counter[str] = field(default_factory=Counter)
    _scored: dict[str, Event] = field(default_factory=dict)
    _tokens: dict[int, list[str]] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """Takes an event in; of equal rules, the first one found counts."""
        if event["event"] == "proposed":
            self._tokens[event["sample"]] = event["tokens"]
        elif event["event"] == "evaluated":
            self.drawn[event["key"]] += 1
            if event["status"] == "healthy" and event["key"] not in self._scored:
                self._scored[event["key"]] = event
            else:
                self._tokens.pop(event["sample"], None)

    def ranked(self) -> list[Event]:
        """The evaluation of every rule, best first; ties go to the rule found first."""
        return sorted(self._scored.values(), key=lambda event: (-event["reward"], event["sample"]))

    def best(self, number: int) -> list[FoundRule]:
        """The ``number`` best different rules."""
        return [
            FoundRule(
                rule=event["rule"],
                text=str(Rule.from_tokens(self._tokens[event["sample"]])),
                reward=event["reward"],
                lr=event["lr"],
                sample=event["sample"],
                drawn=self.drawn[event["key"]],
            )
            for event in self.ranked()[:number]
        ]


def best_rules(folder: Path, number: int) -> list[FoundRule]:
    """The ``number`` best different rules; ties go to the rule found first."""
    hall = Hall()
    for event in Log(folder / "log.jsonl").read(note=log.warning):
        hall.take(event)
    return hall.best(number)


def export_study(folder: Path, number: int, path: Path) -> int:
    """Writes the study `filter_<search>`; returns the number of its rules, at most ``number``.

    It is `configs/filter.yaml` with its rules replaced by the best of the search, each at three
    rates half a decade apart around the search's best, as in sec. 6.2; the baselines' rows stay.
    Raises ConfigError if no rule was found.
    """
    best = best_rules(folder, number)
    if not best:
        raise ConfigError(f"{folder}: no rules found yet; run the search first")
    values = read_values(find_config("filter"))
    rows = {
        name: row
        for name, row in values["rows"].items()
        if not row["optimizer"].startswith("rule:")
    }
    found = {
        entry.rule: {
            "optimizer": f"rule: {entry.text}",
            "sweep": {"lr": [_rounded(entry.lr * factor) for factor in (10**-0.5, 1, 10**0.5)]},
            "note": f"reward {entry.reward:.4f} at rate {entry.lr:g} (sample {entry.sample})",
        }
        for entry in best
    }
    search, scale = folder.parent.name, folder.name
    values["study"] = f"filter_{search}"
    values["source"] = f"{values['source']}, the best rules of {search} at scale {scale}"
    values["rows"] = {**found, **rows}
    heading = (
        f"# The {len(best)} best rules of {search} at scale {scale}, to be run"
        f" long (002 sec. 5.1).\n#   python -m nos_repro run {path.as_posix()} --scale small\n"
    )
    text = yaml.safe_dump(values, sort_keys=False, width=100, allow_unicode=True)
    write_atomically(path, (heading + text).encode())
    return len(best)


def _rounded(rate: float) -> float:
    """To two digits: 0.0316 becomes 0.032."""
    return float(f"{rate:.2g}")
