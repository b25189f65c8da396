"""Logs of searches without training: by hand, or drawn from a space with made-up rewards."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nos_repro.experiments.files import json_line
from nos_repro.report.search.history import History, read_history
from nos_repro.rules.rule import Rule
from nos_repro.search.settings import Search, load_search

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "search.yaml"
SESSION = {
    "event": "session",
    "workers": 2,
    "code": "c0de",
    "host": "box",
    "device": "Some CPU (2 cores)",
    "threads": 1,
    "python": "3.12.1",
    "libraries": {"torch": "2.9.0", "numpy": "2.1"},
    "commit": "0123456789ab",
}
NO_DESCENT = "on no probe did the update ever point downhill"
CONSTANT = "the update is the same for every weight and step"


class Folder:
    """A search's folder that fills up as a search would fill it."""

    def __init__(self, results: Path, scale: str = "smoke") -> None:
        self.results = results
        self.search: Search = load_search(CONFIG, scale=scale)
        self.path = results / "search" / scale
        self.path.mkdir(parents=True)
        (self.path / "settings.json").write_text(json.dumps(self.search.identity(), indent=1))
        self.numbers = 0
        self.write(SESSION)

    def history(self) -> History:
        return read_history(CONFIG, self.results, scale=self.search.scale)

    def write(self, *events: dict[str, Any], to: str = "log.jsonl") -> None:
        with (self.path / to).open("a") as file:
            file.writelines(map(json_line, events))

    def propose(self, tokens: str) -> int:
        """A sample, by its tokens; its number."""
        number, self.numbers = self.numbers, self.numbers + 1
        words = tokens.split()
        self.write({"event": "proposed", "sample": number, "policy": 0, "tokens": words,
                    "log_probs": [-1.0] * len(words)})  # fmt: skip
        return number

    def sample(self, tokens: str, status: str, reward: float = 0.0, **more: Any) -> int:
        """A sample and its outcome."""
        number = self.propose(tokens)
        rule = str(Rule.from_tokens(tokens.split()).normal())
        known = {"event": "evaluated", "sample": number, "rule": rule, "key": rule}
        if status == "healthy":
            more = {"lr": 0.1, "seconds": 36.0, **more}
        self.write({**known, "status": status, "reward": reward, **more})
        return number

    def updated(self, entropy: float, staleness: float) -> None:
        self.write({"event": "updated", "policy": 1, "samples": [0], "entropy": entropy,
                    "staleness": staleness})  # fmt: skip

    def named(
        self, purpose: str, name: str, optimizer: str, seed: int = 0, status: str = "healthy",
        reward: float = 0.0, **metrics: float,
    ) -> None:  # fmt: skip
        """A child outside the search."""
        evaluation = {
            "status": status, "reward": reward, "lr": 0.1, "sweep": [[0.1, 50.0]],
            "metrics": metrics, "examples": 100, "seconds": 36.0, "reason": "",
        }  # fmt: skip
        self.write(
            {"event": "named", "purpose": purpose, "name": name, "optimizer": optimizer,
             "seed": seed, "evaluation": evaluation},
            to="named.jsonl",
        )  # fmt: skip

    def fill(
        self, count: int, reward: Callable[[random.Random, int, str], tuple[str, float]]
    ) -> None:
        """``count`` samples of the search's space, as ``reward`` of (source, number, rule) says."""
        source, space = random.Random(0), self.search.make_space()
        seen: dict[str, float] = {}
        events = []
        for number in range(self.numbers, self.numbers + count):
            tokens = space.sample(source)
            rule = str(Rule.from_tokens(tokens).normal())
            status, value = reward(source, number, rule)
            more: dict[str, Any] = {"lr": 0.1, "seconds": 36.0} if status == "healthy" else {}
            if rule in seen:
                status, value, more = "reused", seen[rule], {}
            if status == "refused":
                more = {"reason": NO_DESCENT}
            seen[rule] = value
            events += [
                {"event": "proposed", "sample": number, "policy": number // 5, "tokens": tokens,
                 "log_probs": [-2.345678] * len(tokens)},
                {"event": "evaluated", "sample": number, "rule": rule, "key": rule,
                 "status": status, "reward": value, **more},
            ]  # fmt: skip
        self.numbers += count
        self.write(*events)
