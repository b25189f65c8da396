"""The second edition: how it is read and printed, and that what counts as equal is equal."""

import itertools
import math
import pickle
import random
from collections import defaultdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nos_repro.errors import ConfigError, RuleError
from nos_repro.rules import fingerprint as probe
from nos_repro.rules.evaluate import evaluate
from nos_repro.rules.floats import orthogonal
from nos_repro.rules.known import KNOWN_2
from nos_repro.rules.naming import equalities
from nos_repro.rules.primitives import BINARY_2, OPERANDS_2, UNARY_2
from nos_repro.rules.rule import Rule
from nos_repro.rules.space import SPACES, Space
from nos_repro.rules.states import live
from nos_repro.rules.tokens import BINARY_TOKENS_2, OPERAND_TOKENS_2, UNARY_TOKENS_2
from nos_repro.rules.tree import Binary, Expr, Number, Operand, Unary, new_value, old_value, walk

NAMES = ("u", "buf2", "X")
CALLS = [name for name, row in BINARY_2.items() if row.token]
SMOOTH = ("neg", "ema", "average", "velocity", "mean", "norm")


def read(text: str) -> Rule:
    return Rule.parse(text, language=2)


@st.composite
def rules(draw: st.DrawFn, smooth: bool = False) -> Rule:
    """Random rules with up to three states. Smooth ones change little if their inputs do."""
    unary = SMOOTH if smooth else (*SMOOTH, "unit", "sign", "exp", "sqrt", "orthogonal")
    binary = ("+", "-", "*", *CALLS) if smooth else ("+", "-", "*", "/", "**", *CALLS)
    names = NAMES[: draw(st.integers(0, 3))]

    def tree(assigned: int) -> Expr:
        read = [Operand("g"), Operand("m"), Operand("w"), Operand("step"), Number(0.5), Number(2.0)]
        read += map(old_value, names)
        read += map(new_value, names[:assigned])
        decays = st.sampled_from([0.5, 0.9])

        def functions(x: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
            one = st.one_of(
                st.builds(Unary, st.just(f), x,
                          decays if f in UNARY_2 and UNARY_2[f].parameter else st.none())
                for f in unary
            )  # fmt: skip
            return one | st.builds(Binary, st.sampled_from(binary), x, x)

        return draw(st.recursive(st.sampled_from(read), functions, max_leaves=5))

    states = [(name, tree(place)) for place, name in enumerate(names)]
    update = tree(len(names))
    return Rule(update, live(update, tuple(states)))


@given(rules())
@settings(max_examples=50)
def test_what_is_printed_is_read_back_to_the_same_rule(rule: Rule) -> None:
    text = str(rule)
    assert Rule.parse(text) == rule
    assert pickle.loads(pickle.dumps(rule)) == rule
    assert text.startswith("language 2: ") == (rule.language == 2)
    if rule.language == 1:
        assert Rule.parse(text, language=2) == rule


@pytest.mark.parametrize("text", ["exp(sign(g) * sign(m)) * g", "clip(m, 1e-4) * exp(v)", "2**ld"])
def test_a_text_of_the_papers_words_is_the_papers_rule(text: str) -> None:
    assert read(text) == Rule.parse(text) == read(f"language 2: {text}")
    assert str(read(text)) == str(Rule.parse(text))


def test_a_states_name_means_the_old_value_until_it_has_a_new_one() -> None:
    written = read("u <- 0.9 * u + v2; v2 <- u * v2; u - old(u) + v2")
    spelled = read("u <- 0.9 * old(u) + old(v2); v2 <- u * old(v2); u - old(u) + v2")
    assert written == spelled
    assert str(written) == "language 2: u <- 0.9 * u + v2; v2 <- u * v2; u - old(u) + v2"


WRONG = {
    "u <- 0.9 * u + g": "the last state comes the update|update is missing|expression is missing",
    "u <- 0.9 * u + g;": "an expression is missing",
    "u <- g; g": "the update does not depend on the state 'u'",
    "u <- u; w2 <- u; w2 <- g; w2": "the state 'w2' has a new value already",
    "m <- g; m": "'m' is a word of the language: choose another name",
    "eps <- g; eps": "'eps' is a word of the language",
    "cd7 <- g; cd7": "'cd7' is a word of the language",
    "mean <- g; g": "'mean' is a word of the language",
    "lambda <- g; g": "a state's name has letters, then digits",
    "u_1 <- g; u_1": "a state's name has letters, then digits",
    "g * 2; g": "a part before the last one is a state: u <- 0.9",
    "u <- g; old(q) + u": "unknown state 'q'",
    "u <- g; old(g) + u": "unknown state 'g'",
    "u <- g; old(u, 2)": "old is written old",
    "ema(g)": r"ema is written ema\(x, decay\)",
    "ema(g, 1)": "the decay of ema must be between 0 and 1",
    "mean(g, m)": r"mean is written mean\(x\)",
    "max(g)": r"max is written max\(x, y\)",
    "emma(g, 0.9)": "did you mean 'ema'",
    "u <- steps; u": "did you mean 'step'",
    "a < b; g": "a part before the last one|not allowed",
    "u <- g < m; u": "'<' is not allowed in a rule",
    "language 3: g": "unknown edition of the language: '3'",
    "": "expression is missing",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_is_named(text: str) -> None:
    with pytest.raises(RuleError, match=WRONG[text]):
        read(text)


def test_a_caret_stands_under_what_is_wrong() -> None:
    text = "language 2: u <- 0.9 * u + g^2; sgn(u) * u"
    with pytest.raises(RuleError) as raised:
        Rule.parse(text)
    lines = str(raised.value).splitlines()
    assert lines[0] == "unknown unary 'sgn'"
    assert lines[2].index("^^^") - 4 == text.index("sgn")
    assert lines[1].strip() == text


@pytest.mark.parametrize("word", [*OPERANDS_2, *UNARY_2, *CALLS])
def test_the_papers_language_does_not_know_the_words_and_says_who_does(word: str) -> None:
    text = word if word in OPERANDS_2 else f"{word}(g, m)"
    with pytest.raises(RuleError, match=f"unknown .* '{word}'(?s:.*)second edition"):
        Rule.parse(text)


def gradients(steps: int, rows: int, columns: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (steps, rows, columns)
    return list(torch.randn(shape, generator=generator, dtype=torch.float64))


def run(rule: Rule, every: list[Tensor]) -> Tensor:
    """The updates for a sequence of gradients, with m and v as an optimizer keeps them."""
    memory: dict[str, Tensor] = {}
    m, v, found = torch.zeros_like(every[0]), torch.zeros_like(every[0]), []
    for step, g in enumerate(every, 1):
        m, v = 0.9 * m + (1 - 0.9) * g, 0.999 * v + (1 - 0.999) * g * g
        operands = {
            "g": g, "w": torch.sin(3 * g), "step": float(step),
            "m": m / (1 - 0.9**step), "v": v / (1 - 0.999**step),
        }  # fmt: skip
        found.append(evaluate(rule.expr, operands, states=rule.states, memory=memory))
    return torch.stack(found)


@given(rules(smooth=True))
@settings(max_examples=40)
def test_a_normal_form_does_what_its_rule_does(rule: Rule) -> None:
    normal = rule.normal()
    assert normal.normal() == normal
    assert Rule.parse(str(normal)) == normal
    every = gradients(5, 3, 4, seed=0)
    ours, theirs = run(rule, every), run(normal, every)
    size = ours.abs().max()
    if size < 1e6:
        torch.testing.assert_close(theirs, ours, rtol=1e-7, atol=1e-7 * max(1.0, float(size)))


SECOND = Space(
    ("g", "m", "1e-1*w", "sign(g)", "1", *OPERAND_TOKENS_2),
    ("identity", "sign", "neg", "sqrt", *UNARY_TOKENS_2),
    ("+", "-", "*", "/", "keep_left", *BINARY_TOKENS_2),
    2,
    language=2,
)


FEW = Space(
    ("g", "m", "ema(g,0.9)", "1"),
    ("identity", "sign", "ema0.9", "average0.9", "mean", "norm", "unit"),
    ("*", "+", "max", "min", "keep_left"),
    1,
    no_final_addition=False,
    language=2,
)


def test_rules_with_one_fingerprint_do_the_same_elsewhere() -> None:
    source = random.Random(0)
    groups = defaultdict(set)
    spaces = [SECOND] * 100 + [FEW] * 200
    for space in spaces:
        rule = Rule.from_tokens(space.sample(source), space)
        groups[rule.fingerprint()].add(rule)
    every = gradients(9, 6, 8, seed=1)
    compared = 0
    for group in groups.values():
        if any(isinstance(n, Unary) and n.function == "orthogonal"
               for rule in group for n in walk(rule.expr)):  # fmt: skip
            continue  # in bfloat16 the last digits differ
        first, *others = (run(rule, every) for rule in group)
        for other in others:
            torch.testing.assert_close(other, first, rtol=1e-5, atol=1e-9, equal_nan=True)
            compared += 1
    assert compared > 20


def test_spellings_of_one_rule_have_one_fingerprint() -> None:
    equal = [
        ["velocity(g, 0.9)", "u <- 0.9 * u + g; u", "x <- g + x * 0.9; x"],
        ["ema(g, 0.9)", "u <- 0.9 * u + 0.1 * g; u", "0.1 * velocity(g, 0.9)"],
        ["m", "average(g, 0.9)"],
        ["adam", "average(g, 0.9) / sqrt(average(g2, 0.999))"],
        ["unit(g)", "g / norm(g)"],
        ["orthogonal(g)", "orthogonal(3 * g)"],
        ["sign(10 * ema(g, 0.99) + g)", "sign(g + ema(g, 0.99) / 0.1)"],
        ["sign(m)", "sign(ema(g, 0.9))", "sign(velocity(g, 0.9))"],
    ]
    prints = [{read(text).fingerprint() for text in group} for group in equal]
    assert [len(found) for found in prints] == [1] * len(equal)
    assert len(set().union(*prints)) == len(equal)


@pytest.mark.parametrize(
    "text",
    [
        "u <- 0.99 * u + 0.01 * g; sign(0.9 * u + 0.1 * g)",  # Lion takes the old average
        "u <- 0.99 * u + 0.01 * g; sign(0.902 * old(u) + 0.1 * g)",
        "sign(ema(g, 0.901))",
        KNOWN_2["cautious Adam"].text.replace("1e-3", "1e-2"),
        KNOWN_2["cautious Adam"].text.replace("1e-3", "6e-4"),
    ],
)
def test_what_is_nearly_a_known_optimizer_of_the_second_edition_has_no_name(text: str) -> None:
    assert equalities(read(text)) == []


@pytest.mark.parametrize("name", KNOWN_2)
def test_a_known_optimizer_is_named_in_other_words(name: str) -> None:
    rule = read(KNOWN_2[name].text)
    assert [found.known.name for found in equalities(rule)] == [name]
    assert [found.known.name for found in equalities(rule.normal())] == [name]
    for factor in (2.0, 0.3, 1e-4):
        (found,) = equalities(Rule(Binary("*", Number(factor), rule.expr), rule.states))
        assert (found.known.name, found.factor) == (name, pytest.approx(factor, rel=1e-9))
    assert equalities(Rule(Binary("*", Number(-1.0), rule.expr), rule.states)) == []


@pytest.mark.parametrize("text", [
    "velocity(g, 0.9) + 1e-3 * w", "velocity(g, 0.95)", "sign(ema(g, 0.9)) + 1e-4 * g",
    "u <- 0.99 * u + 0.01 * g; sign(0.8 * old(u) + 0.2 * g)", "unit(g)", "norm(w) * g",
    "ema(g, 0.9) * sign(g)", "average(g, 0.9)**2", "orthogonal(g)", "mean(g)",
])  # fmt: skip
def test_what_is_nearly_a_known_optimizer_has_no_name(text: str) -> None:
    assert equalities(read(text)) == []


def test_an_average_without_correction_is_momentum_at_a_smaller_rate() -> None:
    (found,) = equalities(read("ema(g, 0.9)"))
    assert str(found) == "0.1 x SGD with momentum (Polyak 1964), at momentum 0.9"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ema(g, 0.9)", "ema(g, 0.99)"),
        ("u <- 0.9 * u + g; u", "u <- 0.9 * u + g; old(u)"),
        ("min(step, 7) * g", "min(step, 8) * g"),
        ("u <- drop(g * m, 0.5); u - drop(m * g, 0.5)", "u <- drop(g * m, 0.5); u - u"),
        ("mean(g)", "norm(g)"),
        ("max(g, m)", "min(g, m)"),
        ("average(g, 0.9)", "ema(g, 0.9)"),
        ("orthogonal(g)", "unit(g)"),
        ("ema(ema(g, 0.9), 0.9)", "ema(g, 0.9)"),
        ("ema(g * g, 0.9)", "ema(g, 0.9) * ema(g, 0.9)"),
    ],
)
def test_different_rules_stay_apart(one: str, other: str) -> None:
    assert read(one).fingerprint() != read(other).fingerprint()
    assert read(one).normal() != read(other).normal()


@given(rules())
@settings(max_examples=30)
def test_the_fingerprints_floats_are_what_torch_computes(rule: Rule) -> None:
    """On the probe's own inputs; Newton and Schulz' steps are in bfloat16 there."""
    if any(isinstance(n, Unary) and n.function == "orthogonal" for n in walk(rule.expr)):
        return
    if any(isinstance(n, Unary) and n.function == "orthogonal"
           for _, tree in rule.states for n in walk(tree)):  # fmt: skip
        return
    size = probe.ELEMENTS
    memory: dict[str, Tensor] = {}
    found = []
    for step in range(len(probe.STEPS)):
        now = slice(step * size, (step + 1) * size)
        operands: dict[str, Tensor | float] = {"step": step + 1.0}
        for name in ("g", "m", "w"):
            values = probe._operand(name)
            assert values is not None
            operands[name] = torch.tensor(values[now], dtype=torch.float64)
        found.append(evaluate(rule.expr, operands, states=rule.states, memory=memory))
    theirs = torch.cat(found)
    ours = torch.tensor(probe.values_in_probe(rule.expr, rule.states), dtype=torch.float64)
    close = torch.isclose(ours, theirs, rtol=1e-6, atol=1e-9, equal_nan=True)
    assert close.float().mean() > 0.97  # where nearly all of a sum cancels, signs may differ


def test_newton_and_schulz_bring_singular_values_near_one() -> None:
    """Against the polynomial, applied to the singular values."""
    x = gradients(1, 6, 8, seed=2)[0]
    u, s, v = torch.linalg.svd(x, full_matrices=False)
    s = s / s.norm()
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    expected = u @ torch.diag(s) @ v
    ours = torch.tensor(orthogonal(x.flatten().tolist()), dtype=torch.float64).view(6, 8)
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)
    rounded = evaluate(read("orthogonal(g)").expr, {"g": x})
    torch.testing.assert_close(rounded, expected, rtol=0, atol=0.03)
    assert ((s > 0.6) & (s < 1.25)).all()
    tall = evaluate(read("orthogonal(g)").expr, {"g": x.T.contiguous()})
    torch.testing.assert_close(tall, expected.T, rtol=0, atol=0.03)


def test_functions_of_whole_tensors_see_all_elements() -> None:
    x = gradients(1, 3, 5, seed=3)[0]
    values = {"g": x}
    assert torch.allclose(evaluate(read("mean(g)").expr, values), x.mean().expand(3, 5))
    assert torch.allclose(evaluate(read("norm(g)").expr, values), x.square().sum().sqrt())
    assert torch.allclose(evaluate(read("norm(2)").expr, values), x.new_tensor(math.sqrt(60)))
    batch = evaluate(read("mean(g)").expr, values, tensor_shape=(5,))
    assert torch.allclose(batch, x.mean(1, keepdim=True).expand(3, 5))


def test_strings_of_a_space_are_rules_and_rules_strings() -> None:
    source = random.Random(1)
    for _ in range(200):
        rule = Rule.from_tokens(SECOND.sample(source), SECOND)
        tokens = rule.tokens()
        if tokens is not None:
            assert Rule.from_tokens(tokens) == rule
    lion = ["ema(g,0.99)", "g", "identity", "identity", "+"]
    lion += ["#1", "m", "sign", "identity", "keep_left"]
    assert str(Rule.from_tokens(lion)) == "language 2: sign(ema(g, 0.99) + g)"


@pytest.mark.parametrize(
    "words", [("ema(g,0.9)", "sign", "*"), ("g", "ema0.9", "*"), ("g", "sign", "max")]
)
def test_only_a_space_of_the_second_edition_has_its_words(words: tuple[str, str, str]) -> None:
    operand, unary, binary = words
    given = (operand, "m"), (unary, "identity"), (binary, "+"), 1
    assert Space(*given, language=2).size > 0
    with pytest.raises(ConfigError, match="unknown word in the space's"):
        Space(*given)
    for space in SPACES.values():
        assert space.language == 1
        strings = itertools.chain(space.operands, space.unary, space.binary)
        assert not {*OPERAND_TOKENS_2, *UNARY_TOKENS_2, *BINARY_TOKENS_2} & set(strings)
