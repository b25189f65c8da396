"""The simplest of equal forms, which reports show."""

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
]
# fmt: on


@pytest.mark.parametrize(("text", "shown"), SIMPLEST)
def test_the_form_with_the_fewest_nodes_is_shown(text: str, shown: str) -> None:
    assert simplest_text(str(Rule.parse(text).normal())) == shown


def test_the_explanation_of_a_rule_says_it() -> None:
    assert "simplest form  g * sqrt(ld)\n" in explain(Rule.parse("g / sqrt(1 / ld)"))
    assert "simplest form" not in explain(Rule.parse("g / ld"))


LEAVES = [Operand("g"), Operand("m"), Operand("ld"), Operand("cd"), Number(1.0), Number(2.0)]


@given(st.recursive(
    st.sampled_from(LEAVES),
    lambda x: st.builds(Unary, st.sampled_from(["sqrt", "exp", "sign"]), x)
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
