"""The 5n-token form."""

import random

import pytest

from nos_repro.errors import ConfigError, RuleError
from nos_repro.rules.catalog import CATALOG
from nos_repro.rules.rule import Rule
from nos_repro.rules.space import SPACES, Space
from nos_repro.rules.tokens import BINARY_TOKENS, OPERAND_TOKENS, UNARY_TOKENS
from nos_repro.rules.tree import Binary, Operand, Unary


def words(text: str) -> list[str]:
    return text.split()


def test_the_order_of_the_vocabulary_is_frozen():
    """The softmax rows of an old controller's checkpoint are numbered by it: only append."""
    space = SPACES["arxiv-2"]
    assert " ".join(space.operands) == (
        "g g2 g3 m v gamma sign(g) sign(m) 1 2 noise 1e-4*w 1e-3*w 1e-2*w 1e-1*w adam rmsprop"
        " ld cd rd10 rd20 annealed_noise"
    )
    assert " ".join(space.unary) == (
        "identity neg exp log sqrt clip1e-5 clip1e-4 clip1e-3 drop0.1 drop0.3 drop0.5 sign"
    )
    assert " ".join(space.binary) == "+ - * / ** keep_left"
    icml = SPACES["icml-2"]
    assert " ".join(icml.operands) == (
        "g g2 g3 m v gamma sign(g) sign(m) 1 noise 1e-4*w 1e-3*w 1e-2*w 1e-1*w adam rmsprop"
    )
    assert " ".join(icml.unary) == (
        "identity neg exp log clip1e-5 clip1e-4 clip1e-3 drop0.1 drop0.3 drop0.5 sign"
    )
    assert " ".join(icml.binary) == "+ - * / keep_left"


def test_every_word_of_the_papers_spaces_is_a_token():
    space = SPACES["arxiv-2"]
    assert set(space.operands) == OPERAND_TOKENS.keys()
    assert set(space.unary) == UNARY_TOKENS.keys()
    assert set(space.binary) == set(BINARY_TOKENS)


def test_operand_tokens_are_their_own_text():
    for token, tree in OPERAND_TOKENS.items():
        assert Rule.parse(token).expr == tree


def test_every_random_string_reads_back_to_the_same_rule():
    source = random.Random(1)
    for name, space in SPACES.items():
        for _ in range(300):
            rule = Rule.from_tokens(space.sample(source))
            assert Rule.parse(str(rule)) == rule
            tokens = rule.tokens()
            assert tokens is not None, (name, str(rule))
            assert len(tokens) <= space.length
            assert Rule.from_tokens(tokens) == rule


def test_figure_2_adam_in_one_step_and_in_two():
    one = Rule.from_tokens(words("m v identity sqrt /"))
    two = Rule.from_tokens(words("1 v identity sqrt / #1 m identity identity *"))
    operand = Rule.from_tokens(words("adam g identity identity keep_left"))
    assert one != two
    assert one.normal() == two.normal() == operand.normal()


def test_the_papers_rules_have_tokens():
    without = [name for name, entry in CATALOG.items() if entry.rule.tokens() is None]
    assert without == ["noisy-linear-cosine", "table6-1"]  # 0.001 and sigmoid are text only


def test_powersign_takes_two_iterations():
    assert Rule.parse("exp(sign(g) * sign(m)) * g").tokens() == (
        words("sign(g) sign(m) identity identity * #1 g exp identity *")
    )


def test_a_part_used_twice_is_computed_once():
    rule = Rule.parse("exp(g * m) * exp(g * m) + g * m")
    tokens = rule.tokens()
    assert tokens is not None
    assert len(tokens) == 15


def test_keep_left_and_identity_leave_no_trace():
    assert Rule.from_tokens(words("g m exp sign keep_left")).expr == Unary("exp", Operand("g"))
    tokens = words("g m exp sign keep_left #1 g sign identity *")
    assert Rule.from_tokens(tokens).expr == Binary(
        "*", Unary("sign", Unary("exp", Operand("g"))), Operand("g")
    )


def test_too_large_trees_have_no_tokens():
    assert Rule.parse("exp(exp(exp(exp(exp(g)))))").tokens() is None
    assert Rule.parse("exp(exp(exp(exp(g))))").tokens() is not None
    assert Rule.parse("g * 0.7").tokens() is None
    assert Rule.parse("clip(g, 0.7)").tokens() is None


@pytest.mark.parametrize(("tokens", "said"), [
    ("g m identity identity",                       "got 4"),
    ("",                                            "got 0"),
    ("g m identity identity * " * 5,                "got 25"),
    ("g m identity sgn *",                          "unknown unary token 'sgn'"),
    ("G m identity identity *",                     "did you mean 'g'?"),
    ("g #1 identity identity *",                    "unknown operand token '#1'"),
    ("g m exp exp * g #2 exp exp *",                "unknown operand token '#2'"),
    ("g m identity identity %",                     "unknown binary token '%'"),
    ("g m * exp *",                                 "unknown unary token '*'"),
])  # fmt: skip
def test_bad_tokens_are_refused(tokens, said):
    with pytest.raises(RuleError) as error:
        Rule.from_tokens(words(tokens))
    assert said in str(error.value)


def test_the_wrong_token_is_underlined():
    with pytest.raises(RuleError) as error:
        Rule.from_tokens(words("g m exp sgn *"))
    _, shown, carets, _ = str(error.value).split("\n")
    assert [shown[at] for at, sign in enumerate(carets) if sign == "^"] == list("sgn")


def brute_force(space: Space) -> list[list[str]]:
    strings: list[list[str]] = [[]]
    for position in range(space.length):
        strings = [
            [*prefix, word]
            for prefix in strings
            for word, may in zip(space.choices(position), space.allowed(prefix), strict=True)
            if may
        ]
    return strings


def satisfies(space: Space, tokens: list[str]) -> bool:
    """The constraints in the words of sec. 4.1, apart from the masks."""
    groups = [tokens[at : at + 5] for at in range(0, len(tokens), 5)]
    differ = all(group[0] != group[1] for group in groups)
    reused = all("#" in group[0] + group[1] for group in groups[1:])
    return (
        (differ or not space.distinct_operands)
        and (reused or not space.reuse_computed)
        and (groups[-1][4] != "+" or not space.no_final_addition)
    )


@pytest.mark.parametrize("constraints", range(8))
@pytest.mark.parametrize(
    ("operands", "unary", "binary", "iterations"),
    [("g m v", "identity exp", "+ *", 1), ("g m", "exp", "+ - *", 2), ("g m", "exp", "+ *", 3)],
)
def test_the_size_is_the_number_of_strings(operands, unary, binary, iterations, constraints):
    flags = [bool(constraints & bit) for bit in (1, 2, 4)]
    choice = [tuple(words(each)) for each in (operands, unary, binary)]
    space = Space(*choice, iterations, *flags)
    free = Space(*choice, iterations, False, False, False)
    everything = brute_force(free)
    assert len(everything) == free.size
    assert sorted(brute_force(space)) == sorted(s for s in everything if satisfies(space, s))
    assert space.size == sum(satisfies(space, string) for string in everything)


def test_spaces_have_the_sizes_that_the_papers_report():
    for name, space in SPACES.items():
        paper, depth = name.split("-")
        assert space.iterations == int(depth)
        highest = 1e11 if paper == "arxiv" else 1e10
        assert (1e6 if depth != "1" else 1e5) <= space.size <= highest, name


def test_the_icml_space_has_the_operands_of_that_paper():
    space = SPACES["icml-2"]
    assert len(space.operands) == 16
    assert not {"2", "ld", "cd", "rd10", "annealed_noise"} & set(space.operands)
    assert "sqrt" not in space.unary
    assert "**" not in space.binary


def test_samples_are_valid_and_every_string_is_as_likely():
    space = Space(("g", "m"), ("exp",), ("+", "*"), 2)
    source = random.Random(2)
    counts = dict.fromkeys(map(tuple, brute_force(space)), 0)
    draws = 400 * len(counts)
    for _ in range(draws):
        tokens = space.sample(source)
        space.check(tokens)
        counts[tuple(tokens)] += 1
    assert min(counts.values()) > 300
    assert max(counts.values()) < 500


def test_a_space_refuses_what_is_not_in_it():
    space = Space(("g", "m"), ("identity", "exp"), ("+", "*"), 1)
    good = words("g m exp identity *")
    assert str(Rule.from_tokens(good, space)) == "exp(g) * m"
    for bad in ("g g exp exp *", "g m exp exp +", "g v exp exp *", "g m sign exp *"):
        with pytest.raises(RuleError, match="position"):
            Rule.from_tokens(bad.split(), space)
    with pytest.raises(RuleError, match="5 tokens"):
        Rule.from_tokens([*good, *good], space)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((("g", "mm"), ("exp",), ("*",), 1), "did you mean 'm'"),
        ((("g", "m"), ("sgn",), ("*",), 1), "did you mean 'sign'"),
        ((("g", "g"), ("exp",), ("*",), 1), "twice"),
        ((("g", "m"), ("exp",), ("*",), 5), "1 to 4 iterations"),
        ((("g",), ("exp",), ("*",), 1), "no string"),
        ((("g", "m"), ("exp",), ("+",), 2), "no string"),
    ],
)
def test_impossible_spaces_are_refused(arguments, said):
    with pytest.raises(ConfigError, match=said):
        Space(*arguments)
