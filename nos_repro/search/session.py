"""The event that begins a process's part of a log: which code and machine the rest comes from."""

from __future__ import annotations

import torch

from nos_repro.experiments.provenance import code_digest, provenance
from nos_repro.experiments.trial import make_settings
from nos_repro.search.child import Child
from nos_repro.search.log import Event
from nos_repro.tasks import TASKS

ENGINE = "nos_repro.search.loop"
"""The module from which all the code is reached that a search's numbers depend on."""


def session(child: Child, workers: int) -> Event:
    """A digest of the code, provenance, and how many children are trained at a time."""
    trial = child.trial("sgd", 1.0, 0, sweep=False)
    entry = TASKS.entry(trial.task)
    settings = make_settings(trial.task, trial.task_settings)
    origins = (entry.origin, *entry.value.code(settings))
    modules = [origin.partition(":")[0] for origin in origins]
    return {
        "event": "session",
        "workers": workers,
        "code": code_digest((*modules, ENGINE)),
        **provenance("cuda" if torch.cuda.is_available() else "cpu"),
    }
