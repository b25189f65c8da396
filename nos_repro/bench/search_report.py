"""The report of a search of 45,000 draws, the size of the papers' own.

The log is written as a search writes it: strings drawn from the search's space, made-up rewards,
linked lines. `commands` says how to time an older commit beside it.
NOS_REPRO_BENCH_DRAWS=5000 draws fewer; the time grows in proportion to them.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nos_repro.bench.commands import PACKAGE, Command, checkouts
from nos_repro.bench.runner import BENCHMARKS, Measurement, Ratio, interleave
from nos_repro.rules.rule import Rule
from nos_repro.search.folder import folder_of
from nos_repro.search.log import Event, Log
from nos_repro.search.settings import Search, load_search

DRAWS = 45_000
SECONDS = 3.0
ROUNDS = 3
CONFIG = PACKAGE / "configs" / "search.yaml"
CHUNK = 5000


@BENCHMARKS.register("search-report")
def search_report() -> Iterator[Measurement]:
    """Seconds of processor time of `report`, imports included."""
    yield from measure(int(os.environ.get("NOS_REPRO_BENCH_DRAWS", DRAWS)))


def measure(draws: int) -> Iterator[Measurement]:
    """The measurements for a search of that many draws."""
    search = load_search(CONFIG, trying=False)
    with tempfile.TemporaryDirectory() as results:
        write_log(search, Path(results), draws)
        words = ["-m", "nos_repro", "report", str(CONFIG), "--results", results]
        commands = {
            f"report{name}: {draws:,} draws": Command(*words, checkout=place)
            for name, place in checkouts().items()
        }
        interleave(commands, rounds=ROUNDS)
    for number, (what, command) in enumerate(commands.items()):
        ours = number == 0
        yield Measurement(
            what,
            Ratio.of(command.processor[-ROUNDS:], "s"),
            at_most=SECONDS if ours and draws <= DRAWS else None,
        )


def write_log(search: Search, results: Path, draws: int) -> None:
    """Writes the folder of a search with that many draws, half of whose new rules are healthy."""
    folder = folder_of(search, results)
    folder.mkdir(parents=True)
    (folder / "settings.json").write_text(json.dumps(search.identity()), encoding="utf-8")
    log = Log(folder / "log.jsonl")
    log.open()
    events: list[Event] = [{"event": "session", "workers": 1, "code": "0" * 12}]
    source, space, known = random.Random(0), search.make_space(), dict[str, float]()
    for number in range(draws):
        tokens = space.sample(source)
        events.append({
            "event": "proposed", "sample": number, "policy": 0, "tokens": tokens,
            "log_probs": [round(-5 * source.random(), 6) for _ in tokens],
        })  # fmt: skip
        rule = str(Rule.from_tokens(tokens).normal())
        events.append({"event": "evaluated", "sample": number, "rule": rule, "key": rule,
                       **_outcome(rule, known, source)})  # fmt: skip
        if len(events) > CHUNK:
            log.append(events)
            events = []
    log.append(events)


def _outcome(rule: str, known: dict[str, float], source: random.Random) -> dict[str, Any]:
    if rule in known:
        return {"status": "reused", "reward": known[rule]}
    healthy = source.random() < 0.5
    known[rule] = round(source.random(), 6) if healthy else 0.0
    if not healthy:
        return {"status": "refused", "reward": 0.0, "reason": "made up"}
    return {"status": "healthy", "reward": known[rule], "lr": 0.1, "seconds": 36.0}
