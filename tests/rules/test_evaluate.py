"""The plain meaning of a tree, against numpy and torch.optim."""

import math

import numpy as np
import pytest
import torch

from nos_repro.rules.decays import annealed_noise_std
from nos_repro.rules.evaluate import evaluate
from nos_repro.rules.parse import parse
from nos_repro.rules.primitives import BINARY, UNARY, operand_row
from nos_repro.rules.rows import BinaryRow, UnaryRow

EDGES = torch.tensor([0.0, -0.0, 1.0, -1.0, 1e-5, -3e-4, 90.0, -90.0, math.inf, -math.inf])


@pytest.mark.parametrize(
    ("text", "oracle"),
    [
        ("exp(g)", np.exp),
        ("log(g)", lambda x: np.log(np.abs(x))),
        ("sqrt(g)", lambda x: np.sqrt(np.abs(x))),
        ("sign(g)", np.sign),
        ("neg(g)", np.negative),
        ("clip(g, 1e-4)", lambda x: np.clip(x, -1e-4, 1e-4)),
        ("sigmoid(g)", lambda x: 1 / (1 + np.exp(-x))),
        ("g + 2", lambda x: x + 2),
        ("g - 2", lambda x: x - 2),
        ("2 * g", lambda x: 2 * x),
        ("1 / g", lambda x: 1 / (x + 1e-8)),
        ("g**2", lambda x: x**2),
        ("g**0.5", lambda x: np.power(x, 0.5)),
        ("2**g", lambda x: 2**x),
        ("2**3 + g * 0", lambda x: 8 + x * 0),
        ("g2 + g3", lambda x: x * x + x * x * x),
    ],
)
def test_functions_mean_what_numpy_means_at_the_edges_too(text, oracle):
    with np.errstate(all="ignore"):
        expected = torch.from_numpy(np.asarray(oracle(EDGES.double().numpy())))
    actual = evaluate(parse(text), {"g": EDGES.double()})
    torch.testing.assert_close(actual, expected, equal_nan=True, rtol=1e-12, atol=0)


def test_sign_of_zero_is_zero():
    zeros = torch.tensor([0.0, -0.0])
    assert evaluate(parse("sign(g)"), {"g": zeros}).tolist() == [0, 0]


def test_the_result_has_the_shape_and_type_of_the_gradient():
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        for shape in ((), (3,), (2, 3)):
            g = torch.ones(shape, dtype=dtype)
            for text in ("g * 2", "1", "2**0.5 * g", "exp(1)", "ld * g"):
                update = evaluate(parse(text), {"g": g, "ld": 0.5})
                assert (update.shape, update.dtype) == (g.shape, g.dtype), text


@pytest.mark.parametrize("text", ["adam", "m / sqrt(v)"])
def test_the_adam_rule_matches_torch(text):
    generator = torch.Generator().manual_seed(0)
    w = torch.nn.Parameter(torch.randn(50, generator=generator))
    ours, m, v = w.detach().clone(), torch.zeros(50), torch.zeros(50)
    theirs = torch.optim.Adam([w], lr=0.01)
    for step in range(1, 51):
        w.grad = g = torch.randn(50, generator=generator)
        theirs.step()
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        averages = {"m": m / (1 - 0.9**step), "v": v / (1 - 0.999**step)}
        ours -= 0.01 * evaluate(parse(text), {"g": g, **averages})
    torch.testing.assert_close(ours, w.detach(), rtol=0, atol=1e-6)


def test_drops_are_drawn_once_per_distinct_subtree_in_reading_order():
    asked = []

    def drop(x, probability):
        asked.append((x[0].item(), probability))
        return x * 0

    operands = {"g": torch.ones(2), "m": torch.full((2,), 2.0)}
    evaluate(parse("drop(m, 0.3) * drop(g, 0.1) + drop(m, 0.3) * drop(1, 0.5)"), operands, drop)
    assert asked == [(2.0, 0.3), (1.0, 0.1), (1.0, 0.5)]


def test_equal_noise_is_one_noise():
    noise = torch.randn(5)
    assert not evaluate(parse("noise - noise"), {"g": noise, "noise": noise}).any()


@pytest.mark.parametrize(
    ("name", "step", "value"),
    [
        ("ld", 0, 1.0), ("ld", 25, 0.75), ("ld", 100, 0.0), ("ld", 200, 0.0),
        ("cd", 0, 1.0), ("cd", 50, 0.5), ("cd", 100, 0.0), ("cd", 200, 0.0),
        ("cd2", 25, 0.0), ("cd2", 50, 1.0), ("cd1", 50, 0.0),
        ("rd10", 0, 1.0), ("rd10", 5, 0.5), ("rd10", 10, 1.0), ("rd1", 50, 0.5), ("rd1", 100, 1.0),
    ],
)  # fmt: skip
def test_decays_follow_the_authors_formulas(name, step, value):
    assert operand_row(name).decay_at(step, 100) == pytest.approx(value, abs=1e-12)


def test_annealed_noise_has_the_papers_variance():
    for step in (0, 1, 99):
        assert annealed_noise_std(step) ** 2 == pytest.approx(1 / (1 + step) ** 0.55)


def test_every_function_says_what_it_does_off_its_domain():
    for row in [*UNARY.values(), *BINARY.values()]:
        assert row.edge


NUMBERS = [0.0, -0.0, 1e-300, 0.1, -2.0, 1.0, 3.0, 3.7, -1e300, math.inf, -math.inf, math.nan]
UNARY_ON_NUMBERS = [row for row in UNARY.values() if not row.random]


def is_torch_s(value: float, expected: float) -> bool:
    """Whether they are equal but for the last bit, with NaN, infinities and signed zeros."""
    if math.isnan(expected) or not expected:
        return repr(value) == repr(expected)
    return math.isclose(value, expected, rel_tol=4e-16)


@pytest.mark.parametrize("row", UNARY_ON_NUMBERS, ids=[row.name for row in UNARY_ON_NUMBERS])
def test_a_function_of_numbers_is_torch_s(row: UnaryRow) -> None:
    assert row.function is not None
    extra = () if row.parameter is None else (0.3,)
    expected = row.function(torch.tensor(NUMBERS, dtype=torch.float64), *extra).tolist()
    found = row.on_floats(NUMBERS, *extra)
    assert [*map(is_torch_s, found, expected)] == [True] * len(NUMBERS), (found, expected)


@pytest.mark.parametrize("row", BINARY.values(), ids=BINARY)
def test_a_function_of_two_numbers_is_torch_s(row: BinaryRow) -> None:
    pairs = [(x, y) for x in NUMBERS for y in (*NUMBERS, -3.0, 0.5, -0.5)]
    x, y = (torch.tensor(side, dtype=torch.float64) for side in zip(*pairs, strict=True))
    expected = row.function(x, y).tolist()
    found = row.on_floats(x.tolist(), y.tolist())
    wrong = [p for p, a, b in zip(pairs, found, expected, strict=True) if not is_torch_s(a, b)]
    assert not wrong
