"""How far a search is: how many rules, how good, who runs it, what is trained beside it."""

from __future__ import annotations

from pathlib import Path

from nos_repro.experiments.heartbeat import live_leases, read_lease
from nos_repro.report.search.history import History
from nos_repro.search.progress import figures


def search_status(history: History) -> str:
    """The progress lines of a search, from its files alone."""
    asked = history.asked
    beside = [
        f"{len(history.of('baseline'))} of {len(asked.baselines)} baselines",
        f"{len(history.of('confirm'))} to confirm the best (`search ... --confirm`)",
        f"{len(history.of('refused'))} that were refused (`search ... --train-refused N`)",
    ]
    lines = [
        f"{asked.title}, in {history.folder}",
        _who(history.folder),
        *figures(history.tally, asked.samples, history.unique),
        f"{history.tally.sampled - history.tally.evaluated - history.withdrawn} rules under way,"
        f" {history.withdrawn} withdrawn; {history.children} children took"
        f" {history.seconds / 3600:.2f} worker-hours",
        f"children beside the search: {', '.join(beside)}",
        *history.notes,
    ]
    return "\n".join(lines)


def _who(folder: Path) -> str:
    claim = read_lease(folder)
    if claim is None or not claim.pid:
        return "no process has claimed it (while its baselines are trained, none has yet)"
    who = f"process {claim.pid} on {claim.host}"
    if folder not in live_leases([folder]):
        return f"{who} left it without a word; `search` goes on from there"
    return f"running now: {who}"
