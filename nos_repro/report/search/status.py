"""How far a search is: how many rules, how good, who runs it, what is trained beside it."""

from __future__ import annotations

from nos_repro.experiments.heartbeat import live_leases, read_lease
from nos_repro.report.search.history import History
from nos_repro.report.search.made_by import stale_lines
from nos_repro.search.progress import figures


def search_status(history: History) -> str:
    """The progress lines of a search, from its files alone."""
    asked = history.asked
    over = "over" if history.hall.order else "not over"
    race = [f"{len(history.of('race'))} in the race of the best, which is {over}"]
    beside = [
        f"{len(history.of('baseline'))} of {len(asked.baselines)} baselines",
        *(race if asked.race is not None else []),
        f"{len(history.of('confirm'))} to confirm the best (`search ... --confirm`)",
        f"{len(history.of('refused'))} that were refused (`search ... --train-refused N`)",
    ]
    lines = [
        f"{asked.title}, in {history.folder}",
        who(history),
        *figures(history.tally, asked.budget, history.unique),
        f"{history.tally.sampled - history.tally.evaluated - history.withdrawn} rules under way,"
        f" {history.withdrawn} withdrawn; {history.children} children took"
        f" {history.seconds / 3600:.2f} worker-hours",
        "children beside the search:",
        *(f"  {each}" for each in beside),
        *history.notes,
        *stale_lines(history),
    ]
    return "\n".join(lines)


def who(history: History) -> str:
    """Which process is at work, and on what; without one, whether anything is left to do."""
    beside = history.folder / "answers"
    for folder, claim in live_leases([history.folder, beside]).items():
        what = " on children beside the search" if folder == beside else ""
        return f"running now{what}: process {claim.pid} on {claim.host}"
    if history.finished:
        return "finished: every rule has its reward"
    dead = read_lease(history.folder) or read_lease(beside)
    if dead is not None and dead.pid:
        who = f"process {dead.pid} on {dead.host}"
        return f"not running: {who} left it unfinished; `search` goes on from here"
    begun = "goes on from here" if history.sessions or history.named else "starts it"
    return f"not running; `search` {begun}"
