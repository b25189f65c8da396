"""What `search` prints at its end: how far it is, the best, the baselines, and what to do next."""

from __future__ import annotations

import logging
import shlex
from collections import Counter
from pathlib import Path

from nos_repro.rules.simplest import simplest_text
from nos_repro.search.hall import Hall
from nos_repro.search.log import Log
from nos_repro.search.progress import counted
from nos_repro.search.settings import Search
from nos_repro.search.side_runs import race_order, read_side_runs, without_dropped
from nos_repro.search.state import Tally

log = logging.getLogger(__name__)

FLAGS = {
    "baseline": "",
    "cheap": "",
    "race": "",
    "confirm": " --confirm",
    "crossed": " --confirm",
    "refused": " --train-refused 10",
}
"""What trains the children of each purpose."""


def closing_lines(
    search: Search, folder: Path, words: str, data: str = "", *, confirmed: bool = False
) -> tuple[list[str], dict[str, str], int]:
    """The lines, the commands that a user may want next with what they do, and how many children
    have failed. ``words`` name the search on a command line, ``data`` where its data are;
    ``confirmed``: the best rules have just been trained with fresh seeds."""
    tally, hall, rules = Tally(), Hall(race_order(folder)), set()
    for event in Log(folder / "log.jsonl").read(note=log.warning):
        tally.take(event)
        hall.take(event)
        if event["event"] == "evaluated":
            rules.add(event["key"])
    finished = "finished" if search.budget.over(tally) else "not finished"
    raced = " (won the race)" if hall.order else ""
    lines = [
        f"{search.search} at scale {search.scale}: {finished},"
        f" {counted(tally, search.budget, len(rules))}",
        *(f"  best: {simplest_text(found.rule)}, reward {found.reward:.4f} at rate"
          f" {found.lr:g}{raced}"
          for found in hall.best(1)),
    ]  # fmt: skip
    beside = without_dropped(read_side_runs(folder, log.warning), search.baselines)
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
    commands = {f"report {words}": "its tables"}
    if hall.ranked() and not confirmed:
        confirm = f"search {words}{data} --confirm"
        commands[confirm] = "the best rules and the baselines over fresh seeds"
    if hall.ranked():
        export = f"search {words}{data} --export-best 12"
        commands[export] = "a study that trains the best rules longer"
    for found in hall.best(1) if confirmed else ():
        rule = shlex.quote(f"rule: {simplest_text(found.rule)}")
        commands[f"export {rule} > best_rule.py"] = "the best as one file that needs torch alone"
    retried = [f"search {words}{data}{flag} --retry" for flag, count in again.items() if count]
    return lines, commands | dict.fromkeys(retried, "trains again what failed"), failed
