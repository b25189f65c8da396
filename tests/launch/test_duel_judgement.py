"""The verdict on the pairs of a duel."""

import random

import pytest

from nos_repro.launch.duel.judgement import Names, Pair, judge
from nos_repro.launch.duel.sequence import fewest_pairs

NAMES = Names("PowerSign", "Adam")
CLEAR = [1.0, 1.2, 0.9, 1.1, 1.0, 0.8, 1.05, 0.95]


def pairs(differences: list[float | None]) -> list[Pair]:
    """None: the first of the two diverged."""
    return [
        Pair(seed, None if d is None else 60 + d, 60.0) for seed, d in enumerate(differences, 1)
    ]


def test_the_first_pairs_that_decide_end_it_and_what_follows_is_not_looked_at() -> None:
    found = judge(pairs(CLEAR), NAMES)
    assert (found.verdict, found.final, found.pairs) == ("better", True, fewest_pairs())
    later = judge(pairs([*CLEAR, -90.0, -90.0]), NAMES)
    assert later == found
    assert judge(pairs([-d for d in CLEAR]), NAMES).verdict == "worse"


def test_too_few_pairs_are_undecided_whatever_they_say() -> None:
    found = judge(pairs(CLEAR[: fewest_pairs() - 1]), NAMES)
    assert (found.verdict, found.final) == ("undecided", False)
    assert found.more == 1
    assert "about 1 more would decide" in found.reason
    assert judge([], NAMES).reason == "too few pairs to know their spread"


def test_a_difference_within_the_margin_is_equivalence() -> None:
    source = random.Random(1)
    noise = [source.gauss(0, 0.2) for _ in range(40)]
    assert judge(pairs(list(noise)), NAMES).verdict == "undecided"
    found = judge(pairs(list(noise)), NAMES, margin=0.5)
    assert (found.verdict, found.final) == ("equivalent", True)
    assert found.estimate.within(0.5)


def test_a_row_whose_best_rate_is_at_the_edge_of_its_grid_does_not_lose() -> None:
    names = Names("PowerSign", "Adam", other_edges=("lr=0.03",))
    found = judge(pairs(CLEAR), names)
    assert (found.verdict, found.final) == ("open", True)
    assert "Adam's best lr=0.03 is at the edge of its grid" in found.reason
    assert judge(pairs([-d for d in CLEAR]), names).verdict == "worse"


def test_equal_differences_decide_nothing() -> None:
    """They say nothing of the spread: a coarse metric makes them by chance."""
    found = judge([Pair(n, 60.0 + n + 1, 60.0 + n) for n in range(20)], NAMES)
    assert (found.verdict, found.final) == ("undecided", False)
    rounded = [Pair(n, 0.1 * n + 0.3, 0.1 * n) for n in range(20)]  # 0.3 to 16 digits
    assert judge(rounded, NAMES).verdict == "undecided"


def test_a_task_without_chance_is_said_to_be_one() -> None:
    found = judge([Pair(n, 61.0, 60.0) for n in range(5)], NAMES)
    assert (found.verdict, found.final, found.pairs) == ("undecided", True, 3)
    assert "the seed changes nothing" in found.reason


def test_scores_that_are_alike_by_chance_do_not_end_a_duel() -> None:
    """Both rows end at the same numbers, on the way to which the seeds show."""
    some = [Pair(n, 100.0, 99.0, ([{"train_loss": 0.1 / n}], [])) for n in range(1, 6)]
    found = judge(some, NAMES)
    assert (found.verdict, found.final, found.pairs) == ("undecided", False, 5)
    later = [Pair(n, 100.0 + n / 9, 99.0, n) for n in range(6, 30)]
    assert judge([*some, *later], NAMES).verdict == "better"


def test_a_row_that_alone_diverges_often_enough_loses() -> None:
    found = judge(pairs([None] * 20), NAMES)
    assert (found.verdict, found.pairs, found.lost) == ("worse", 11, 11)
    assert found.reason == "PowerSign alone diverged in 11 pairs, the other in 0"
    both = [Pair(n, None, None) for n in range(20)]
    assert judge(both, NAMES).verdict == "undecided"


def test_a_row_that_is_ahead_but_diverges_more_often_does_not_win() -> None:
    found = judge(pairs([None, *CLEAR, None]), NAMES)
    assert (found.verdict, found.final) == ("undecided", False)
    assert "PowerSign is ahead where both finish, and diverges more often" in found.reason
    behind = judge(pairs([None, *(-d for d in CLEAR)]), NAMES)
    assert behind.verdict == "worse"


@pytest.mark.parametrize("margin", [None, 0.5])
def test_a_verdict_does_not_depend_on_how_many_pairs_were_trained_at_a_time(
    margin: float | None,
) -> None:
    source = random.Random(2)
    for _ in range(15):
        mean = source.choice([0.0, 0.5, 1.5])
        some = pairs([source.gauss(mean, 1) for _ in range(24)])
        whole = judge(some, NAMES, margin)
        for batch in (1, 3, 8):
            seen = 0
            while seen < len(some):
                seen = min(seen + batch, len(some))
                if judge(some[:seen], NAMES, margin).final:
                    break
            assert judge(some[:seen], NAMES, margin).verdict == whole.verdict
