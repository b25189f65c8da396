"""The simplest of equal forms, which reports show."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nos_repro.rules.evaluate import evaluate
from nos_repro.rules.explain import explain
from nos_repro.rules.normal import normal_form
from nos_repro.rules.primitives import OPERANDS
from nos_repro.rules.printing import print_expr
from nos_repro.rules.rule import Rule
from nos_repro.rules.simplest import simplest, simplest_text
from nos_repro.rules.space import SPACES
from nos_repro.rules.tree import Binary, Number, Operand, Unary, walk

# fmt: off
SIMPLEST = [
    ("g / sqrt(1 / ld)",         "g * sqrt(ld)"),  # README's best rule, as the search wrote it
    ("g * sqrt(1 / ld)",         "g / sqrt(ld)"),
    ("g / (1 / cd)",             "cd * g"),
    ("g / (ld / rd10)",          "g * rd10 / ld"),
    ("exp(m / sqrt(1 / ld)) * g", "exp(m * sqrt(ld)) * g"),
    ("drop(g / sqrt(1 / ld), 0.3)", "drop(g * sqrt(ld), 0.3)"),
    ("m / sqrt(v)",              "adam"),
    ("g / (1 / v)",              "g / (1 / v)"),  # v is often smaller than delta
    ("g / ld",                   "g / ld"),
    ("-(rmsprop / -(g + m))",    "rmsprop / (g + m)"),
    ("rmsprop / -m",             "-(rmsprop / m)"),
    ("m - g / -(m + ld)",        "g / (ld + m) + m"),
    ("log(1 / -g)",              "log(1 / g)"),
    ("sqrt(1 / -rmsprop) * g",   "g * sqrt(1 / rmsprop)"),
    ("sign(g / -exp(m)) * adam", "-(adam * sign(g))"),
    ("g / -sqrt(1 / ld)",        "-(g * sqrt(ld))"),
    ("g / -v",                   "g / -v"),  # with a sign in front, it would climb where v is 0
    ("g / -drop(m, 0.3)",        "g / -drop(m, 0.3)"),
    ("g / -v**sign(m)",          "g / -v**sign(m)"),
]
# fmt: on


def test_drops_that_draw_independently_stay_so() -> None:
    apart = "drop(adam / -ld, 0.3) - drop(-(adam / ld), 0.3)"
    assert simplest_text(str(Rule.parse(apart).normal())) != "0"


def test_signs_in_front_keep_the_values_at_the_sizes_of_a_training() -> None:
    source, draw = random.Random(0), torch.Generator().manual_seed(0)
    values = {
        name: size * torch.randn(400, generator=draw, dtype=torch.float64)
        for name, size in {"g": 1e-3, "m": 1e-3, "gamma": 1e-9, "w": 0.05}.items()
    }
    values["v"] = values["m"] ** 2 + 1e-7
    turned = 0
    while turned < 40:
        words = SPACES["arxiv-1"].sample(source)
        normal = Rule.from_tokens(words).normal()
        shown = Rule.parse(simplest_text(str(normal)))
        if "/ -" not in str(normal) or shown == normal or normal.random:
            continue
        turned += 1
        decays = {row.name: torch.tensor(0.6) for row in normal.operands if row.decay}
        one, other = (evaluate(rule.expr, values | decays) for rule in (normal, shown))
        equal = torch.isclose(one, other, rtol=1e-2, atol=1e-9, equal_nan=True)
        assert equal.double().mean() > 0.95, f"{normal} is shown as {shown}"


@pytest.mark.parametrize(("text", "shown"), SIMPLEST)
def test_the_form_with_the_fewest_nodes_is_shown(text: str, shown: str) -> None:
    assert simplest_text(str(Rule.parse(text).normal())) == shown


def test_the_explanation_of_a_rule_says_it() -> None:
    assert "simplest form  g * sqrt(ld)\n" in explain(Rule.parse("g / sqrt(1 / ld)"))
    assert "simplest form" not in explain(Rule.parse("g / ld"))


LEAVES = [Operand("g"), Operand("m"), Operand("ld"), Operand("cd"), Number(1.0), Number(2.0)]


@given(st.recursive(
    st.sampled_from(LEAVES),
    lambda x: st.builds(Unary, st.sampled_from(["sqrt", "exp", "sign", "neg"]), x)
    | st.builds(Binary, st.sampled_from("//*+"), x, x),
    max_leaves=8,
))  # fmt: skip
@settings(max_examples=300)
def test_it_is_a_normal_form_of_the_same_function_where_no_decay_is_small(tree) -> None:
    normal = normal_form(tree)
    shown = simplest(normal)
    assert print_expr(normal_form(shown)) == print_expr(shown) == print_expr(simplest(shown))
    assert sum(1 for _ in walk(shown)) <= sum(1 for _ in walk(normal))
    values = {name: torch.linspace(0.3, 1, 50, dtype=torch.float64) for name in OPERANDS}
    values = {name: x.roll(place) for place, (name, x) in enumerate(values.items())}
    one, other = (evaluate(form, values) for form in (normal, shown))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4, equal_nan=True)
