"""One LSTM layer over a segment of text, with dropout of the recurrent input.

`plain` is the specification; `lstm` is what a task calls. No library's kernel has a mask that is
shared over time but not over the batch, or a capped gate, so `_Written` writes the layer out: the
products with the inputs, and all the weights' gradients, take one call each for all steps. A step
is left with one matrix product forward, one backward, and arithmetic on what the cache holds.
Without either the layer is torch's own kernel (oneDNN's, cuDNN's).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_sigmoid_backward = torch.ops.aten.sigmoid_backward
_tanh_backward = torch.ops.aten.tanh_backward


class LstmState(NamedTuple):
    """What a layer carries from step to step."""

    hidden: Float[Tensor, "batch hidden"]
    cell: Float[Tensor, "batch hidden"]


class Weights(nn.Module):
    """A layer's weights, one bias per gate; gates in torch's order (input, forget, cell, output).

    *Readings*, since neither paper says: torch's initialisation, U(-k, k) with
    k = 1 / sqrt(hidden); the forget gate's bias is 1 more, as in TensorFlow's cells.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        bound = hidden**-0.5
        self.input = nn.Parameter(torch.empty(4 * hidden, inputs).uniform_(-bound, bound))
        self.hidden = nn.Parameter(torch.empty(4 * hidden, hidden).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(4 * hidden).uniform_(-bound, bound))
        with torch.no_grad():
            self.bias[hidden : 2 * hidden] += 1


def plain(
    inputs: Float[Tensor, "time batch inputs"],
    state: LstmState,
    weights: Weights,
    mask: Float[Tensor, "batch hidden"] | None = None,
    capped: bool = False,
) -> tuple[Float[Tensor, "time batch hidden"], LstmState]:
    """The specification: step by step, the hidden state times ``mask`` wherever it is fed back.

    What the layer passes on, upwards and to the next segment, is not masked. If ``capped``, the
    input gate lets in at most what the forget gate leaves: the cell stays between -1 and 1 (Melis
    et al. 2017).
    """
    hidden, cell = state
    outputs = []
    for x in inputs:
        fed = hidden if mask is None else hidden * mask
        gates = F.linear(x, weights.input, weights.bias) + F.linear(fed, weights.hidden)
        i, f, g, o = gates.chunk(4, dim=1)
        i, f = i.sigmoid(), f.sigmoid()
        cell = f * cell + (torch.minimum(1 - f, i) if capped else i) * g.tanh()
        hidden = o.sigmoid() * cell.tanh()
        outputs.append(hidden)
    return torch.stack(outputs), LstmState(hidden, cell)


def lstm(
    inputs: Float[Tensor, "time batch inputs"],
    state: LstmState,
    weights: Weights,
    mask: Float[Tensor, "batch hidden"] | None = None,
    capped: bool = False,
) -> tuple[Float[Tensor, "time batch hidden"], LstmState]:
    """The same as `plain`, in the type of the inputs, to which all else is cast.

    No gradient goes through the states: backpropagation stops there.
    """
    kind = inputs.dtype
    hidden, cell = state.hidden.detach().to(kind), state.cell.detach().to(kind)
    own = [weight.to(kind) for weight in (weights.input, weights.hidden, weights.bias)]
    if mask is not None or capped:
        mask = torch.ones_like(hidden) if mask is None else mask.to(kind)
        outputs, hidden, cell = _Written.apply(inputs, hidden, cell, *own, mask, capped)
        return outputs, LstmState(hidden, cell)
    flat = [*own, torch.zeros_like(own[-1])]
    with joined_at_each_call():
        grad = torch.is_grad_enabled()
        outputs, hidden, cell = torch.lstm(
            inputs, (hidden[None], cell[None]), flat, True, 1, 0.0, grad, False, False
        )
    return outputs, LstmState(hidden[0].detach(), cell[0].detach())


@contextmanager
def joined_at_each_call() -> Iterator[None]:
    """Without cuDNN's warning that it joins weights which are not one piece of memory."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="RNN module weights are not part of single")
        yield


class _Written(torch.autograd.Function):
    """The layer with a mask and perhaps a capped input gate, and its gradient, written out."""

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        hidden: Tensor,
        cell: Tensor,
        w_input: Tensor,
        w_hidden: Tensor,
        bias: Tensor,
        mask: Tensor,
        capped: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        steps, batch, _ = inputs.shape
        size = hidden.shape[1]
        gates = torch.addmm(bias, inputs.flatten(0, 1), w_input.t()).view(steps, batch, 4 * size)
        transposed = w_hidden.t().contiguous()  # 1.2x per product, paid once
        cells = inputs.new_empty(steps + 1, batch, size)
        cells[0] = cell
        outputs, fed, squashed = (torch.empty_like(cells[1:]) for _ in range(3))
        for t in range(steps):
            torch.mul(outputs[t - 1] if t else hidden, mask, out=fed[t])
            gates[t].addmm_(fed[t], transposed)
            gates[t, :, : 2 * size].sigmoid_()
            gates[t, :, 2 * size : 3 * size].tanh_()
            gates[t, :, 3 * size :].sigmoid_()
            i, f, g, o = gates[t].chunk(4, dim=1)
            let_in = torch.minimum(1 - f, i) if capped else i
            torch.mul(f, cells[t], out=cells[t + 1]).addcmul_(let_in, g)
            torch.tanh(cells[t + 1], out=squashed[t])
            torch.mul(o, squashed[t], out=outputs[t])
        last = outputs[-1].clone(), cells[-1].clone()
        ctx.mark_non_differentiable(*last)
        ctx.capped = capped
        ctx.save_for_backward(inputs, w_input, w_hidden, mask, gates, cells, fed, squashed)
        return outputs, *last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        inputs, w_input, w_hidden, mask, gates, cells, fed, squashed = ctx.saved_tensors
        d_gates = torch.empty_like(gates)
        d_hidden, d_cell, d_fed, product = (torch.zeros_like(mask) for _ in range(4))
        for t in reversed(range(len(gates))):
            i, f, g, o = gates[t].chunk(4, dim=1)
            d_i, d_f, d_g, d_o = d_gates[t].chunk(4, dim=1)
            torch.addcmul(d_outputs[t], d_fed, mask, out=d_hidden)
            torch.mul(d_hidden, squashed[t], out=product)
            _sigmoid_backward(product, o, grad_input=d_o)
            torch.mul(d_hidden, o, out=product)
            d_cell += _tanh_backward(product, squashed[t])
            torch.mul(d_cell, g, out=product)
            let_in = i
            if ctx.capped:  # where 1 - f is less than i, what reached i reaches f
                let_in, limited = torch.minimum(1 - f, i), i > 1 - f
                excess = product.masked_fill(~limited, 0.0)
                product.masked_fill_(limited, 0.0)
            _sigmoid_backward(product, i, grad_input=d_i)
            torch.mul(d_cell, cells[t], out=product)
            if ctx.capped:
                product -= excess
            _sigmoid_backward(product, f, grad_input=d_f)
            torch.mul(d_cell, let_in, out=product)
            _tanh_backward(product, g, grad_input=d_g)
            d_cell *= f
            torch.mm(d_gates[t], w_hidden, out=d_fed)
        flat = d_gates.flatten(0, 1)
        d_inputs = (flat @ w_input).view_as(inputs) if ctx.needs_input_grad[0] else None
        d_w_input = flat.t() @ inputs.flatten(0, 1)
        d_w_hidden = flat.t() @ fed.flatten(0, 1)
        return d_inputs, None, None, d_w_input, d_w_hidden, flat.sum(0), None, None
