"""A rule is named by the known optimizer that it equals, and by no other."""

import random
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nos_repro.rules.evaluate import evaluate
from nos_repro.rules.explain import explain
from nos_repro.rules.known import KNOWN
from nos_repro.rules.naming import Equality, equalities
from nos_repro.rules.parse import parse
from nos_repro.rules.primitives import OPERANDS, operand_row
from nos_repro.rules.rule import Rule
from nos_repro.rules.space import SPACES
from nos_repro.rules.tree import Binary, Expr, Number, Operand, Unary


def names(text: str) -> list[str]:
    return [str(each) for each in equalities(Rule.parse(text))]


@pytest.mark.parametrize(("text", "said"), [
    ("(1 + sign(g) * sign(m)) * g",
     "2 x cautious SGD (2411.16085), without its rescaling, the mask being momentum's"),
    ("(1 + sign(m) * sign(g)) * adam",  "2 x cautious Adam (2411.16085), without its rescaling"),
    ("adam + sign(g * m) * adam",       "2 x cautious Adam (2411.16085), without its rescaling"),
    ("sign(10 * m + g)",
     "Lion (2302.06675), beta1 = 0.909091 betas[0] (0.9 if that is 0.99), beta2 = betas[0],"
     " but for the bias correction of m"),
    ("sqrt(adam * adam) * sign(g)",     "Grams (2412.17107)"),
    ("0.3 * g + 0.7 * m", "QHM (1810.06801), nu = 0.7, but for the bias correction of m"),
    ("3 * (g + m)",       "6 x QHM (1810.06801), nu = 0.5, but for the bias correction of m"),
    ("sign(adam)",                      "Signum (1802.04434)"),
    ("sqrt(g)**2 * sign(g) * 4 + 0 * m", "4 x SGD (Robbins & Monro 1951)"),
    ("clip(3 * g, 0.6)",  "3 x SGD with its gradient clipped by value (Mikolov 2012), bound 0.2"),
    ("2**(sign(g) * sign(m)) * g",      "PowerSign (1709.07417), base 2"),
    ("ld * (adam + 0.1 * w) * cd",      "AdamW (1711.05101), weight_decay = 0.1,"
     " its rate times ld * cd"),
    ("m / v**0.25", "Padam at p = 1/4 (1806.06763), without AMSGrad's maximum,"
     " but for the bias correction of m and v"),
    ("g + sign(m) * sqrt(g) * sqrt(g)",  # where they cancel, rounding leaves a little
     "2 x cautious SGD (2411.16085), without its rescaling, the mask being momentum's"),
    ("drop(-2 * g, 0.3) * -1",
     "2 x gradient dropout (2004.05859), dropping 0.3, without its rescaling"),
    ("drop(g, 0.3) * 2",
     "2 x gradient dropout (2004.05859), dropping 0.3, without its rescaling"),
])  # fmt: skip
def test_a_rule_is_named_whatever_its_form_and_factor(text: str, said: str) -> None:
    assert said in names(text)


@pytest.mark.parametrize("text", [
    "-g",                            # climbs
    "g - 0.1 * w",                   # a decay that grows weights
    "g - 0.5 * m",
    "exp(sign(g) * sign(m)) * adam",
    "exp(ld * sign(g) * sign(m)) * g",
    "(1 - sign(g) * sign(m)) * g",   # incautious
    "m * sqrt(g)",
    "sign(g) * sqrt(m)",
    "adam * (1 + sign(g) * sign(w)) / 2",
    "adam + 0.1 * w * (1 + sign(g) * sign(w))",
    "g * ld + m",                    # the decay multiplies a part
    "drop(g, 0.1) - drop(g, 0.3)",
    "drop(g, 0.3) + drop(2 * g, 0.3)",  # two draws
    "g + 1e-13 * sign(m)",
    "g * sign(g)**2 * sign(m)**2",   # 0 where m is
    "g / sqrt(v) / sqrt(v)",         # with another epsilon than g / v
    "0", "1", "w", "noise",
])  # fmt: skip
def test_a_near_miss_has_no_name(text: str) -> None:
    assert names(text) == []


@pytest.mark.parametrize("name", KNOWN)
def test_every_known_optimizer_is_found_by_its_own_text_times_a_factor(name: str) -> None:
    values = {"k": "0.3", "j": "0.05"}
    text = re.sub(r"\b[kj]\b", lambda word: values[word[0]], KNOWN[name].text)
    (found,) = [e for e in equalities(Rule.parse(f"({text}) * 2.5")) if e.known.name == name]
    assert found.factor == pytest.approx(2.5, rel=1e-9)
    expected = [float(values[c]) for c in KNOWN[name].constants]
    assert found.values == pytest.approx(expected, rel=1e-9)


def test_explain_says_what_a_rule_equals() -> None:
    assert re.search(r"equals +signSGD \(1802.04434\)\n", explain(Rule.parse("sign(g)")))
    none = f"none of {len(KNOWN)} known optimizers"
    assert re.search(rf"equals +{none}\n", explain(Rule.parse("g * exp(m)")))
    page = Path(__file__).parents[2] / "docs" / "optimizers.md"
    assert f"{len(KNOWN)} known optimizers" in page.read_text(encoding="utf-8")


def operands(seed: int) -> dict[str, Tensor]:
    """Fresh values, drawn by torch and of other sizes than those by which names are confirmed."""
    generator = torch.Generator().manual_seed(seed)

    def drawn() -> Tensor:
        size = 10 ** (6 * torch.rand(300, generator=generator, dtype=torch.float64) - 5)
        return size * torch.randn(300, generator=generator, dtype=torch.float64)

    given = {}
    for name in (*OPERANDS, "cd2", "rd10", "rd20", "cd3"):
        row = operand_row(name)
        if row.definition is None:
            x = drawn().abs() if row.nonnegative else drawn()
            given[name] = x.clamp(max=1) if row.needs_total_steps else x
    return given


def is_named_rightly(rule: Rule, found: Equality) -> bool:
    """Whether a name is true: the rule and what the name says have the same values."""

    def drop(x: Tensor, p: float) -> Tensor:
        return x * (torch.rand(300, generator=torch.Generator().manual_seed(3)) >= p)

    values = dict(zip(found.known.constants, map(repr, found.values), strict=True))
    text = re.sub(r"\b[kj]\b", lambda word: values[word[0]], found.known.text)
    said = parse(" * ".join([repr(found.factor), *found.decays, f"({text})"]))
    return all(
        torch.allclose(
            evaluate(rule.expr, given, drop), evaluate(said, given, drop), 1e-5, 0, equal_nan=True
        )
        for given in map(operands, (1, 2, 3))
    )


def test_a_thousand_random_rules_get_no_false_name() -> None:
    source = random.Random(11)
    spaces = list(SPACES.values())
    rules = [Rule.from_tokens(source.choice(spaces).sample(source)) for _ in range(1_000)]
    named = [(rule, found) for rule in rules for found in equalities(rule)]
    assert len({found.known.name for _, found in named}) >= 5
    false = [(str(rule), str(found)) for rule, found in named if not is_named_rightly(rule, found)]
    assert not false


def mutated(expr: Expr, source: random.Random) -> Expr:
    """The tree with one operand, function or number exchanged."""
    if isinstance(expr, Operand):
        return Operand(source.choice(["g", "m", "w", "v", "adam", "rmsprop", "noise"]))
    if isinstance(expr, Number):
        return Number(source.choice([0.5, 1.0, 2.0, 3.0]))
    if source.random() < 0.3:
        if isinstance(expr, Unary):
            return Unary(source.choice(["sign", "sqrt", "exp", "neg"]), expr.x)
        return Binary(source.choice("+-*/"), expr.x, expr.y)
    if isinstance(expr, Unary):
        return Unary(expr.function, mutated(expr.x, source), expr.parameter)
    if source.random() < 0.5:
        return Binary(expr.function, mutated(expr.x, source), expr.y)
    return Binary(expr.function, expr.x, mutated(expr.y, source))


def test_what_is_nearly_a_known_optimizer_gets_no_false_name() -> None:
    """Rules that are one change away from a known optimizer; some changes lead to another one."""
    source = random.Random(12)
    values = {"k": "0.3", "j": "0.6"}
    texts = [
        re.sub(r"\b[kj]\b", lambda word: values[word[0]], known.text)
        for known in KNOWN.values()
        if not known.text.startswith(("drop", "clip"))
    ]
    rules = [Rule(mutated(parse(source.choice(texts)), source)) for _ in range(400)]
    named = [(rule, found) for rule in rules for found in equalities(rule)]
    assert len(named) > 50
    false = [(str(rule), str(found)) for rule, found in named if not is_named_rightly(rule, found)]
    assert not false
