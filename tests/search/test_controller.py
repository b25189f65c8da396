"""The controller, against brute force over whole spaces, statistics, and finite differences."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from nos_repro.errors import RuleError
from nos_repro.rules.space import SPACES, Space
from nos_repro.search.controller import Controller, Samples
from nos_repro.search.draws import uniforms
from nos_repro.search.unroll import unroll

# operands, unary, binary, iterations: small enough to write every string down
# fmt: off
TINY = [
    ("g m v", "identity exp", "+ *",   1),
    ("g m",   "exp",          "+ - *", 2),
    ("g m",   "exp",          "+ *",   3),
    ("g",     "exp",          "*",     4),
]
# fmt: on
CONSTRAINTS = list(itertools.product([False, True], repeat=3))
POWERSIGN = ["sign(g)", "sign(m)", "identity", "identity", "*", "#1", "g", "exp", "identity", "*"]


def space_of(
    operands: str, unary: str, binary: str, iterations: int, constraints: tuple[bool, ...] = ()
) -> Space:
    words = (tuple(each.split()) for each in (operands, unary, binary))
    return Space(*words, iterations, *constraints)


def every_string(space: Space) -> list[list[str]]:
    """All combinations of words, except those that the space refuses, checked one by one."""
    words = [space.choices(position) for position in range(space.length)]
    return [list(string) for string in itertools.product(*words) if belongs(space, list(string))]


def belongs(space: Space, string: list[str]) -> bool:
    try:
        space.check(string)
    except RuleError:
        return False
    return True


def encoded(controller: Controller, strings: list[list[str]]) -> Tensor:
    """As the only replica's."""
    return controller.encode(strings)[None]


def drawn(controller: Controller, strings: int, seed: int = 0) -> Samples:
    numbers = np.arange(strings)[None]
    return controller.sample(uniforms([seed], numbers, controller.space.length))


@pytest.fixture
def opinionated() -> Controller:
    """A controller that is far from uniform, like one that has learned."""
    controller = Controller(space_of("g m", "identity exp", "+ *", 2), hidden=16, seeds=[3])
    with torch.no_grad():
        for parameter in controller.parameters():
            parameter.mul_(12)
    return controller


@pytest.mark.parametrize("constraints", CONSTRAINTS)
@pytest.mark.parametrize("words", TINY, ids=lambda words: f"depth-{words[3]}")
def test_the_probabilities_of_all_strings_of_a_space_sum_to_one(words, constraints) -> None:
    if words[3] == 4:
        constraints = (False, *constraints[1:])  # one operand cannot differ from itself
    space = space_of(*words, constraints)
    strings = every_string(space)
    assert len(strings) == space.size
    controller = Controller(space, hidden=8, init=1.0)
    with torch.no_grad():
        total = controller.score(encoded(controller, strings)).log_probs.double().sum(2).exp().sum()
    assert float(total) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("constraints", CONSTRAINTS)
def test_a_string_outside_the_space_has_no_probability(constraints) -> None:
    """Scored by its indices, bypassing `encode`, which would refuse it."""
    space = space_of("g m", "exp", "+ *", 2, constraints)
    controller = Controller(space, hidden=8)
    places = [range(len(space.choices(position))) for position in range(space.length)]
    everything = torch.tensor(list(itertools.product(*places)))
    inside = [belongs(space, string) for string in controller.decode(everything)]
    with torch.no_grad():
        probabilities = controller.score(everything[None]).log_probs[0].sum(1).exp()
    assert ((probabilities > 0) == torch.tensor(inside)).all()


@pytest.mark.parametrize("name", sorted(SPACES))
def test_samples_belong_to_the_space_and_are_scored_as_they_were_drawn(name) -> None:
    controller = Controller(SPACES[name])
    samples = drawn(controller, 60, seed=1)
    for string in controller.decode(samples.tokens[0]):
        SPACES[name].check(string)
    with torch.no_grad():
        scores = controller.score(samples.tokens)
    torch.testing.assert_close(scores.log_probs, samples.log_probs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("chance", [0.0, 0.5, 1 - 2**-32])
def test_no_number_however_near_to_0_or_1_draws_a_forbidden_word(chance) -> None:
    space = space_of("g m v", "identity exp", "+ * keep_left", 3, (True, True, True, True))
    controller = Controller(space, hidden=8, init=3.0, seeds=range(20))
    samples = controller.sample(torch.full((20, 4, space.length), chance, dtype=torch.float64))
    for string in controller.decode(samples.tokens.flatten(0, 1)):
        space.check(string)
    assert samples.log_probs.isfinite().all()


def test_strings_are_drawn_as_often_as_their_scores_say(opinionated) -> None:
    """Chi-square over all strings of the space, the rare ones pooled."""
    draws = 20_000
    tokens = opinionated.encode(every_string(opinionated.space))
    with torch.no_grad():
        expected = draws * opinionated.score(tokens[None]).log_probs[0].double().sum(1).exp()
    found = drawn(opinionated, draws, seed=4).tokens[0]
    place = {tuple(string): at for at, string in enumerate(tokens.tolist())}
    counts = torch.bincount(
        torch.tensor([place[tuple(string)] for string in found.tolist()]), minlength=len(tokens)
    ).double()
    rare = expected < 10
    expected = torch.cat([expected[~rare], expected[rare].sum()[None]])
    counts = torch.cat([counts[~rare], counts[rare].sum()[None]])
    freedom = len(counts) - 1
    assert freedom >= 20
    assert expected.max() > 10 * expected.median(), "not far enough from uniform to tell"
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert abs(chi_square - freedom) < 4 * math.sqrt(2 * freedom)


def test_the_entropies_of_strings_average_to_the_spaces_entropy(opinionated) -> None:
    """The chain rule: E[sum over positions of H(token | prefix)] = H(string)."""
    strings = encoded(opinionated, every_string(opinionated.space))
    with torch.no_grad():
        scores = opinionated.score(strings)
        log_probs = scores.log_probs.double().sum(2)
        exact = -(log_probs.exp() * log_probs).sum()
        by_prefixes = (log_probs.exp() * scores.entropy.double().sum(2)).sum()
        assert float(by_prefixes) == pytest.approx(float(exact), abs=1e-5)
        few = opinionated.score(drawn(opinionated, 4000).tokens).entropy.sum(2)
    assert float(few.mean()) == pytest.approx(float(exact), abs=4 * float(few.std()) / 63)


def test_the_weights_are_drawn_from_the_papers_uniform_distribution() -> None:
    """150 hidden units, all weights in U(-0.08, 0.08) (sec. 4.2), biases included."""
    controller = Controller(SPACES["arxiv-2"])
    assert controller.weight_back.shape == (1, 4 * 150, 150)
    for name, parameter in controller.named_parameters():
        assert float(parameter.detach().abs().max()) <= 0.08, name
    weights = torch.cat([parameter.detach().flatten() for parameter in controller.parameters()])
    weights = weights[weights != 0]  # what fills up the positions with fewer words
    steps = torch.linspace(0, 1, len(weights), dtype=torch.float64)
    distance = (weights.double().sort().values / 0.16 + 0.5 - steps).abs().max()
    assert float(distance) * math.sqrt(len(weights)) < 1.95, "Kolmogorov-Smirnov, p < 0.001"


def test_every_position_has_its_own_softmax_and_the_operand_bank_grows() -> None:
    space = SPACES["arxiv-3"]
    weights = Controller(space).softmax_weight[0]
    sizes = [int((weight != 0).any(1).sum()) for weight in weights]
    operands, unary, binary = len(space.operands), len(space.unary), len(space.binary)
    assert sizes == [
        size
        for computed in range(3)
        for size in (operands + computed, operands + computed, unary, unary, binary)
    ]


def test_the_lstm_is_pytorchs() -> None:
    """With the same weights, `torch.nn.LSTM` gives the same states, and the same gradients."""
    source = torch.Generator().manual_seed(0)
    inputs = torch.randn(2, 6, 3, 20, generator=source, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 20, 5, generator=source, dtype=torch.float64, requires_grad=True)
    ours = unroll(inputs, weight)
    slopes = torch.randn(ours.shape, generator=source, dtype=torch.float64)
    ours.backward(slopes)
    for replica in range(2):
        theirs = torch.nn.LSTM(20, 5, bias=False, batch_first=True).double()
        given = inputs.detach()[replica].transpose(0, 1).clone().requires_grad_()
        with torch.no_grad():
            theirs.weight_ih_l0.copy_(torch.eye(20))
            theirs.weight_hh_l0.copy_(weight[replica])
        states, _ = theirs(given)
        torch.testing.assert_close(ours[replica].transpose(0, 1), states)
        states.backward(slopes[replica].transpose(0, 1))
        torch.testing.assert_close(inputs.grad[replica].transpose(0, 1), given.grad)
        torch.testing.assert_close(weight.grad[replica], theirs.weight_hh_l0.grad)


def test_replicas_are_controllers_of_their_seeds() -> None:
    space = SPACES["icml-3"]
    together = Controller(space, hidden=9, init=0.7, seeds=[5, 0, 3])
    numbers = np.arange(8) + 10 * np.arange(3)[:, None]
    samples = together.sample(uniforms([5, 0, 3], numbers, space.length))
    for replica, seed in enumerate([5, 0, 3]):
        alone = Controller(space, hidden=9, init=0.7, seeds=[seed])
        own = alone.sample(uniforms([seed], numbers[replica : replica + 1], space.length))
        assert torch.equal(samples.tokens[replica], own.tokens[0])
        torch.testing.assert_close(samples.log_probs[replica], own.log_probs[0])
        scores = together.score(samples.tokens).log_probs[replica]
        torch.testing.assert_close(scores, alone.score(own.tokens).log_probs[0])
    some = together.sample(uniforms([3, 5], numbers[[2, 0]], space.length), [2, 0])
    assert torch.equal(some.tokens, samples.tokens[[2, 0]])


def choices_of(controller: Controller, string: list[str]) -> list[Tensor]:
    with torch.no_grad():
        return list(controller.score(encoded(controller, [string])).choices[0, 0])


@pytest.mark.parametrize("position", range(len(POWERSIGN)))
def test_a_chosen_token_changes_what_follows_and_nothing_before(position) -> None:
    free = dict.fromkeys(("distinct_operands", "no_final_addition", "reuse_computed"), False)
    space = dataclasses.replace(SPACES["arxiv-2"], **free)
    controller = Controller(space)
    other = ("1", "1", "sqrt", "sqrt", "-")[position % 5]
    changed = [*POWERSIGN[:position], other, *POWERSIGN[position + 1 :]]
    was, now = choices_of(controller, POWERSIGN), choices_of(controller, changed)
    differ = [not torch.equal(a, b) for a, b in zip(was, now, strict=True)]
    assert differ == [at > position for at in range(len(POWERSIGN))]


def test_encoding_and_decoding_are_inverse() -> None:
    controller = Controller(SPACES["arxiv-4"])
    tokens = drawn(controller, 50, seed=2).tokens[0]
    assert torch.equal(controller.encode(controller.decode(tokens)), tokens)
    controller = Controller(SPACES["arxiv-2"])
    assert controller.decode(controller.encode([POWERSIGN])) == [POWERSIGN]


@pytest.mark.parametrize(
    ("string", "said"),
    [
        ("g m exp exp", "5 tokens, got 4"),
        ("g m exp sgn *", "unknown token at position 4 of this space 'sgn'"),
        ("g g exp exp *", "position 2"),
        ("g m exp exp +", "position 5"),
    ],
)
def test_a_string_outside_the_space_is_refused_by_name(string, said) -> None:
    controller = Controller(space_of("g m", "identity exp", "+ *", 1), hidden=4)
    with pytest.raises(RuleError, match=said):
        controller.encode([string.split()])


def test_the_seed_decides_the_weights_and_nothing_else_does() -> None:
    def weights(seed: int) -> Tensor:
        torch.rand(7)
        parameters = Controller(SPACES["arxiv-1"], hidden=8, seeds=[seed]).parameters()
        return torch.cat([parameter.detach().flatten() for parameter in parameters])

    assert torch.equal(weights(5), weights(5))
    assert not torch.equal(weights(5), weights(6))


def test_a_string_s_draw_depends_on_the_seed_and_its_number_alone() -> None:
    controller = Controller(SPACES["arxiv-1"], hidden=8)
    before = torch.get_rng_state()
    strings = drawn(controller, 9, seed=1).tokens
    assert torch.equal(torch.get_rng_state(), before)
    backwards = controller.sample(uniforms([1], np.arange(9)[None, ::-1], 5)).tokens
    assert torch.equal(backwards.flip(1), strings)
    assert not torch.equal(drawn(controller, 9, seed=2).tokens, strings)


def test_the_random_numbers_are_uniform_and_independent() -> None:
    numbers = uniforms(range(40), np.arange(50) + np.zeros((40, 1), dtype=int), 10)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    steps = torch.linspace(0, 1, 20_000, dtype=torch.float64)
    distance = (numbers.flatten().sort().values - steps).abs().max()
    assert float(distance) * math.sqrt(20_000) < 1.95, "Kolmogorov-Smirnov, p < 0.001"
    for one, other in ((numbers[1:], numbers[:-1]), (numbers[:, 1:], numbers[:, :-1]),
                       (numbers[..., 1:], numbers[..., :-1])):  # fmt: skip
        pairs = torch.stack([one.flatten(), other.flatten()])
        assert abs(float(torch.corrcoef(pairs)[0, 1])) < 4 / math.sqrt(pairs.shape[1])


@pytest.mark.parametrize("figure", ["log_probs", "entropy"])
def test_gradients_agree_with_finite_differences(figure) -> None:
    """In float64, with masks, for every weight of two tiny controllers."""
    space = space_of("g m", "exp", "+ *", 2)
    controller = Controller(space, hidden=3, init=0.8, seeds=[0, 1]).double()
    tokens = encoded(controller, every_string(space)[::9]).repeat(2, 1, 1)
    names, values = zip(*controller.named_parameters(), strict=True)

    def total(*weights: Tensor) -> Tensor:
        given = dict(zip(names, weights, strict=True))
        scores = torch.func.functional_call(controller, given, (tokens,))
        return getattr(scores, figure).sum((1, 2))

    controller.forward = controller.score  # what functional_call calls
    assert torch.autograd.gradcheck(total, values, eps=1e-6, atol=1e-6, fast_mode=False)


def test_changes_along_a_direction_agree_with_finite_differences() -> None:
    space = space_of("g m", "identity exp", "+ *", 2)
    controller = Controller(space, hidden=3, init=0.8, seeds=[0, 1]).double()
    tokens = encoded(controller, every_string(space)[::40]).repeat(2, 1, 1)
    source = torch.Generator().manual_seed(0)
    directions = [torch.randn(p.shape, generator=source).double() for p in controller.parameters()]
    found = controller.changes(tokens)(directions)
    ends = []
    with torch.no_grad():
        for size in (1e-6, -2e-6):
            for parameter, direction in zip(controller.parameters(), directions, strict=True):
                parameter += size * direction
            ends.append(controller.score(tokens).choices)
    allowed = ends[0] > -math.inf
    slopes = (ends[0] - ends[1])[allowed] / 2e-6
    torch.testing.assert_close(found[allowed], slopes, rtol=1e-6, atol=1e-8)


def test_forbidden_tokens_put_no_nan_into_a_gradient() -> None:
    controller = Controller(SPACES["arxiv-4"])
    scores = controller.score(drawn(controller, 20).tokens)
    assert bool((scores.choices == -math.inf).any())
    torch.autograd.backward(scores.entropy.sum() + scores.log_probs.sum())
    for name, parameter in controller.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
