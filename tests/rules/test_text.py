"""Text to tree and back."""

import math
import random

import pytest
from hypothesis import given, settings

from nos_repro.errors import RuleError
from nos_repro.rules.parse import parse
from nos_repro.rules.printing import print_expr, print_number
from nos_repro.rules.rule import Rule
from nos_repro.rules.tree import Binary, Number, Operand, Unary
from tests.rules.trees import trees

G, M, V = Operand("g"), Operand("m"), Operand("v")


@given(trees())
@settings(max_examples=1000)
def test_what_is_printed_parses_back_to_the_same_tree(tree):
    assert parse(print_expr(tree)) == tree


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, 0.3, 1e-4, 1e-5, 3e-5, 1e22, 1e16, 12345678.9])
def test_a_printed_number_reads_back_as_the_same_float(value):
    for signed in (value, -value) if value else (value,):
        assert float(print_number(signed)) == signed


@pytest.mark.parametrize(
    ("text", "short"),
    [(1.0, "1"), (0.1, "0.1"), (1e-3, "1e-3"), (0.03, "0.03"), (-1e-4, "-1e-4"), (2.5, "2.5")],
)
def test_numbers_are_printed_as_people_write_them(text, short):
    assert print_number(text) == short


@pytest.mark.parametrize(("text", "tree"), [
    ("g - m - v",       Binary("-", Binary("-", G, M), V)),
    ("g - (m - v)",     Binary("-", G, Binary("-", M, V))),
    ("g / m * v",       Binary("*", Binary("/", G, M), V)),
    ("g^m^v",           Binary("**", G, Binary("**", M, V))),
    ("g * m^2",         Binary("*", G, Binary("**", M, Number(2.0)))),
    ("g + m^2 * v",     Binary("+", G, Binary("*", Binary("**", M, Number(2.0)), V))),
    ("-g**2",           Unary("neg", Binary("**", G, Number(2.0)))),
    ("(-g)^2",          Binary("**", Unary("neg", G), Number(2.0))),
    ("2^-g",            Binary("**", Number(2.0), Unary("neg", G))),
    ("-2 * g",          Binary("*", Number(-2.0), G)),
    ("e^(g) * m",       Binary("*", Unary("exp", G), M)),
    ("e * m",           Binary("*", Number(math.e), M)),
    ("[g + m] * v",     Binary("*", Binary("+", G, M), V)),
    ("sqrt(abs(g))",    Unary("sqrt", G)),
    ("log(abs(g))",     Unary("log", G)),
    ("identity(g)",     G),
    ("+g",              G),
    ("m_hat * v_hat",   Binary("*", M, V)),
    ("gamma_hat",       Operand("gamma")),
    ("Adam + ADAM",     Binary("+", Operand("adam"), Operand("adam"))),
    ("RMSProp",         Operand("rmsprop")),
    ("eps + eps_t",     Binary("+", Operand("noise"), Operand("annealed_noise"))),
    ("rd_10 * cd2",     Binary("*", Operand("rd10"), Operand("cd2"))),
    ("clip(g, 10^-4)",  Unary("clip", G, 1e-4)),
    ("\n g\t+\n m ",    Binary("+", G, M)),
])  # fmt: skip
def test_the_notations_of_the_papers_are_read(text, tree):
    assert parse(text) == tree


def test_an_error_points_at_the_wrong_word_and_offers_the_choice():
    with pytest.raises(RuleError) as error:
        Rule.parse("exp(sgn(g) * sign(m)) * g")
    assert str(error.value) == (
        "unknown unary 'sgn'\n"
        "    exp(sgn(g) * sign(m)) * g\n"
        "        ^^^\n"
        "  did you mean 'sign'?  one of: clip drop exp log neg sigmoid sign sqrt"
    )


@pytest.mark.parametrize(
    ("text", "said", "under"),
    [
        ("g * gg", "unknown operand 'gg'", "gg"),
        ("g^m^sgn(v)", "unknown unary 'sgn'", "sgn"),
        ("   g // m", "unknown binary '//'", "//"),
        ("g^2 % m", "unknown binary '%'", "%"),
        ("g @ m", "unknown binary '@'", "@"),
        ("m + exp", "needs its argument", "exp"),
        ("g * clip(g)", "clip is written clip(x, bound)", "clip"),
        ("exp(g, m)", "exp is written exp(x)", "exp"),
        ("clip(g, m)", "expected a number", "m"),
        ("clip(g, -1e-3)", "must be above 0", "-1e-3"),
        ("drop(g, 1.5)", "between 0 and 1", "1.5"),
        ("g * rd", "number of periods", "rd"),
        ("g + abs(m)", "inside log and sqrt", "abs"),
        ("2g", "write a *", "g"),
        ("1or g", "write a *", "o"),
        ("g * 1e400", "too large", "1e400"),
        ("g + 'm'", "is not allowed", "'"),
        ("g; m", "is not allowed", ";"),
        ("g # m", "is not allowed", "#"),
        ("g if m else v", "not in the language", "g if m else v"),
        ("g.real", "not in the language", "g.real"),
        ("exp(*g)", "not in the language", "*g"),
        ("None", "expected a number", "None"),
        ("__import__(g)", "unknown unary '__import__'", "__import__"),
    ],
)
def test_bad_text_is_refused_with_a_caret(text, said, under):
    with pytest.raises(RuleError) as error:
        Rule.parse(text)
    message, shown, carets, *_ = str(error.value).split("\n")
    assert said in message
    assert [shown[at] for at, sign in enumerate(carets) if sign == "^"] == list(under)


def test_neither_depth_nor_length_nor_odd_characters_bring_more_than_a_rule_error():
    texts = ["", "  ", "(" * 3000, "-" * 3000 + "g", "g" * 9000]
    texts += ["+".join(["g"] * 1500), "^".join(["g"] * 1500), "exp(" * 900 + "g" + ")" * 900]
    texts += ["g\x00", "\ud800", "\uff47", "g\\\n", "é", "1" * 3999, "1e999999999", ")", "g,", "()"]
    texts += ["lambda: g", "[g for g in m]", "g := 1", "f'{g}'", "[" * 90 + "g" + "]" * 89]
    for text in texts:
        with pytest.raises(RuleError):
            Rule.parse(text)


def test_random_characters_parse_or_are_refused():
    source = random.Random(2)
    words = ["g", "m", "exp", "clip", "(", ")", ",", "+", "-", "*", "**", "^", "/", "1e-4", "2"]
    words += [" ", "[", "]", "e", ".", "and", "not", "\n", "is", "//", "%", "é", "0.1"]
    for _ in range(5000):
        text = "".join(source.choice(words) for _ in range(source.randint(1, 12)))
        try:
            rule = Rule.parse(text)
        except RuleError:
            continue
        assert Rule.parse(str(rule)) == rule


def test_long_texts_are_shown_around_the_error():
    with pytest.raises(RuleError) as error:
        Rule.parse("g + " * 30 + "gg" + " + g" * 30)
    _, shown, carets, *_ = str(error.value).split("\n")
    assert len(shown) <= 84
    assert shown[carets.index("^") :].startswith("gg")


def test_a_rule_knows_what_it_reads():
    rule = Rule.parse("adam * exp(ld * sign(g)) + drop(1e-3 * w, 0.3)")
    assert rule.averages == {"m", "v"}
    assert rule.needs_total_steps
    assert rule.random
    assert rule.reads_weights
    plain = Rule.parse("g * gamma")
    assert plain.averages == {"gamma"}
    assert not any([plain.needs_total_steps, plain.random, plain.reads_weights])
    assert Rule.parse("annealed_noise * g").random
    assert not Rule.parse("annealed_noise * g").needs_total_steps


def test_rules_are_values():
    assert Rule.parse("g*m") == Rule.parse("g * m")
    assert len({Rule.parse("g*m"), Rule.parse("(g) * m"), Rule.parse("m * g")}) == 2
