"""Which execution updates a batch: fused, foreach, or the plain loop that is the specification."""

from __future__ import annotations

from typing import Any

from nos_repro.optim.batch import ParameterBatch, Step
from nos_repro.optim.foreach import update_foreach
from nos_repro.optim.fused import update_fused, uses_fused
from nos_repro.optim.reference import update_reference


def update(group: dict[str, Any], batch: ParameterBatch, step: Step) -> None:
    """One update by what the group's options `foreach` and `fused` ask for, or else by what suits
    the batch.

    Where the step is a tensor (`capturable`), the plain loop stands in for foreach.

    Raises ConfigError where `fused` is asked for and impossible.
    """
    fused = None if group["foreach"] is None else False
    wish = group["fused"] if group["fused"] is not None else fused
    if uses_fused(wish, batch, step):
        update_fused(batch, step)
    elif group["foreach"] is False or step.on_device:
        update_reference(batch.flattened(), step)
    else:
        update_foreach(batch.flattened(), step)
