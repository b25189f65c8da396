"""The event that begins a process's part of a log: the settings, code and machine it ran with."""

from __future__ import annotations

from typing import Any

from nos_repro.experiments.code import code_digest, task_roots
from nos_repro.experiments.device import DeviceSettings
from nos_repro.experiments.trial import make_settings
from nos_repro.search.algorithms import ALGORITHMS
from nos_repro.search.child import Child
from nos_repro.search.log import Event
from nos_repro.search.settings import Search

CHILD = "nos_repro.search.child:evaluate"
LEARNS = (
    "nos_repro.search.state:SearchState",
    "nos_repro.search.equality:key_of",
    "nos_repro.search.probe:probe",
)
"""What decides the course of a search, besides its algorithm and its children."""


def child_code(*children: Child | None) -> str:
    """A digest of the code that trains these children, whatever their rules."""
    return code_digest(_roots(*children))


def search_code(search: Search) -> str:
    """A digest of that, and of the code that draws rules, refuses them and learns from them."""
    learns = (*LEARNS, ALGORITHMS.entry(search.algorithm["name"]).origin)
    return code_digest((*_roots(search.child, search.cheap), *learns))


def _roots(*children: Child | None) -> tuple[str, ...]:
    trials = [each.trial("sgd", 1.0, 0, sweep=False) for each in children if each is not None]
    roots = [root for each in trials for root in task_roots(each.task, each.task_settings)]
    return *roots, CHILD


def search_session(search: Search, workers: int) -> Event:
    """The event of a search: ``trains`` is the digest of its children's code alone."""
    return {
        **_session(workers, search_code(search), search.child, search.device),
        "trains": child_code(search.child, search.cheap),
        "settings": search.identity(),
    }


def side_session(child: Child, workers: int, device: DeviceSettings) -> Event:
    """The event of children beside a search, or of a table's."""
    return _session(workers, child_code(child), child, device)


def _session(workers: int, code: str, child: Child, device: DeviceSettings) -> dict[str, Any]:
    """``device_settings``: what is in effect where the children train (`experiments.device`), if
    it is this machine."""
    from nos_repro.experiments.provenance import provenance

    task = dict(child.task)
    held = device.on(_device(), make_settings(task.pop("name"), task))
    found = {"event": "session", "workers": workers, "code": code, **provenance(_device())}
    return {**found, "device_settings": held.to_json()}


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
