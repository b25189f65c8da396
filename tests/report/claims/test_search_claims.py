"""Claims about a search, judged from logs whose truth is known."""

import random
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from scipy import stats

from nos_repro.errors import ConfigError
from nos_repro.report.claims.evidence import Finding
from nos_repro.report.claims.hypergeometric import ODDS, depletion, enrichment
from nos_repro.report.claims.kinds.search import BeatsTest, CostTest, RisesTest, SharesTest
from nos_repro.report.claims.results import Results
from nos_repro.report.search.history import History
from nos_repro.search.settings import load_search
from tests.report.searches import CONFIG, Folder

SEARCH = load_search(CONFIG, scale="smoke", trying=False)
SIGNS = "sign(g) * sign(m)"
TOKENS = ["g", "g", "identity", "identity", "keep_left"]


def history(drawn: Iterable[tuple[str, str, float]], seconds: float = 20.0) -> History:
    """The history of these draws: rule, status, reward."""
    made = History(Path("nowhere"), SEARCH, SEARCH.identity())
    for number, (rule, status, reward) in enumerate(drawn):
        made.take({"event": "proposed", "sample": number, "policy": 0, "tokens": TOKENS})
        more = {"seconds": seconds, "lr": 0.1} if status == "healthy" else {}
        made.take({"event": "evaluated", "sample": number, "rule": rule, "key": rule,
                   "status": status, "reward": reward, **more})  # fmt: skip
    return made


def judged(test: Any, made: History) -> Finding:
    found: Finding = test.judge(SimpleNamespace(history=lambda name, scale: made), "small")
    return found


def fresh(rewards: Iterable[float]) -> list[tuple[str, str, float]]:
    """Draws of as many different rules; those without a reward are refused."""
    return [
        (f"exp({n} * g)", "healthy" if reward else "refused", reward)
        for n, reward in enumerate(rewards, 1)
    ]


# ---- rewards that rise


def wrong(test: Any, draw: Callable[[random.Random], History], times: int = 300) -> dict[str, int]:
    source = random.Random(16)
    verdicts = [judged(test, draw(source)).verdict for _ in range(times)]
    return {kind: verdicts.count(kind) for kind in set(verdicts)}


@pytest.mark.parametrize("what", ["mean", "best"])
def test_of_searches_that_learn_nothing_few_are_said_to_rise_or_to_fall(what: Any) -> None:
    """Half of the rules are refused, the others' rewards are skewed, as they are on the child; a
    quarter of the draws repeats a rule."""

    def draw(source: random.Random) -> History:
        rewards = [max(0.0, source.random() ** 2 * 1.3 - 0.3) for _ in range(120)]
        drawn = fresh(rewards)
        again = [(rule, "reused", reward) for rule, _, reward in source.choices(drawn, k=40)]
        return history([*drawn[:90], *again, *drawn[90:]])

    counts = wrong(RisesTest("any", what), draw)
    assert max(counts.get("holds", 0), counts.get("does not hold", 0)) <= 14, counts  # 7.5 expected


@pytest.mark.parametrize("what", ["mean", "best"])
def test_of_searches_that_learn_most_are_said_to_rise(what: Any) -> None:
    def draw(source: random.Random) -> History:
        return history(fresh(source.random() * (0.5 + n / 240) for n in range(240)))

    counts = wrong(RisesTest("any", what), draw, 100)
    assert counts.get("holds", 0) >= 90, counts


def test_a_controller_that_repeats_one_good_rule_has_not_found_better_ones() -> None:
    """Its draws' mean rises all the same, which keeps the claim from being refuted too."""
    source = random.Random(1)
    early = fresh(source.random() * 0.5 for _ in range(200))
    best = max(early, key=lambda each: each[2])
    late = [("exp(m) * g", "healthy", 0.2), *[(best[0], "reused", best[2])] * 300]
    found = judged(RisesTest("any", "mean"), history([*early, *late]))
    assert found.verdict == "undecided"
    of_fresh, of_draws = found.effects
    assert of_draws.p_for < 1e-6 < of_fresh.p_for
    assert "fresh rules" in found.reason
    assert "all draws" in found.reason


def test_the_best_so_far_rises_in_every_search_and_proves_nothing() -> None:
    """The best of all comes last, as it may in a random order."""
    source = random.Random(3)
    rewards = [source.random() * 0.5 for _ in range(100)]
    found = judged(RisesTest("any", "best"), history(fresh([*rewards, 0.9])))
    assert found.verdict == "undecided"
    early = sorted(rewards, reverse=True)
    assert judged(RisesTest("any", "best"), history(fresh(early))).verdict == "does not hold"


def test_the_difference_of_the_quarters_is_welchs() -> None:
    source = np.random.default_rng(0)
    rewards = [*source.uniform(0, 0.5, 60), *source.uniform(0.1, 0.9, 60)]
    effect = judged(RisesTest("any", "mean"), history(fresh(rewards))).effects[0]
    oracle = stats.ttest_ind(rewards[-30:], rewards[:30], equal_var=False, alternative="greater")
    assert effect.p_for == pytest.approx(oracle.pvalue, rel=1e-6)
    interval = stats.ttest_ind(rewards[-30:], rewards[:30], equal_var=False).confidence_interval()
    assert (effect.low, effect.high) == pytest.approx(tuple(interval), rel=1e-6)


def test_a_search_without_a_controller_says_nothing_of_one() -> None:
    made = history(fresh(n / 240 for n in range(1, 241)))
    assert judged(RisesTest("any", "mean"), made).verdict == "holds"
    made.settings["algorithm"] = {"name": "evolution"}
    found = judged(RisesTest("any", "mean"), made)
    assert (found.verdict, found.reason) == (
        "not run", "the search has no controller: it is by evolution",
    )  # fmt: skip


# ---- a part that recurs


def test_tails_are_those_of_fishers_noncentral_distribution() -> None:
    for seen, best, have, total in [(0, 12, 30, 120), (3, 10, 40, 200), (9, 20, 50, 90)]:
        oracle = stats.nchypergeom_fisher(total, have, best, ODDS)
        assert depletion(seen, best, have, total, ODDS) == pytest.approx(oracle.cdf(seen))
        blind = stats.hypergeom(total, have, best)
        assert enrichment(seen, best, have, total) == pytest.approx(blind.sf(seen - 1))


def test_a_part_that_was_hardly_drawn_is_not_refuted_but_not_exposed() -> None:
    source = random.Random(0)
    rare = [(f"exp({n} * {SIGNS})", "healthy", 0.01) for n in range(1, 30)]
    drawn = [*fresh(source.random() for _ in range(300)), *rare]
    found = judged(SharesTest("any", SIGNS, 0.1), history(drawn))
    assert found.verdict == "undecided"
    assert found.reason.startswith("not exposed: in 0 of the best 33, in 29 of 329 healthy rules")
    drawn.append((f"exp(31 * {SIGNS})", "healthy", 0.01))
    assert judged(SharesTest("any", SIGNS, 0.1), history(drawn)).verdict == "does not hold"


@pytest.mark.parametrize(
    ("odds", "never"), [(1.0, "holds"), (ODDS, "does not hold")], ids=["by chance", "twice"]
)
def test_a_part_is_rarely_misjudged(odds: float, never: str) -> None:
    """Which of the best rules hold the part is drawn with the odds that the claim speaks of."""
    source = np.random.default_rng(16)
    total, have, best = 200, 60, 20
    among = stats.nchypergeom_fisher(total, have, best, odds)
    verdicts = []
    for k in among.rvs(size=120, random_state=source):
        held = [n < k if n < best else n < best + have - k for n in range(total)]
        drawn = [
            (f"exp({n + 1} * {SIGNS})" if has else f"exp({n + 1} * g)", "healthy", 1 - n / total)
            for n, has in enumerate(held)
        ]
        verdicts.append(judged(SharesTest("any", SIGNS, 0.1), history(drawn)).verdict)
    assert verdicts.count(never) <= 7, "3 expected"


def test_a_part_that_most_of_the_best_hold_recurs() -> None:
    drawn = fresh(n / 200 for n in range(1, 101))
    drawn += [(f"exp({n} * {SIGNS})", "healthy", 0.5 + n / 200) for n in range(1, 41)]
    assert judged(SharesTest("any", SIGNS, 0.1), history(drawn)).verdict == "holds"
    with pytest.raises(ConfigError, match="best: a number of rules"):
        SharesTest("any", SIGNS, 0)


# ---- what a search costs


@pytest.mark.parametrize(
    ("seconds", "verdict"), [(100.0, "holds"), (1_000.0, "undecided"), (1e6, "does not hold")]
)
def test_a_search_that_repeats_itself_is_no_measure_of_cost(seconds: float, verdict: str) -> None:
    """One draw in fifty is a new healthy rule. 45,000 such children on 100 workers take 12.5 hours
    at 100 s each; by the mean of all draws they would take 50 times less."""
    drawn = [*fresh([0.5, 0.6]), *[("exp(1 * g)", "reused", 0.5)] * 98]
    found = judged(CostTest("any", 45_000, 100, 24.0), history(drawn, seconds))
    assert found.verdict == verdict
    assert "2% of the draws were new rules" in found.reason
    assert found.effects[0].value == pytest.approx(seconds * 45_000 / 100 / 3600)


def test_a_child_is_a_healthy_one() -> None:
    """A child that diverged at once would halve the mean."""
    drawn = [*fresh([0.5]), ("exp(m)", "diverged", 0.0)]
    found = judged(CostTest("any", 1, 1, 0.02), history(drawn, 60.0))
    assert found.effects[0].value == pytest.approx(60 / 3600)


# ---- a rule that decays its own rate


def confirmed(folder: Folder, *rivals: tuple[str, str, float]) -> None:
    """A found `g * sqrt(ld)` at about 62, and baselines at their means, over five fresh seeds."""
    folder.sample("g ld identity sqrt *", "healthy", 0.9)
    for name, optimizer, mean in rivals:
        folder.named("baseline", name, optimizer, reward=0.5)
        for seed in range(1, 6):
            folder.named("confirm", name, optimizer, seed, test_accuracy=mean + 0.1 * (seed % 3))
    for seed in range(1, 6):
        accuracy = 62 + 0.1 * (seed % 2)
        folder.named("confirm", "g * sqrt(ld)", "rule: g * sqrt(ld)", seed, test_accuracy=accuracy)


@pytest.mark.parametrize(
    ("rivals", "verdict", "words"),
    [
        ([], "undecided", "no baseline is given its decay (ld)"),
        ([("SGD-cd", "rule: g * cd", 50.0)], "undecided", "no baseline is given its decay (ld)"),
        ([("SGD-ld", "rule: g * ld", 50.0)], "holds", "the closest"),
        ([("PowerSign-ld", "powersign-ld", 64.0)], "does not hold", "against PowerSign-ld"),
    ],
    ids=["none", "another decay", "worse", "better"],
)
def test_a_decay_alone_is_no_discovery(
    tmp_path: Path, rivals: list[tuple[str, str, float]], verdict: str, words: str
) -> None:
    folder = Folder(tmp_path)
    confirmed(folder, ("SGD", "sgd", 58.0), *rivals)
    file = tmp_path / "search.yaml"
    asked = yaml.safe_load(CONFIG.read_text())
    asked["baselines"] |= {name: text for name, text, _ in rivals}
    file.write_text(yaml.safe_dump(asked))
    found = BeatsTest("search", ["SGD"]).judge(Results(tmp_path, {"search": file}), "smoke")
    assert found.verdict == verdict
    assert words in found.reason


def test_a_rule_without_a_decay_needs_no_baseline_that_has_one(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.sample("g g identity identity keep_left", "healthy", 0.9)
    folder.named("baseline", "SGD", "sgd", reward=0.5)
    for seed in range(1, 6):
        folder.named("confirm", "SGD", "sgd", seed, test_accuracy=58 + 0.1 * (seed % 3))
        folder.named("confirm", "m", "rule: m", seed, test_accuracy=62 + 0.1 * (seed % 2))
    assert BeatsTest("search", ["SGD"]).judge(Results(tmp_path), "smoke").verdict == "holds"
