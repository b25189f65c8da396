"""What is said of a row beside its numbers: how far it has come, what its optimizer keeps."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from nos_repro.experiments.schema import Row
from nos_repro.experiments.selection import Outcome
from nos_repro.optim.lookup import find_optimizer

SIDE = 8
"""Of the square matrix on which an optimizer is tried."""


def is_complete(outcome: Outcome) -> bool:
    """Whether every trial that makes the row's cells has finished."""
    records = outcome.counting
    asked = len(outcome.repeats) or 1
    return len(records) == asked and all(record.status == "finished" for record in records)


def state(outcome: Outcome) -> str:
    """Why a row has no number, in a few words."""
    if outcome.standing is not None:
        return how_far(outcome)
    if outcome.missing or outcome.growing:
        return "not run yet"
    return "diverged" if outcome.diverged else "no run finished"


def how_far(outcome: Outcome) -> str:
    """`stopped at epoch 10 (rank 9 of 12)`, `going on to epoch 30 (rank 2 of 12)`, `to the end
    (rank 1 of 3)`: the rank is that of the last rung. "" where the study has no `halving`."""
    standing = outcome.standing
    if standing is None:
        return ""
    if standing.place is None:
        begun = sum(scored.leg is None for scored in outcome.sweep)
        return f"{begun}/{len(outcome.sweep)} at epoch {standing.until}" if begun else "not run yet"
    record = outcome.chosen.record if outcome.chosen is not None else None
    if outcome.chosen is None:
        kinds = {scored.record.status for scored in outcome.sweep if scored.record is not None}
        return " or ".join(sorted(kinds))
    if record is None:
        return f"going on to epoch {standing.until} ({standing.place})"
    if record.status == "stopped":
        return f"stopped at epoch {standing.place.rung} ({standing.place})"
    if record.status == "finished":
        return f"to the end ({standing.place})"
    return f"{record.status} after epoch {record.epoch:g} ({standing.place})"


def values_per_parameter(row: Row, task: Mapping[str, Any] | None = None) -> float:
    """Values that the row's optimizer keeps for each parameter (002 sec. 6.4: one running average,
    Adam two). ``task``: the study's section; several optimizers in one keep what they keep for
    their shares of its model, and NaN without one."""
    options = {key: value for key, value in row.options.items() if key != "groups"}
    if row.optimizer == "split":
        return math.nan if task is None else _values_of_parts(row, task)
    plain = dataclasses.replace(row, options=options)
    known = find_optimizer(row.optimizer).keeps(options)
    return counted_values(plain) if known is None else float(known)


def _values_of_parts(row: Row, task: Mapping[str, Any]) -> float:
    from nos_repro.experiments.parameters import row_groups

    kept = total = 0.0
    for group, members in row_groups(task, row.optimizer, row.options):
        size = sum(member.size for member in members)
        kept += size * values_per_parameter(Row(group.part.name, options=group.part.options))
        total += size
    return kept / total


def counted_values(row: Row) -> float:
    """The same, counted after a step of the optimizer."""
    import torch

    from nos_repro.optim.factory import make_optimizer

    weight = torch.nn.Parameter(torch.zeros(SIDE, SIDE))
    weight.grad = torch.ones(SIDE, SIDE)
    named = [("weight", weight)]
    optimizer = make_optimizer(row.optimizer, named, lr=1e-3, total_steps=2, **row.options)
    optimizer.step()
    kept = (value for state in optimizer.state.values() for value in state.values())
    tensors = [value for value in kept if isinstance(value, torch.Tensor)]
    return (
        sum(tensor.numel() for tensor in tensors if tensor.shape == weight.shape) / weight.numel()
    )
