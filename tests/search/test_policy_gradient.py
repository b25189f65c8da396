"""What the gradient algorithms can do beside the papers' settings, against exact enumeration."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nos_repro.rules.rule import Rule
from nos_repro.rules.space import SPACES, Space
from nos_repro.search.algorithms import ALGORITHMS
from nos_repro.search.algorithms.base import ControllerSettings
from nos_repro.search.algorithms.queue import BestRules
from nos_repro.search.controller import Controller
from nos_repro.search.draws import uniforms
from nos_repro.search.equality import key_of
from nos_repro.search.living import living

TINY = Space(("g", "m"), ("exp",), ("*", "keep_left"), 2)
"""32 strings."""
SMALL = Space(("g", "m", "sign(g)"), ("identity", "exp", "neg"), ("+", "*", "keep_left"), 2)
LEARNERS = {"ppo": {"lr": 0.01}, "reinforce": {"lr": 0.01}, "trpo": {"max_kl": 0.05}}
EXTRAS = {
    "living": {"living_entropy": True, "entropy": 0.3},
    "normalise": {"normalise": True},
    "risk": {"risk": 0.3, "risk_window": 12},
    "queue": {"queue": 3},
    "all": {"living_entropy": True, "normalise": True, "risk": 0.5, "queue": 2, "batch": 4},
}
ADAMS = {"clip": {"clip_norm": 0.01}, "eps": {"eps": 1e-3}}


def make(name: str, space: Space = SMALL, hidden: int = 6, **more: Any) -> Any:
    kind: Any = ALGORITHMS.find(name)
    given = {key: more.pop(key) for key in ("seed", "seeds") if key in more}
    settings = kind.Settings(**{**LEARNERS[name], **more})
    return kind(space, settings, controller=ControllerSettings(hidden, 0.5), **given)


def every_string(controller: Controller) -> Tensor:
    """[strings, length]: those of the space."""
    widths = [len(controller.space.choices(p)) for p in range(controller.space.length)]
    places = torch.cartesian_prod(*map(torch.arange, widths))
    likely = controller.score(places[None]).log_probs[0].sum(1)
    found = places[likely > -torch.inf]
    assert len(found) == controller.space.size
    return found


def gradient_of(objective: Tensor, controller: Controller) -> Tensor:
    parameters = list(controller.parameters())
    parts = torch.autograd.grad(objective.sum(), parameters, materialize_grads=True)
    return torch.cat([part.reshape(-1) for part in parts])


def expected_gradient(algorithm: Any, rewards: Tensor) -> Tensor:
    """Of the first step that the algorithm takes on one string, over all strings of the space.

    The moving averages that advantages are taken from are 0, so that a batch of one is linear.
    """
    controller = algorithm.controller.double()
    strings = every_string(controller)
    behaviour = controller.score(strings[None]).log_probs[0].detach()
    total = torch.zeros((), dtype=torch.float64)
    recent = algorithm.recent
    for string, then, reward in zip(strings, behaviour, rewards, strict=True):
        seen: list[Tensor] = []
        algorithm.ascend = seen.append
        algorithm.recent = recent
        zero = torch.zeros(1, dtype=torch.float64)
        algorithm.baseline.value, algorithm.surprise.value = zero, zero
        algorithm.teach(string[None, None], then[None, None], reward[None, None])
        total = total + then.sum().exp() * gradient_of(seen[0], controller)
    return total


@pytest.fixture
def rewards() -> Tensor:
    source = torch.Generator().manual_seed(3)
    return torch.rand(TINY.size, generator=source, dtype=torch.float64)


@pytest.mark.parametrize("name", ["ppo", "reinforce"])
@pytest.mark.parametrize("counts", ["reward", "entropy", "both"])
def test_on_average_the_gradient_is_that_of_reward_and_living_entropy(
    name: str, counts: str, rewards: Tensor
) -> None:
    """Both are written down for all strings; the entropy's gradient has a part through which
    strings are drawn, without which it would be another."""
    weight = 0.0 if counts == "reward" else 0.7
    values = 0 * rewards if counts == "entropy" else rewards
    algorithm = make(name, TINY, entropy=weight, living_entropy=True)
    found = expected_gradient(algorithm, values)
    controller = algorithm.controller
    strings = every_string(controller)
    scores = controller.score(strings[None])
    chances = scores.log_probs[0].sum(1).exp()
    entropies = (scores.entropy[0] * living(TINY, strings)).sum(1)
    exact = gradient_of((chances * (values + weight * entropies)).sum(), controller)
    torch.testing.assert_close(found, exact, rtol=1e-8, atol=1e-10)
    assert exact.abs().max() > 1e-3


@pytest.mark.parametrize("name", ["ppo", "reinforce"])
def test_a_risk_seeking_gradient_is_that_of_what_exceeds_the_quantile(
    name: str, rewards: Tensor
) -> None:
    algorithm = make(name, TINY, entropy=0, risk=0.5, risk_window=201)
    algorithm.recent = torch.full((1, 200), 0.6, dtype=torch.float64)  # one more moves no median
    found = expected_gradient(algorithm, rewards)
    controller = algorithm.controller
    chances = controller.score(every_string(controller)[None]).log_probs[0].sum(1).exp()
    exact = gradient_of((chances * (rewards - 0.6).clamp(min=0) / 0.5).sum(), controller)
    torch.testing.assert_close(found, exact, rtol=1e-8, atol=1e-10)


def test_the_quantile_is_that_of_the_last_rewards() -> None:
    algorithm = make("reinforce", TINY, risk=0.25, risk_window=12)
    source = torch.Generator().manual_seed(0)
    given = torch.rand(8, 5, generator=source)
    for rewards in given:
        found = algorithm._advantages(rewards[None])[0]
    least = np.quantile(given.flatten()[-12:].numpy(), 0.75)
    torch.testing.assert_close(found, (given[-1] - float(least)).clamp(min=0) / 0.25)


def test_normalised_advantages_have_mean_0_and_deviation_1() -> None:
    algorithm = make("reinforce", TINY, normalise=True, seeds=range(2))
    found = algorithm._advantages(torch.tensor([[0.1, 0.5, 0.2, 0.9], [0.3, 0.3, 0.3, 0.3]]))
    torch.testing.assert_close(found.mean(1), torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.std(1, correction=0), torch.tensor([1.0, 0.0]))


def test_the_queue_adds_the_mean_log_likelihood_of_the_best_rules() -> None:
    algorithm = make("reinforce", TINY, entropy=0, queue=2, queue_weight=0.4)
    controller = algorithm.controller
    seen: list[Tensor] = []
    algorithm.ascend = seen.append
    strings = every_string(controller)
    rules = map(Rule.from_tokens, controller.decode(strings))
    places = {key_of(rule)[0]: place for place, rule in enumerate(rules)}
    strings = strings[list(places.values())[:4]]
    behaviour = controller.score(strings[None]).log_probs.detach()
    algorithm.teach(strings[None], behaviour, torch.tensor([[0.2, 0.9, 0.0, 0.5]]))
    log_probs = controller.score(strings[None]).log_probs[0].sum(1)
    rewards = torch.tensor([0.2, 0.9, 0.0, 0.5])
    by_hand = ((rewards - 0.4) * log_probs).mean() + 0.4 * log_probs[[1, 3]].mean()
    torch.testing.assert_close(
        gradient_of(seen[0], controller), gradient_of(by_hand, controller), rtol=1e-4, atol=1e-7
    )


def test_the_queue_holds_the_best_different_rules() -> None:
    """Against all that was seen, sorted; strings that write one rule count once."""
    controller = Controller(SMALL, hidden=4, init=0.5)
    samples = controller.sample(uniforms([0], np.arange(300)[None], SMALL.length))
    words = controller.decode(samples.tokens[0])
    keys = [key_of(Rule.from_tokens(string))[0] for string in words]
    source = torch.Generator().manual_seed(0)
    worth = {key: float(torch.rand((), generator=source)) for key in dict.fromkeys(keys)}
    rewards = torch.tensor([[worth[key] for key in keys]])
    assert len(worth) < 250
    key_at = {tuple(s): key for s, key in zip(samples.tokens[0].tolist(), keys, strict=True)}
    best = BestRules(7, 1)
    for at in range(0, 300, 5):
        few = samples.tokens[:, at : at + 5]
        best.take(few, rewards[:, at : at + 5], lambda string: key_at[tuple(string)])
    expected = sorted(worth.items(), key=lambda item: -item[1])[:7]
    assert [key for _, key, _ in best.entries[0]] == [key for key, _ in expected]
    tokens, weights = best.batch()
    assert tokens.shape == (1, 7, SMALL.length)
    torch.testing.assert_close(weights, torch.full((1, 7), 1 / 7))


@pytest.mark.parametrize("name", ["arxiv-2", "arxiv-4", "small"])
def test_a_token_lives_if_another_word_in_its_place_can_make_another_rule(name: str) -> None:
    """Every other word is tried at every position of random strings."""
    space = {**SPACES, "small": SMALL}[name]
    controller = Controller(space, hidden=4, init=1.0)
    samples = controller.sample(uniforms([1], np.arange(60)[None], space.length))
    found = living(space, samples.tokens)[0].tolist()
    dead = 0
    for string, lives in zip(controller.decode(samples.tokens[0]), found, strict=True):
        rule = Rule.from_tokens(string)
        for at, alive in enumerate(lives):
            others = ([*string[:at], word, *string[at + 1 :]] for word in space.choices(at))
            assert alive == any(Rule.from_tokens(other) != rule for other in others)
            dead += not alive
    assert (dead > 0) == ("keep_left" in space.binary or name == "arxiv-4")


def test_the_gradient_s_norm_is_clipped_for_each_replica() -> None:
    algorithm = make("reinforce", clip_norm=0.02, seeds=range(3))
    scales = torch.tensor([1.0, 1e-3, 5.0])
    controller = algorithm.controller
    samples = algorithm.draw(np.arange(4) + np.zeros((3, 1), dtype=int))
    objective = scales * controller.score(samples.tokens).log_probs.sum((1, 2))
    free = torch.autograd.grad(objective.sum(), list(controller.parameters()), retain_graph=True)
    algorithm.ascend(objective)
    norms = torch.stack([each.flatten(1).square().sum(1) for each in free]).sum(0).sqrt()
    assert norms[1] < 0.02 < norms[0]
    for parameter, gradient in zip(controller.parameters(), free, strict=True):
        shares = (0.02 / norms).clamp(max=1).view(-1, *[1] * (gradient.dim() - 1))
        torch.testing.assert_close(-parameter.grad, gradient * shares, rtol=1e-3, atol=1e-9)


CASES = [(name, key) for name in LEARNERS for key in EXTRAS] + [
    (name, key) for name in ("ppo", "reinforce") for key in ADAMS
]


@pytest.mark.parametrize(("name", "key"), CASES)
def test_a_replica_learns_what_a_single_learner_of_its_seed_learns(name: str, key: str) -> None:
    """Also after others have ended."""
    settings = {**EXTRAS, **ADAMS}[key]
    seeds = [4, 0, 7]
    together = make(name, seeds=seeds, **settings)
    alone = [make(name, seed=seed, **settings) for seed in seeds]
    places = [0, 1, 2]
    source = torch.Generator().manual_seed(1)
    for update in range(8):
        if update == 4:
            together.keep([2, 0])
            alone, places = [alone[2], alone[0]], [0, 1]
        numbers = np.arange(4 * update, 4 * update + 4)[None]
        drawn = together.draw(np.repeat(numbers, len(places), 0))
        rewards = torch.rand(len(places), 4, generator=source)
        figures = together.teach(*drawn, rewards)
        for place, learner in zip(places, alone, strict=True):
            own = learner.draw(numbers)
            assert torch.equal(own.tokens[0], drawn.tokens[place])
            single = learner.teach(*own, rewards[place : place + 1])
            for figure, value in single.items():
                torch.testing.assert_close(figures[figure][place], value[0], rtol=1e-3, atol=1e-4)
    for ours, *theirs in zip(
        together.controller.parameters(), *(each.controller.parameters() for each in alone),
        strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(ours, torch.cat(theirs), rtol=1e-3, atol=1e-4)


def test_some_replicas_may_draw_without_the_others() -> None:
    learners = make("ppo", seeds=[5, 6, 7])
    numbers = np.arange(6) + np.array([[0], [10], [20]])
    whole = learners.draw(numbers)
    some = learners.draw(numbers[[2, 0]], [2, 0])
    assert torch.equal(some.tokens, whole.tokens[[2, 0]])
