"""The confidence sequence of a duel: its closed form, and 2,000 simulated duels."""

import math
import random
from collections.abc import Callable

import numpy as np
import pytest

from nos_repro.launch.duel.judgement import Names, Pair, judge
from nos_repro.launch.duel.sequence import (
    ALPHA,
    EFFECT,
    LOST_ALPHA,
    MeanDifference,
    coin_evidence,
    evidence,
    fewest_pairs,
    reach,
)

NAMES = Names("one", "other")
DUELS, PAIRS = 2_000, 60
Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


@pytest.mark.parametrize(("t", "n"), [(0.5, 2), (3.0, 6), (-3.0, 6), (8.0, 6), (4.0, 30), (0.0, 9)])
def test_the_e_value_is_the_bayes_factor_of_a_normal_effect(t: float, n: int) -> None:
    """By integrating scipy's non-central t over the effect."""
    stats, integrate = (pytest.importorskip(f"scipy.{part}") for part in ("stats", "integrate"))

    def integrand(effect: float) -> float:
        likelihood = stats.nct.pdf(t, n - 1, effect * math.sqrt(n))
        return float(likelihood * stats.norm.pdf(effect, scale=EFFECT))

    mixed, _ = integrate.quad(integrand, -8, 8, points=[0, t / math.sqrt(n)], limit=400)
    assert evidence(t, n) == pytest.approx(mixed / stats.t.pdf(t, n - 1), rel=1e-5)


def test_the_interval_holds_the_means_that_the_e_value_does_not_reject() -> None:
    for n in (*range(fewest_pairs(), 30), 100, 1000):
        t = reach(n) * math.sqrt(n)
        assert evidence(t, n) == pytest.approx(1 / ALPHA, rel=1e-9)
        assert evidence(1.01 * t, n) > 1 / ALPHA > evidence(0.99 * t, n)
    for n in range(2, fewest_pairs()):
        assert evidence(1e9, n) < 1 / ALPHA
        assert reach(n) == math.inf


def test_the_interval_is_wider_than_students_and_narrows_as_the_root_of_n() -> None:
    stats = pytest.importorskip("scipy.stats")
    for n in (8, 30, 300):
        assert reach(n) > stats.t.ppf(1 - ALPHA / 2, n - 1) / math.sqrt(n)
    assert reach(900) / reach(100) == pytest.approx(1 / 3, rel=0.25)


def test_the_coins_e_value_is_that_of_a_uniform_chance() -> None:
    special = pytest.importorskip("scipy.special")
    for one, other in ((0, 0), (5, 0), (7, 2), (11, 0), (30, 30)):
        mixed = 2.0 ** (one + other) * special.beta(one + 1, other + 1)
        assert coin_evidence(one, other) == pytest.approx(mixed, rel=1e-12)
    assert coin_evidence(10, 0) < 1 / LOST_ALPHA < coin_evidence(11, 0)


def test_so_many_more_pairs_would_decide() -> None:
    for mean, spread, margin in ((0.3, 1.0, None), (-0.5, 1.0, None), (0.05, 1.0, 0.5)):
        now = MeanDifference(8, mean, spread)
        more = now.more(margin)
        assert more is not None
        before, then = (MeanDifference(8 + more - k, mean, spread) for k in (1, 0))
        for estimate, decides in ((before, False), (then, True)):
            within = margin is not None and estimate.within(margin)
            assert (estimate.excludes_zero or within) is decides
    assert MeanDifference(8, 0.001, 1.0).more(None) is None
    assert MeanDifference(1, 1.0, math.nan).more(None) is None


def pairs_of(differences: list[float], start: float = 50.0) -> list[Pair]:
    return [Pair(seed, start + d, start) for seed, d in enumerate(differences)]


# Simulated duels: differences of a known mean, and what is decided after each pair.


def t3(source: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return source.standard_t(3, shape) / 3**0.5


def gamma(shape: float) -> Draw:
    """Of that shape, with mean 0 and spread 1: its skewness is 2 / sqrt(shape)."""

    def drawn(source: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
        return (source.gamma(shape, size=size) - shape) / shape**0.5

    return drawn


def normal(source: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return source.standard_normal(shape)


def lognormal(source: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.exp(source.standard_normal(shape))


def decided(differences: np.ndarray, margin: float | None = None) -> np.ndarray:
    """1, -1 or 0 (undecided) for each duel; 2 for "equivalent"."""
    n = np.arange(1, differences.shape[1] + 1)
    mean = differences.cumsum(1) / n
    squares = (differences**2).cumsum(1) - n * mean**2
    spread = np.sqrt(np.maximum(squares, 0) / np.maximum(n - 1, 1))
    spread[spread < 1e-7] = np.nan
    half = np.array([reach(int(each)) for each in n]) * spread
    verdicts = np.where(np.abs(mean) > half, np.sign(mean), 0.0)
    if margin is not None:
        verdicts[np.abs(mean) + half <= margin] = 2.0
    first = (verdicts != 0).argmax(1)
    return verdicts[np.arange(len(verdicts)), first]


@pytest.mark.parametrize("effect", [0.05, 0.2, 0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("draw", [normal, t3, gamma(4), gamma(2)])
def test_of_2000_duels_at_most_five_per_cent_are_decided_wrongly(draw: Draw, effect: float) -> None:
    source = np.random.default_rng(1)
    found = decided(draw(source, (DUELS, PAIRS)) + effect)
    assert np.mean(found == -1) <= 0.05
    found = decided(draw(source, (DUELS, PAIRS)) - effect)
    assert np.mean(found == 1) <= 0.05


@pytest.mark.parametrize("draw", [normal, t3, gamma(2), gamma(1), lognormal])
def test_a_row_against_itself_stays_undecided_in_95_per_cent(draw: Draw) -> None:
    """Whatever the scores' distribution, their difference is symmetric."""
    source = np.random.default_rng(2)
    one, other = (draw(source, (DUELS, PAIRS)) for _ in range(2))
    assert np.mean(decided(one - other) == 0) >= 0.95


@pytest.mark.parametrize("draw", [normal, t3, gamma(4), gamma(2)])
def test_equal_means_are_told_apart_in_at_most_five_per_cent(draw: Draw) -> None:
    source = np.random.default_rng(3)
    assert np.mean(decided(draw(source, (DUELS, PAIRS))) != 0) <= 0.05


def test_scores_in_large_steps_are_no_reason_to_decide() -> None:
    """An accuracy over few images: most differences are 0 or one step."""
    source = np.random.default_rng(4)
    found = decided(np.round(0.7 * source.standard_normal((DUELS, PAIRS))))
    assert np.mean(found != 0) <= 0.05


@pytest.mark.parametrize("draw", [normal, t3, gamma(4)])
def test_a_difference_of_the_margin_is_called_none_in_at_most_five_per_cent(draw: Draw) -> None:
    source = np.random.default_rng(5)
    found = decided(draw(source, (DUELS, PAIRS)) + 1.0, margin=1.0)
    assert np.mean((found == 2) | (found == -1)) <= 0.05


def test_a_large_effect_is_found_and_an_effect_of_none_is_called_none() -> None:
    source = np.random.default_rng(6)
    for effect in (1.0, 2.0):
        assert np.mean(decided(normal(source, (DUELS, PAIRS)) + effect, margin=0.6) == 1) >= 0.99
    assert np.mean(decided(normal(source, (DUELS, PAIRS)), margin=0.8) == 2) >= 0.9


def test_the_simulation_decides_as_a_duel_does() -> None:
    """The verdicts of `judge` on some of the same sequences."""
    source = np.random.default_rng(7)
    for effect, margin in ((0.0, None), (0.8, None), (-1.5, None), (0.1, 1.0)):
        differences = normal(source, (30, 30)) + effect
        words = {1: "better", -1: "worse", 2: "equivalent", 0: "undecided"}
        expected = [words[int(each)] for each in decided(differences, margin)]
        found = [judge(pairs_of(list(row)), NAMES, margin).verdict for row in differences]
        assert found == expected


def test_rows_that_diverge_alike_are_told_apart_in_at_most_one_per_cent() -> None:
    source = random.Random(8)
    wrong = 0
    for _ in range(DUELS):
        one = other = 0
        for _ in range(PAIRS):
            a, b = source.random() < 0.3, source.random() < 0.3
            one, other = one + (a and not b), other + (b and not a)
            if coin_evidence(one, other) >= 1 / LOST_ALPHA:
                wrong += 1
                break
    assert wrong <= 0.015 * DUELS
