"""What `search` prints at its end: how far it is, the best, the baselines, and what to do next."""

from __future__ import annotations

import logging
from pathlib import Path

from nos_repro.rules.simplest import simplest_text
from nos_repro.search.hall import Hall
from nos_repro.search.log import Log
from nos_repro.search.progress import counted
from nos_repro.search.settings import Search
from nos_repro.search.side_runs import read_side_runs
from nos_repro.search.state import Tally

log = logging.getLogger(__name__)


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
    baselines = sorted(
        ((found.reward, named.name) for named, found in read_side_runs(folder, log.warning)
         if named.purpose == "baseline"), reverse=True
    )  # fmt: skip
    if baselines:
        lines.append("  baselines: " + ", ".join(f"{name} {best:.4f}" for best, name in baselines))
    if tally.statuses["failed"]:
        lines.append(
            f"  {tally.statuses['failed']} failed by a bug; their tracebacks are in"
            f" {folder / 'failures'}"
        )
    lines += next_lines(tally, words, any_rule=bool(hall.ranked()))
    return lines, tally.statuses["failed"]


def next_lines(tally: Tally, words: str, *, any_rule: bool) -> list[str]:
    """The commands that a user may want next."""
    commands = {f"report {words}": "its tables"}
    if any_rule:
        commands |= {
            f"search {words} --confirm": "the best rules and the baselines over fresh seeds",
            f"search {words} --export-best 12": "a study that trains the best rules longer",
        }
    if tally.statuses["failed"]:
        commands[f"search {words} --retry"] = "trains what failed again"
    return [
        "next:",
        *(f"  python -m nos_repro {each}   # {what}" for each, what in commands.items()),
    ]
