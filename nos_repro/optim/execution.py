"""Which execution updates a batch: fused, foreach, or the plain loop that is the specification."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nos_repro.optim.batch import FlatBatch, Step
from nos_repro.optim.foreach import update_foreach
from nos_repro.optim.fused import use_fused
from nos_repro.optim.reference import update_reference

Execution = Callable[[FlatBatch, Step], None]


def choose_execution(group: dict[str, Any], batch: FlatBatch, step: Step) -> Execution:
    """What the group's options `foreach` and `fused` ask for, or else what suits the batch.

    Raises ConfigError where `fused` is asked for and impossible.
    """
    fused = None if group["foreach"] is None else False
    wish = group["fused"] if group["fused"] is not None else fused
    execution = use_fused(wish, batch, step)
    if execution is not None:
        return execution
    return update_reference if group["foreach"] is False else update_foreach
