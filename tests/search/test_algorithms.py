"""The algorithms, against formulas worked out by hand, torch.linalg, and a bandit's best arm."""

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from nos_repro.errors import ConfigError
from nos_repro.rules.space import Space
from nos_repro.search.algorithms import ALGORITHMS, Algorithm
from nos_repro.search.algorithms import trpo as trpo_module
from nos_repro.search.algorithms.base import ControllerSettings
from nos_repro.search.algorithms.policy_gradient import Baseline
from nos_repro.search.algorithms.trpo import conjugate_gradient
from nos_repro.search.controller import Controller, Scores
from nos_repro.search.draws import uniforms
from nos_repro.search.sample import Sample

BANDIT = Space(("g", "m", "v"), ("identity", "exp"), ("+", "-", "*"), 1)
BEST_ARM = ["m", "g", "exp", "identity", "*"]
LEARNERS = {"ppo": {"lr": 0.01}, "reinforce": {"lr": 0.01}, "trpo": {"max_kl": 0.05}}
EXTRAS = {"living_entropy": True, "normalise": True, "risk": 0.5, "queue": 3}
PLUGIN = """
from nos_repro.search.algorithms.base import Algorithm, ALGORITHMS

@ALGORITHMS.register("idle")
class Idle(Algorithm):
    def propose(self, number, open):
        return ["g", "m", "exp", "exp", "*"], []

    def learn(self, sample, reward):
        return {}

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass
"""


class Given(NamedTuple):
    """What an algorithm is taught: the strings of one replica."""

    tokens: Tensor
    behaviour: Tensor
    rewards: Tensor


def make(name: str, controller: Controller, **settings: Any) -> Any:
    """An algorithm that learns with this controller."""
    kind: Any = ALGORITHMS.find(name)
    seeds = range(len(controller.embedding))
    algorithm = kind(
        controller.space,
        kind.Settings(**settings),
        controller=ControllerSettings(hidden=1),
        seeds=seeds,
    )
    algorithm.controller = controller
    if "lr" in vars(algorithm.settings):
        algorithm.optimizer = torch.optim.Adam(controller.parameters(), lr=algorithm.settings.lr)
    return algorithm


@pytest.fixture
def controller() -> Controller:
    return Controller(BANDIT, hidden=6, init=0.8)


@pytest.fixture
def exact(controller: Controller) -> Controller:
    """The same in float64."""
    return controller.double()


def batch_of(controller: Controller, strings: int = 5, seed: int = 0) -> Given:
    """Fresh samples with random rewards."""
    generator = torch.Generator().manual_seed(seed)
    numbers = np.arange(strings)[None]
    samples = controller.sample(uniforms([seed], numbers, controller.space.length))
    rewards = torch.rand(1, strings, generator=generator)
    return Given(samples.tokens, samples.log_probs, rewards.to(samples.log_probs.dtype))


def stale(batch: Given, factors: Tensor) -> Given:
    """The batch as if its tokens had been that much less likely when they were drawn."""
    return batch._replace(behaviour=batch.behaviour - factors.log())


def advantages_of(batch: Given) -> Tensor:
    """The advantages of a first batch, whose baseline is its own mean."""
    return (batch.rewards[0] - batch.rewards[0].mean()).double()


def weights(controller: Controller) -> Tensor:
    return parameters_to_vector(controller.parameters()).detach().clone()


def gradient_of(objective: Tensor, controller: Controller) -> Tensor:
    parameters = list(controller.parameters())
    parts = torch.autograd.grad(
        objective.sum(), parameters, retain_graph=True, materialize_grads=True, allow_unused=True
    )
    return torch.cat([part.reshape(-1) for part in parts])


def scores_of(controller: Controller, batch: Given) -> Scores:
    with torch.no_grad():
        return controller.score(batch.tokens)


def objectives(algorithm: Any, batch: Given) -> list[Tensor]:
    """What the algorithm asks its optimizer to maximise; the weights are not changed."""
    seen: list[Tensor] = []
    algorithm.ascend = seen.append
    algorithm.teach(*batch)
    return seen


def trpos_view(
    controller: Controller, batch: Given, monkeypatch: pytest.MonkeyPatch, **settings: Any
) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """The Fisher product and the gradient that TRPO hands to its solver."""
    seen: list[Any] = []

    def solve(product: Callable[[Tensor], Tensor], b: Tensor, steps: int) -> Tensor:
        seen.extend((product, b))
        return torch.zeros_like(b)

    monkeypatch.setattr(trpo_module, "conjugate_gradient", solve)
    make("trpo", controller, **settings).teach(*batch)
    return seen[0], seen[1][0]


def test_the_packages_algorithms_are_found_by_name() -> None:
    assert {"ppo", "trpo", "reinforce", "random"} <= set(ALGORITHMS.names())
    for name in ALGORITHMS.names():
        assert issubclass(ALGORITHMS.find(name), Algorithm)


def test_the_papers_settings_are_the_defaults() -> None:
    """002 sec. 4.2."""
    settings = ALGORITHMS.find("ppo").Settings()
    assert (settings.lr, settings.batch, settings.entropy) == (1e-5, 5, 0.0015)


# fmt: off
IMPOSSIBLE = [
    ("ppo",       "lr",              0),   ("ppo",       "clip",        0),
    ("ppo",       "passes",          0),   ("ppo",       "batch",       0),
    ("ppo",       "entropy",        -1),   ("reinforce", "batch",       0),
    ("reinforce", "lr",             -1),   ("reinforce", "most_weight", 0),
    ("reinforce", "baseline_decay",  1),   ("trpo",      "max_kl",      0),
    ("trpo",      "damping",         0),   ("trpo",      "halvings",    0),
    ("trpo",      "conjugate_steps", 0),   ("trpo",      "entropy",    -1),
]
# fmt: on


@pytest.mark.parametrize(("name", "key", "value"), IMPOSSIBLE)
def test_an_impossible_setting_is_refused_by_its_key(name: str, key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"^algorithm\.{key} must be .*, got {value}$"):
        ALGORITHMS.find(name).Settings(**{key: value})


def test_an_unknown_algorithm_gets_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="unknown algorithm 'reinforced'\n  did you mean 'reinf"):
        ALGORITHMS.find("reinforced")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for third parties' modules; what they register is removed after the test."""
    ALGORITHMS.names()
    monkeypatch.setattr(ALGORITHMS, "_entries", dict(ALGORITHMS._entries))
    monkeypatch.setattr(ALGORITHMS, "_found", {})
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_a_third_partys_module_brings_an_algorithm(package: Path) -> None:
    (package / "their_search").mkdir()
    (package / "their_search" / "idle.py").write_text(PLUGIN)
    kind = ALGORITHMS.find("their_search.idle")
    algorithm = kind(BANDIT, kind.Settings(), seed=0, controller=ControllerSettings())
    assert type(algorithm).__module__ == "their_search.idle"
    assert algorithm.propose(0, {}) == (["g", "m", "exp", "exp", "*"], [])


def test_a_module_that_registers_no_algorithm_is_an_error(package: Path) -> None:
    (package / "empty_search").mkdir()
    (package / "empty_search" / "nothing.py").write_text("")
    with pytest.raises(ConfigError, match="must define one algorithm, not 0"):
        ALGORITHMS.find("empty_search.nothing")
    with pytest.raises(ConfigError, match=r"algorithm\.name: no Python module 'no_such\.search'"):
        ALGORITHMS.find("no_such.search")


def test_a_baseline_is_the_moving_average_of_the_batches_before() -> None:
    baseline = Baseline(0.9)
    batches = torch.rand(6, 2, 5, generator=torch.Generator().manual_seed(0))
    average = batches[0].mean(1)  # the first batch has no predecessor
    for rewards in batches:
        torch.testing.assert_close(baseline.advantages(rewards), rewards - average[:, None])
        average = 0.9 * average + 0.1 * rewards.mean(1)
    assert baseline.value is not None
    torch.testing.assert_close(baseline.value, average)


def test_reinforce_climbs_advantage_times_log_probability(exact: Controller) -> None:
    batch = batch_of(exact)
    (objective,) = objectives(make("reinforce", exact), batch)
    scores = exact.score(batch.tokens)
    by_hand = (advantages_of(batch) * scores.log_probs[0].sum(1)).mean()
    by_hand = by_hand + 0.0015 * scores.entropy.sum() / 5
    torch.testing.assert_close(gradient_of(objective, exact), gradient_of(by_hand, exact))


@pytest.mark.parametrize("most_weight", [1.0, 3.0])
def test_reinforce_weighs_a_stale_string_by_its_truncated_ratio(
    exact: Controller, most_weight: float
) -> None:
    factors = torch.ones(5, 5, dtype=torch.float64)
    factors[:, 0] = torch.tensor([0.25, 0.5, 1.0, 2.0, 4.0])
    batch = stale(batch_of(exact), factors)
    algorithm = make("reinforce", exact, entropy=0, most_weight=most_weight)
    (objective,) = objectives(algorithm, batch)
    scores = exact.score(batch.tokens)
    weight = torch.tensor([min(ratio, most_weight) for ratio in (0.25, 0.5, 1.0, 2.0, 4.0)])
    by_hand = (weight * advantages_of(batch) * scores.log_probs[0].sum(1)).mean()
    torch.testing.assert_close(gradient_of(objective, exact), gradient_of(by_hand, exact))


def test_ppos_first_pass_is_reinforce_on_fresh_samples(exact: Controller) -> None:
    batch = batch_of(exact)
    (reinforce,) = objectives(make("reinforce", exact), batch)
    first, *others = objectives(make("ppo", exact), batch)
    assert len(others) == 3
    torch.testing.assert_close(gradient_of(first, exact), gradient_of(reinforce, exact))


def test_ppos_objective_is_clipped_token_by_token(exact: Controller) -> None:
    """Value and gradient by hand, for tokens on either side of the clip and within it."""
    factors = torch.tensor([0.5, 0.85, 1.0, 1.15, 2.0], dtype=torch.float64).repeat(5, 1)
    batch = stale(batch_of(exact), factors)
    (objective,) = objectives(make("ppo", exact, entropy=0, clip=0.2, passes=1), batch)
    log_probs = exact.score(batch.tokens).log_probs[0]
    value, by_hand = 0.0, torch.zeros((), dtype=torch.float64)
    for string, advantage in enumerate(advantages_of(batch).tolist()):
        for token, ratio in enumerate((0.5, 0.85, 1.0, 1.15, 2.0)):
            bounded = min(max(ratio, 0.8), 1.2)
            value += min(ratio * advantage, bounded * advantage) / 5
            gone_too_far = ratio > 1.2 if advantage > 0 else ratio < 0.8
            if not gone_too_far:
                by_hand = by_hand + advantage * ratio * log_probs[string, token] / 5
    assert float(objective.detach()) == pytest.approx(value, rel=1e-6)
    torch.testing.assert_close(gradient_of(objective, exact), gradient_of(by_hand, exact))


def test_ppo_counts_the_clipped_tokens(exact: Controller) -> None:
    factors = torch.ones(5, 5, dtype=torch.float64)
    factors[:2, 3] = 1.5
    figures = make("ppo", exact, passes=1).teach(*stale(batch_of(exact), factors))
    assert float(figures["clipped"][0]) == pytest.approx(2 / 25)


def test_conjugate_gradients_solve_what_torch_solves() -> None:
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(12, 12, generator=generator, dtype=torch.float64)
    matrix = root @ root.T + torch.eye(12, dtype=torch.float64)
    b = torch.randn(3, 12, generator=generator, dtype=torch.float64)
    b[1] = 0
    x = conjugate_gradient(lambda vectors: vectors @ matrix, b, steps=30, tolerance=1e-24)
    torch.testing.assert_close(x, torch.linalg.solve(matrix, b.T).T)


def test_trpos_fisher_product_is_the_fisher_matrixs(
    exact: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The matrix itself: E[score score'] over every possible word at every position."""
    batch = batch_of(exact, strings=3)
    product, _ = trpos_view(exact, batch, monkeypatch, damping=0.25)
    count = len(weights(exact))
    matrix = 0.25 * torch.eye(count, dtype=torch.float64)
    choices = exact.score(batch.tokens).choices
    for log_prob in choices[choices > -math.inf]:
        slope = gradient_of(log_prob, exact)
        matrix += float(log_prob.detach().exp()) * torch.outer(slope, slope) / 3
    rows = [product(unit[None])[0] for unit in torch.eye(count, dtype=torch.float64)]
    torch.testing.assert_close(torch.stack(rows), matrix, rtol=1e-6, atol=1e-9)


def test_trpo_climbs_what_reinforce_climbs_and_weighs_stale_strings(
    exact: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = batch_of(exact)
    (reinforce,) = objectives(make("reinforce", exact), batch)
    _, gradient = trpos_view(exact, batch, monkeypatch)
    torch.testing.assert_close(gradient, gradient_of(reinforce, exact))

    factors = torch.ones(5, 5, dtype=torch.float64)
    factors[:, 0] = torch.tensor([0.25, 0.5, 1.0, 2.0, 4.0])
    _, gradient = trpos_view(exact, stale(batch, factors), monkeypatch, entropy=0)
    log_probs = exact.score(batch.tokens).log_probs[0].sum(1)
    by_hand = (factors[:, 0] * advantages_of(batch) * log_probs).mean()
    torch.testing.assert_close(gradient, gradient_of(by_hand, exact))


@pytest.mark.parametrize("max_kl", [0.01, 0.3, 5.0])
def test_trpo_stays_in_its_region_and_never_gets_worse(exact: Controller, max_kl: float) -> None:
    """The divergence and the gain, computed independently after every update."""
    algorithm = make("trpo", exact, max_kl=max_kl)
    average, moved = None, 0
    for seed in range(20):
        batch = batch_of(exact, seed=seed)
        mean = float(batch.rewards.mean())
        average = mean if average is None else average
        before = scores_of(exact, batch)
        figures = algorithm.teach(*batch)
        after = scores_of(exact, batch)
        allowed = before.choices > -math.inf
        old, new = before.choices[allowed], after.choices[allowed]
        divergence = float((old.exp() * (old - new)).sum()) / 5
        assert divergence == pytest.approx(float(figures["kl"][0]), abs=1e-9)
        assert divergence <= max_kl
        ratio = (after.log_probs - before.log_probs)[0].sum(1).exp()
        gain = ((ratio - 1) * (batch.rewards[0] - average)).mean()
        gain = gain + 0.0015 * (after.entropy - before.entropy).sum() / 5
        assert float(gain) >= 0
        moved += divergence > 0
        average = 0.95 * average + 0.05 * mean
    assert moved >= 5


def test_trpo_that_finds_no_better_policy_keeps_the_one_it_has(
    exact: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When its direction leads downhill, it takes no step at all."""
    monkeypatch.setattr(trpo_module, "conjugate_gradient", lambda product, b, steps: -b)
    before = weights(exact)
    figures = make("trpo", exact).teach(*batch_of(exact))
    assert (float(figures["kl"][0]), float(figures["moved"][0])) == (0, 0)
    assert torch.equal(weights(exact), before)


@pytest.mark.parametrize("name", sorted(LEARNERS))
def test_with_equal_rewards_only_the_entropy_is_maximised(
    name: str, controller: Controller
) -> None:
    batch = batch_of(controller)._replace(rewards=torch.full((1, 5), 0.3))
    before = scores_of(controller, batch).entropy.sum()
    make(name, controller, **LEARNERS[name], entropy=1.0).teach(*batch)
    assert scores_of(controller, batch).entropy.sum() > before

    still = weights(controller)
    fresh = batch._replace(behaviour=scores_of(controller, batch).log_probs)
    make(name, controller, **LEARNERS[name], entropy=0.0).teach(*fresh)
    assert torch.equal(weights(controller), still)


def play(algorithm: Algorithm, strings: range) -> None:
    """A bandit: an arm is a string; its reward is the share of words equal to the best arm's."""
    updates = strings.start // 5
    for number in strings:
        sample = Sample(number, updates, *algorithm.propose(number, {}))
        reward = sum(a == b for a, b in zip(sample.tokens, BEST_ARM, strict=True)) / 5
        updates += algorithm.learn(sample, reward) is not None


def probability_of_the_best(controller: Controller) -> float:
    with torch.no_grad():
        return float(controller.score(controller.encode([BEST_ARM])[None]).log_probs.sum().exp())


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", sorted(LEARNERS))
def test_a_learner_finds_the_best_arm(name: str, seed: int) -> None:
    controller = Controller(BANDIT, hidden=16, seeds=[seed])
    assert probability_of_the_best(controller) < 0.05
    play(make(name, controller, **LEARNERS[name]), range(750))
    assert probability_of_the_best(controller) > 0.9


def test_random_search_draws_every_string_equally_often_and_learns_nothing() -> None:
    """Chi-square over the 72 strings of a small space."""
    space = Space(("g", "m", "v"), ("identity", "exp"), ("+", "-", "*", "/"), 1)
    kind = ALGORITHMS.find("random")
    algorithm = kind(space, kind.Settings(), seed=1, controller=ControllerSettings())
    counts: Counter[tuple[str, ...]] = Counter()
    for number in range(10_000):
        tokens, log_probs = algorithm.propose(number, {})
        counts[tuple(tokens)] += 1
        assert log_probs == []
    assert algorithm.learn(Sample(0, 0, tokens, []), 1.0) is None
    assert len(counts) == space.size == 72
    expected = 10_000 / space.size
    chi_square = sum((count - expected) ** 2 / expected for count in counts.values())
    assert abs(chi_square - 71) < 4 * math.sqrt(2 * 71)


@pytest.mark.parametrize("extras", [False, True], ids=["", "extras"])
@pytest.mark.parametrize("name", [*sorted(LEARNERS), "random"])
def test_a_saved_search_continues_bit_for_bit(name: str, extras: bool, tmp_path: Path) -> None:
    kind = ALGORITHMS.find(name)
    learns = name in LEARNERS
    settings = kind.Settings(**LEARNERS.get(name, {}), **(EXTRAS if extras and learns else {}))

    def fresh() -> Algorithm:
        return kind(BANDIT, settings, seed=1, controller=ControllerSettings(hidden=6))

    whole = fresh()
    play(whole, range(32))
    first = fresh()
    play(first, range(17))
    torch.save(first.state_dict(), tmp_path / "search.pt")
    second = fresh()
    second.load_state_dict(torch.load(tmp_path / "search.pt"))
    play(second, range(17, 32))
    assert_equal(second.state_dict(), whole.state_dict())
    assert second.propose(32, {}) == whole.propose(32, {})


def assert_equal(one: Any, other: Any) -> None:
    """To the bit, what is inside included."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        one, other = list(one.values()), list(other.values())
    if isinstance(one, Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, list | tuple):
        for mine, others in zip(one, other, strict=True):
            assert_equal(mine, others)
    else:
        assert one == other
