"""The written-out LSTM layer against the plain cell, and the plain cell against torch's own."""

import math

import pytest
import torch
from torch import Tensor, nn

from nos_repro.tasks.recurrence import LstmState, Weights, lstm, plain

STEPS, BATCH, INPUTS, HIDDEN = 7, 5, 3, 4


@pytest.fixture
def weights() -> Weights:
    torch.manual_seed(0)
    return Weights(INPUTS, HIDDEN).double()


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def state() -> LstmState:
    return LstmState(draw(BATCH, HIDDEN), draw(BATCH, HIDDEN))


def mask() -> Tensor:
    return (torch.rand(BATCH, HIDDEN) < 0.7).double() / 0.7


def gradients(
    function, inputs, start, weights, dropped, capped=False
) -> tuple[list[Tensor], LstmState]:
    """Outputs and gradients of a loss in which every output counts differently."""
    inputs = inputs.clone().requires_grad_()
    outputs, last = function(inputs, start, weights, dropped, capped)
    loss = (outputs * torch.linspace(-1, 1, outputs.numel()).view_as(outputs)).sum()
    wanted = [inputs, *weights.parameters()]
    return [outputs, *torch.autograd.grad(loss, wanted)], last


@pytest.mark.parametrize("capped", [False, True], ids=["", "capped"])
@pytest.mark.parametrize("masked", [False, True], ids=["no mask", "a mask"])
def test_the_fast_layer_is_the_plain_cell_forward_and_backward(
    weights: Weights, masked: bool, capped: bool
) -> None:
    inputs, start, dropped = draw(STEPS, BATCH, INPUTS), state(), mask() if masked else None
    ours, our_state = gradients(lstm, inputs, start, weights, dropped, capped)
    theirs, their_state = gradients(plain, inputs, start, weights, dropped, capped)
    for a, b in zip([*ours, *our_state], [*theirs, *their_state], strict=True):
        torch.testing.assert_close(a, b)
    assert not any(value.requires_grad for value in our_state)


@pytest.mark.parametrize("masked", [False, True], ids=["no mask", "a mask"])
def test_single_precision_agrees_to_its_own_accuracy(masked: bool) -> None:
    torch.manual_seed(1)
    weights, inputs = Weights(24, 40), torch.randn(35, 6, 24)
    start = LstmState(torch.randn(6, 40), torch.randn(6, 40))
    dropped = (torch.rand(6, 40) < 0.8) / 0.8 if masked else None
    ours, _ = gradients(lstm, inputs, start, weights, dropped)
    theirs, _ = gradients(plain, inputs, start, weights, dropped)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_the_written_gradient_is_the_functions_own_slope(weights: Weights) -> None:
    start, dropped = state(), mask()
    names = ["input", "hidden", "bias"]

    def outputs(inputs: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(
            Layer(weights), dict(zip([f"weights.{n}" for n in names], values, strict=True)),
            (inputs, start, dropped),
        )  # fmt: skip

    values = [getattr(weights, name).detach().requires_grad_() for name in names]
    assert torch.autograd.gradcheck(outputs, (draw(2, BATCH, INPUTS).requires_grad_(), *values))


class Layer(nn.Module):
    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.weights = weights

    def forward(self, inputs: Tensor, start: LstmState, dropped: Tensor) -> Tensor:
        return lstm(inputs, start, self.weights, dropped)[0]


def test_the_plain_cell_is_torchs_lstm(weights: Weights) -> None:
    oracle = nn.LSTM(INPUTS, HIDDEN).double()
    oracle.weight_ih_l0, oracle.weight_hh_l0 = weights.input, weights.hidden
    oracle.bias_ih_l0 = weights.bias
    nn.init.zeros_(oracle.bias_hh_l0)
    inputs, start = draw(STEPS, BATCH, INPUTS), state()
    outputs, (hidden, cell) = oracle(inputs, (start.hidden[None], start.cell[None]))
    ours, last = plain(inputs, start, weights)
    for a, b in zip([ours, *last], [outputs, hidden[0], cell[0]], strict=True):
        torch.testing.assert_close(a, b)


@torch.no_grad()
def test_a_capped_gate_is_the_smaller_of_itself_and_what_the_forget_gate_leaves(
    weights: Weights,
) -> None:
    """Gate by gate and number by number; both cases occur, and the cell stays below 1."""
    inputs, start = 3 * draw(STEPS, 1, INPUTS), LstmState(*torch.zeros(2, 1, HIDDEN).double())
    outputs, last = lstm(inputs, start, weights, capped=True)
    hidden, cell, capped = [0.0] * HIDDEN, [0.0] * HIDDEN, 0
    for x, found in zip(inputs[:, 0], outputs[:, 0], strict=True):
        before = torch.tensor(hidden).double()
        for unit in range(HIDDEN):
            i, f, g, o = (
                float(weights.input[row] @ x + weights.hidden[row] @ before + weights.bias[row])
                for row in range(unit, 4 * HIDDEN, HIDDEN)
            )
            i, f, o = (1 / (1 + math.exp(-gate)) for gate in (i, f, o))
            capped += i > 1 - f
            cell[unit] = f * cell[unit] + min(i, 1 - f) * math.tanh(g)
            hidden[unit] = o * math.tanh(cell[unit])
        assert found.tolist() == pytest.approx(hidden)
    assert 0 < capped < STEPS * HIDDEN
    assert last.cell[0].tolist() == pytest.approx(cell)
    assert max(map(abs, cell)) < 1


@pytest.mark.parametrize("masked", [False, True], ids=["no mask", "a mask"])
def test_in_bfloat16_everything_in_the_layer_is(masked: bool) -> None:
    """And outputs and gradients are those of float32 to its accuracy."""
    torch.manual_seed(2)
    weights, inputs = Weights(24, 40), torch.randn(35, 6, 24)
    start = LstmState(torch.randn(6, 40), torch.randn(6, 40))
    dropped = (torch.rand(6, 40) < 0.8) / 0.8 if masked else None
    precise, _ = gradients(plain, inputs, start, weights, dropped)
    rough, last = gradients(lstm, inputs.bfloat16(), start, weights, dropped)
    assert {rough[0].dtype, *(value.dtype for value in last)} == {torch.bfloat16}
    assert {gradient.dtype for gradient in rough[2:]} == {torch.float32}
    for a, b in zip(rough, precise, strict=True):
        assert torch.cosine_similarity(a.flatten().float(), b.flatten(), dim=0) > 0.999


def test_two_segments_are_one_long_one(weights: Weights) -> None:
    inputs, start, dropped = draw(STEPS, BATCH, INPUTS), state(), mask()
    whole, end = lstm(inputs, start, weights, dropped)
    first, between = lstm(inputs[:3], start, weights, dropped)
    second, last = lstm(inputs[3:], between, weights, dropped)
    torch.testing.assert_close(torch.cat([first, second]), whole)
    torch.testing.assert_close(last, end)


def test_a_mask_hides_the_same_units_from_every_step(weights: Weights) -> None:
    """What is dropped of the first state is dropped of all that follow: it has no influence."""
    inputs, start = draw(STEPS, BATCH, INPUTS), state()
    dropped = torch.ones(BATCH, HIDDEN, dtype=torch.float64)
    dropped[:, 1] = 0
    with torch.no_grad():
        before, _ = lstm(inputs, start, weights, dropped)
        weights.hidden[:, 1] += 100
        after, _ = lstm(inputs, start, weights, dropped)
    torch.testing.assert_close(after, before)


def test_only_the_forget_gate_starts_open() -> None:
    torch.manual_seed(0)
    means = Weights(10, 400).bias.view(4, -1).mean(dim=1)
    assert means.tolist() == pytest.approx([0, 1, 0, 0], abs=0.02)


def test_an_overflow_is_a_value(weights: Weights) -> None:
    outputs, _ = lstm(draw(STEPS, BATCH, INPUTS) * torch.nan, state(), weights, mask())
    assert outputs.isnan().all()
