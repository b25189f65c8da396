"""The LSTM's steps along a string, for all replicas at once, with their derivatives written out.

The recurrent weights' gradient is one product for all steps, where autograd would add up one per
step. Forward derivatives, which a Fisher matrix needs, cost what another run does. Gates are
ordered as PyTorch's: input, forget, cell, output.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


def unroll(
    inputs: Float[Tensor, "replicas length strings gates"],
    weight: Float[Tensor, "replicas gates hidden"],
) -> Float[Tensor, "replicas length strings hidden"]:
    """The hidden states after each step, from zeros; differentiable once.

    inputs: what each step's token adds to the gates; weight: of the hidden state before it.
    """
    hidden: Tensor = _Unroll.apply(inputs, weight)
    return hidden


class Unrolled(NamedTuple):
    """The steps of a run: what their derivatives are made of. The first cells and hidden states are
    those before the first step."""

    weight: Float[Tensor, "replicas gates hidden"]
    gates: Float[Tensor, "replicas length strings gates"]
    cells: Float[Tensor, "replicas 1+length strings hidden"]
    hidden: Float[Tensor, "replicas 1+length strings hidden"]


class _Slopes(NamedTuple):
    cell_by_cell: Tensor
    cell_by_gates: Tensor
    """Of the input, forget and cell gates, before their nonlinearities."""
    hidden_by_cell: Tensor
    hidden_by_output: Tensor


@torch.no_grad()
def run(inputs: Tensor, weight: Tensor) -> Unrolled:
    """The steps for given inputs, as in `unroll`."""
    back = weight.transpose(1, 2)
    size = weight.shape[2]
    hidden = cell = inputs.new_zeros(*inputs[:, 0].shape[:2], size)
    all_gates, cells, hiddens = [], [cell], [hidden]
    for step in inputs.unbind(1):
        gates = torch.baddbmm(step, hidden, back)
        gates[..., : 2 * size].sigmoid_()
        gates[..., 2 * size : 3 * size].tanh_()
        gates[..., 3 * size :].sigmoid_()
        i, f, g, o = gates.chunk(4, -1)
        cell = torch.addcmul(i * g, f, cell)
        hidden = o * cell.tanh()
        all_gates.append(gates)
        cells.append(cell)
        hiddens.append(hidden)
    return Unrolled(weight, *(torch.stack(each, 1) for each in (all_gates, cells, hiddens)))


@torch.no_grad()
def change(
    known: Unrolled,
    inputs: Float[Tensor, "replicas length strings gates"],
    weight: Float[Tensor, "replicas gates hidden"],
) -> Float[Tensor, "replicas length strings hidden"]:
    """How fast the hidden states of a run change as its inputs and its weight do."""
    slopes = _slopes(known)
    back = known.weight.transpose(1, 2)
    moved = torch.bmm(known.hidden[:, :-1].flatten(1, 2), weight.transpose(1, 2))
    moved = inputs + moved.view_as(known.gates)
    hidden = cell = torch.zeros_like(known.hidden[:, 0])
    found = []
    for step in range(moved.shape[1]):
        parts = torch.baddbmm(moved[:, step], hidden, back)
        parts = parts.view(*parts.shape[:-1], 4, -1)
        by_gates = (parts[..., :3, :] * slopes.cell_by_gates[:, step]).sum(-2)
        cell = torch.addcmul(by_gates, cell, slopes.cell_by_cell[:, step])
        hidden = parts[..., 3, :] * slopes.hidden_by_output[:, step]
        hidden = torch.addcmul(hidden, cell, slopes.hidden_by_cell[:, step])
        found.append(hidden)
    return torch.stack(found, 1)


class _Unroll(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor) -> Tensor:
        known = run(inputs, weight)
        ctx.save_for_backward(*known)
        return known.hidden[:, 1:].clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, by_hidden: Tensor) -> Any:
        known = Unrolled(*ctx.saved_tensors)
        slopes = _slopes(known)
        by_gates = torch.empty_like(known.gates)
        parts = by_gates.view(*by_gates.shape[:-1], 4, -1)
        steps = zip(
            *(each.unbind(1) for each in (by_hidden, *slopes, by_gates)),
            parts[..., :3, :].unbind(1),
            parts[..., 3, :].unbind(1),
            strict=True,
        )
        hidden = cell = None
        for (
            at_hidden,
            cell_by_cell,
            cell_by_gates,
            by_cell,
            by_output,
            gates,
            three,
            output,
        ) in reversed(list(steps)):
            hidden = at_hidden if hidden is None else hidden + at_hidden
            cell = hidden * by_cell if cell is None else torch.addcmul(cell, hidden, by_cell)
            torch.mul(cell.unsqueeze(-2), cell_by_gates, out=three)
            torch.mul(hidden, by_output, out=output)
            hidden = torch.bmm(gates, known.weight)
            cell = cell * cell_by_cell
        flat = by_gates.flatten(1, 2).transpose(1, 2)
        return by_gates, torch.bmm(flat, known.hidden[:, :-1].flatten(1, 2))


def _slopes(known: Unrolled) -> _Slopes:
    i, f, g, o = known.gates.chunk(4, -1)
    bounded = known.cells[:, 1:].tanh()
    by_gates = [g * i * (1 - i), known.cells[:, :-1] * f * (1 - f), i * (1 - g * g)]
    return _Slopes(f, torch.stack(by_gates, -2), o * (1 - bounded * bounded), bounded * o * (1 - o))
