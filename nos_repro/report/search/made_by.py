"""Which code made which part of a search, and whether it is still today's."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from nos_repro.errors import NosError
from nos_repro.report.search.history import History
from nos_repro.search.session import child_code, search_code

MOST = 3
"""Parts of a search that are listed."""


def code_lines(history: History) -> list[str]:
    """The digests in a sentence, each with what it made. They are as old as the log."""
    parts = [f"{_draws(numbers)} by {code}" for code, _, numbers in _parts(history)]
    parts += [f"{_beside(count)} by {code}" for code, count in history.made_beside.items()]
    return [f"Code: {'; '.join(parts)}."] if parts else []


def stale_lines(history: History) -> list[str]:
    """What was made by other code than today's, in sentences; nothing if today's cannot be told,
    since a module is not here."""
    try:
        learns = search_code(history.asked)
        trains = child_code(history.asked.child, history.asked.cheap)
        cheap = [] if history.asked.cheap is None else [history.asked.cheap]
        beside = [child_code(child) for child in (history.asked.child, *cheap)]
    except (NosError, ImportError):
        return []
    return list(_stale(history, learns, trains, beside))


def _stale(history: History, learns: str, trains: str, beside: list[str]) -> Iterator[str]:
    for code, children, numbers in _parts(history):
        if code == learns:
            continue
        if children == trains:
            changed = "what draws and learns has changed, not what trains children"
        elif children:
            changed = "what trains children has changed: new rewards may not compare"
        else:
            changed = "what trains children may have changed too"
        yield f"Stale: {_draws(numbers)} by {code} (today's is {learns}); {changed}."
    for code, count in history.made_beside.items():
        if code not in beside:
            yield f"Stale: {_beside(count)} by {code} (today's is {' or '.join(beside)})."


def _parts(history: History) -> list[tuple[str, str, list[int]]]:
    """The code, that of the children alone ("" if the log does not tell), and the samples."""
    return [(*key, numbers) for key, numbers in history.made_by.items()]


def _beside(count: int) -> str:
    return f"{count:,} {'child' if count == 1 else 'children'} beside the search"


def _draws(numbers: list[int]) -> str:
    """`900 draws (samples 0 to 849, 860 to 909)`, `1 draw (sample 7)`."""
    if len(numbers) == 1:
        return f"1 draw (sample {numbers[0]})"
    runs: list[tuple[int, int]] = []
    groups = itertools.groupby(enumerate(sorted(numbers)), key=lambda pair: pair[1] - pair[0])
    for _, group in groups:
        members = [number for _, number in group]
        runs.append((members[0], members[-1]))
    shown = [f"{a} to {b}" if a < b else f"{a}" for a, b in runs[:MOST]]
    more = f" and {len(runs) - MOST} more parts" if len(runs) > MOST else ""
    return f"{len(numbers):,} draws (samples {', '.join(shown)}{more})"
