"""Sub-expressions of normal forms: found wherever they hide, and counted once per rule."""

import contextlib
import itertools
import math
import random
import statistics
from pathlib import PurePosixPath

import pytest
from scipy import stats

from nos_repro.errors import RuleError
from nos_repro.report.search.expressions import (
    SIGNS,
    count_at_most,
    shares,
    subexpressions,
    uniform_share,
)
from nos_repro.rules.rule import Rule
from nos_repro.rules.space import SPACES, Space
from nos_repro.search.log import Log
from tests.committed import ROOT, every_committed
from tests.report.search.by_tree import by_tree


def held(text: str) -> frozenset[str]:
    return subexpressions(str(Rule.parse(text).normal()))


@pytest.mark.parametrize(
    "text",
    [
        "sign(g) * sign(m)",
        "sign(m) * sign(g)",
        "exp(sign(g) * sign(m)) * g",
        "ld * exp(cd) * sign(m) * sign(g) * g",
        "sign(m) * (g * sign(g))",
        "exp(ld) * exp(sign(m) * sign(g))",
        "-2 * sign(g) * sign(m) / v",
        "g / (1 + sign(m) * sign(g))",
        "2 ** (sign(g) * sign(m)) * g",
        "drop(clip(sign(g) * sign(m) * m, 1e-4), 0.3)",
        "g * exp(-(sign(m) * sign(g)))",
        "1 - ld * sign(g) * sign(m)",
        "sign(g * m)",
    ],
)
def test_the_product_of_the_signs_is_found_wherever_it_hides(text: str) -> None:
    assert SIGNS in held(text)


@pytest.mark.parametrize(
    "text",
    ["sign(g) + sign(m)", "sign(g) / sign(m)", "exp(sign(g)) * sign(m)", "sign(g) * m", "g"],
)
def test_other_products_are_not_taken_for_the_product_of_the_signs(text: str) -> None:
    assert SIGNS not in held(text)


def test_all_that_a_rule_holds() -> None:
    assert held("0.5 * exp(m - g) * ld / sqrt(v)") == {
        "g", "m", "v", "ld", "g - m", "exp(m - g)", "sqrt(v)",
        "exp(m - g) * ld", "exp(m - g) / sqrt(v)", "ld / sqrt(v)", "exp(m - g) * ld / sqrt(v)",
    }  # fmt: skip


def test_signs_and_numbers_in_front_do_not_count() -> None:
    assert held("m - g") == held("g - m") == held("-3 * (g - m)")
    assert held("-(g * m)") == held("g * m")
    assert "1 - g" in held("g - 1")
    assert held("2 + 2 * g * m") == held("1 + g * m")
    assert "2 + g" in held("2 + g")
    assert "g + 0.5 * m" in held("-2 * g - m")
    assert held("1 / m") == {"m", "1 / m"}


def test_random_rules_hold_readable_texts_and_only_their_own_operands() -> None:
    source = random.Random(0)
    for _ in range(100):
        rule = Rule.from_tokens(SPACES["arxiv-2"].sample(source)).normal()
        for text in subexpressions(str(rule)):
            assert {row.name for row in Rule.parse(text).operands} <= {
                row.name for row in rule.operands
            }


def test_texts_hold_what_their_trees_hold() -> None:
    source = random.Random(1)
    for _ in range(1500):
        rule = Rule.from_tokens(SPACES["arxiv-3"].sample(source)).normal()
        assert subexpressions(str(rule)) == by_tree(rule.expr), rule


@every_committed("search/*/log.jsonl")
def test_texts_of_a_committed_search_hold_what_their_trees_hold(path: PurePosixPath) -> None:
    log = Log(ROOT / "results" / path)
    for text in {event["rule"] for event in log.read() if event["event"] == "evaluated"}:
        assert subexpressions(text) == by_tree(Rule.parse(text).expr), text


@pytest.mark.parametrize(
    "text",
    [
        "m - (g - v)", "-(g + m) + v", "m - -g", "2 * (g + m) - 4 * v", "g - 2 / m", "-2 * g * m",
        "g / (m * v)", "m * (g / v)", "1 / -g", "-g * m", "(g + m) * v", "(g * m)**v", "g**m**v",
        "(-2)**g", "-2**g", "2**-g", "(g + m)**(g - m)", "drop(--(g * m), 0.5)", "clip(g, 1e-4)",
        "99900.0999001 * g + 1e-5 * m", "1 - (g + m) * v", "g + m + v - 1", "-(-(g * m) / v)",
    ],
)  # fmt: skip
def test_a_text_in_any_brackets_holds_what_its_tree_holds(text: str) -> None:
    assert text == str(Rule.parse(text))
    assert subexpressions(text) == by_tree(Rule.parse(text).expr)


def test_a_lift_is_the_share_among_the_best_over_the_share_among_all() -> None:
    signs, plain = "exp(sign(g) * sign(m)) * g", "exp(v) * g"
    ranked = [signs, signs.replace("* g", "* m"), plain, "g", "m", signs.replace("* g", "* v")]
    counted = shares(ranked, 2)
    lift = counted.find(SIGNS)
    assert (lift.best, lift.all) == (2, 3)
    assert lift.lift == pytest.approx((2 / 2) / (3 / 6))
    assert counted.find("exp(v)").lift == 0
    assert math.isnan(counted.find("gamma").lift)


def test_the_top_leaves_out_what_is_rare_or_not_among_the_best() -> None:
    ranked = ["exp(g)", "exp(g) * m", "exp(m)", "exp(m) * v", "sqrt(v)"]
    top = [lift.text for lift in shares(ranked, 2).top(3, least=2)]
    assert top == ["exp(g)", "g", "m"]


def test_the_share_of_a_space_that_holds_a_part_is_that_of_all_its_strings() -> None:
    """A space that is small enough to be counted."""
    space = Space(("g", "m", "sign(g)", "sign(m)", "1"), ("identity", "exp"), ("*", "+"), 1)
    allowed = []
    for tokens in itertools.product(*(space.choices(place) for place in range(space.length))):
        with contextlib.suppress(RuleError):
            space.check(tokens)
            allowed.append(tokens)
    assert len(allowed) == space.size
    truth = statistics.fmean(SIGNS in held(str(Rule.from_tokens(tokens))) for tokens in allowed)
    share, most = uniform_share(space, SIGNS)
    assert truth > 0
    assert abs(share - truth) < 3 * math.sqrt(truth / 1000)
    assert share < most


def test_the_limit_of_a_count_is_poissons() -> None:
    for seen in (0, 1, 5, 40):
        assert stats.poisson.cdf(seen, count_at_most(seen)) == pytest.approx(0.025, rel=1e-4)
