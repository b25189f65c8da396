"""The event that begins a process's part of a log: the code and the machine it ran on."""

from __future__ import annotations

from nos_repro.experiments.code import code_digest, task_roots
from nos_repro.search.algorithms import ALGORITHMS
from nos_repro.search.child import Child
from nos_repro.search.log import Event

CHILD = "nos_repro.search.child:evaluate"
SEARCH = "nos_repro.search.loop:SearchLoop"


def session(
    child: Child, workers: int, algorithm: str | None = None, cheap: Child | None = None
) -> Event:
    """A digest of the code, provenance, and how many children are trained at a time.

    The digest covers the code that trains a child, whatever its rule, and for a search also the
    code that learns from it with ``algorithm``, and that of the ``cheap`` child of its cascade.
    """
    import torch

    from nos_repro.experiments.provenance import provenance

    trials = [each.trial("sgd", 1.0, 0, sweep=False) for each in (child, cheap) if each is not None]
    roots = [root for each in trials for root in task_roots(each.task, each.task_settings)]
    learns = () if algorithm is None else (SEARCH, ALGORITHMS.entry(algorithm).origin)
    return {
        "event": "session",
        "workers": workers,
        "code": code_digest((*roots, CHILD, *learns)),
        **provenance("cuda" if torch.cuda.is_available() else "cpu"),
    }
