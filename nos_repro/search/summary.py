"""What `search` prints at its end: how far it is, the best, the baselines, and what to do next."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from nos_repro.rules.simplest import simplest_text
from nos_repro.search.hall import Hall
from nos_repro.search.log import Log
from nos_repro.search.progress import counted
from nos_repro.search.settings import Search
from nos_repro.search.side_runs import read_side_runs
from nos_repro.search.state import Tally

log = logging.getLogger(__name__)

FLAGS = {"baseline": "", "confirm": " --confirm", "refused": " --train-refused 10"}
"""What trains the children of each purpose."""


def closing_lines(search: Search, folder: Path, words: str) -> tuple[list[str], int]:
    """The lines, and how many children have failed; ``words`` name the search on a command line."""
    tally, hall, rules = Tally(), Hall(), set()
    for event in Log(folder / "log.jsonl").read(note=log.warning):
        tally.take(event)
        hall.take(event)
        if event["event"] == "evaluated":
            rules.add(event["key"])
    finished = "finished" if tally.settled >= search.samples else "not finished"
    lines = [
        f"{search.search} at scale {search.scale}: {finished},"
        f" {counted(tally, search.samples, len(rules))}",
        *(f"  best: {simplest_text(found.rule)}, reward {found.reward:.4f} at rate {found.lr:g}"
          for found in hall.best(1)),
    ]  # fmt: skip
    beside = read_side_runs(folder, log.warning)
    baselines = sorted(
        ((found.reward, named.name) for named, found in beside if named.purpose == "baseline"),
        reverse=True,
    )
    if baselines:
        lines.append("  baselines: " + ", ".join(f"{name} {best:.4f}" for best, name in baselines))
    again = Counter({"": tally.statuses["failed"]})
    again.update(FLAGS[named.purpose] for named, found in beside if found.status == "failed")
    failed = again.total()
    if failed:
        lines.append(f"  {failed} failed by a bug; their tracebacks are in {folder / 'failures'}")
    retried = [f"search {words}{flag} --retry" for flag, count in again.items() if count]
    lines += next_lines(words, retried, any_rule=bool(hall.ranked()))
    return lines, failed


def next_lines(words: str, retried: Sequence[str], *, any_rule: bool) -> list[str]:
    """The commands that a user may want next; those in ``retried`` train again what failed."""
    commands = {f"report {words}": "its tables"}
    if any_rule:
        commands |= {
            f"search {words} --confirm": "the best rules and the baselines over fresh seeds",
            f"search {words} --export-best 12": "a study that trains the best rules longer",
        }
    commands |= dict.fromkeys(retried, "trains again what failed")
    return [
        "next:",
        *(f"  python -m nos_repro {each}   # {what}" for each, what in commands.items()),
    ]
