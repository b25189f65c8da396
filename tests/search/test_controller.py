"""The controller, against brute force over whole spaces, statistics, and finite differences."""

import dataclasses
import itertools
import math

import pytest
import torch
from torch import Tensor

from nos_repro.errors import RuleError
from nos_repro.rules.space import SPACES, Space
from nos_repro.search.controller import Controller

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


@pytest.fixture
def opinionated() -> Controller:
    """A controller that is far from uniform, like one that has learned."""
    controller = Controller(space_of("g m", "identity exp", "+ *", 2), hidden=16, seed=3)
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
        total = controller.score(controller.encode(strings)).log_probs.double().sum(1).exp().sum()
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
        probabilities = controller.score(everything).log_probs.sum(1).exp()
    assert ((probabilities > 0) == torch.tensor(inside)).all()


@pytest.mark.parametrize("name", sorted(SPACES))
def test_samples_belong_to_the_space_and_are_scored_as_they_were_drawn(name) -> None:
    controller = Controller(SPACES[name])
    samples = controller.sample(60, torch.Generator().manual_seed(1))
    for string in controller.decode(samples.tokens):
        SPACES[name].check(string)
    with torch.no_grad():
        scores = controller.score(samples.tokens)
    torch.testing.assert_close(scores.log_probs, samples.log_probs, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(scores.entropy, samples.entropy, rtol=1e-5, atol=1e-6)


def test_strings_are_drawn_as_often_as_their_scores_say(opinionated) -> None:
    """Chi-square over all strings of the space, the rare ones pooled."""
    draws = 20_000
    tokens = opinionated.encode(every_string(opinionated.space))
    with torch.no_grad():
        expected = draws * opinionated.score(tokens).log_probs.double().sum(1).exp()
    drawn = opinionated.sample(draws, torch.Generator().manual_seed(4)).tokens
    place = {tuple(string): at for at, string in enumerate(tokens.tolist())}
    counts = torch.bincount(
        torch.tensor([place[tuple(string)] for string in drawn.tolist()]), minlength=len(tokens)
    ).double()
    rare = expected < 10
    expected = torch.cat([expected[~rare], expected[rare].sum()[None]])
    counts = torch.cat([counts[~rare], counts[rare].sum()[None]])
    freedom = len(counts) - 1
    assert freedom >= 20
    assert expected.max() > 10 * expected.median(), "not far enough from uniform to tell"
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert abs(chi_square - freedom) < 4 * math.sqrt(2 * freedom)


def test_the_entropies_of_draws_average_to_the_spaces_entropy(opinionated) -> None:
    """The chain rule: E[sum over positions of H(token | prefix)] = H(string)."""
    strings = opinionated.encode(every_string(opinionated.space))
    with torch.no_grad():
        scores = opinionated.score(strings)
    log_probs = scores.log_probs.double().sum(1)
    exact = -(log_probs.exp() * log_probs).sum()
    by_prefixes = (log_probs.exp() * scores.entropy.double().sum(1)).sum()
    assert float(by_prefixes) == pytest.approx(float(exact), abs=1e-5)
    drawn = opinionated.sample(4000, torch.Generator().manual_seed(0)).entropy.sum(1)
    assert float(drawn.mean()) == pytest.approx(float(exact), abs=4 * float(drawn.std()) / 63)


def test_the_weights_are_drawn_from_the_papers_uniform_distribution() -> None:
    """150 hidden units, all weights in U(-0.08, 0.08) (sec. 4.2), biases included."""
    controller = Controller(SPACES["arxiv-2"])
    assert controller.lstm.hidden_size == 150
    assert controller.lstm.num_layers == 1
    for name, parameter in controller.named_parameters():
        assert float(parameter.detach().abs().max()) <= 0.08, name
    weights = torch.cat([parameter.detach().flatten() for parameter in controller.parameters()])
    steps = torch.linspace(0, 1, len(weights), dtype=torch.float64)
    distance = (weights.double().sort().values / 0.16 + 0.5 - steps).abs().max()
    assert float(distance) * math.sqrt(len(weights)) < 1.95, "Kolmogorov-Smirnov, p < 0.001"


def test_every_position_has_its_own_softmax_and_the_operand_bank_grows() -> None:
    space = SPACES["arxiv-3"]
    sizes = [softmax.out_features for softmax in Controller(space).softmaxes]
    operands, unary, binary = len(space.operands), len(space.unary), len(space.binary)
    assert sizes == [
        size
        for computed in range(3)
        for size in (operands + computed, operands + computed, unary, unary, binary)
    ]


def choices_of(controller: Controller, string: list[str]) -> list[Tensor]:
    with torch.no_grad():
        return controller.score(controller.encode([string])).choices


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
    tokens = controller.sample(50, torch.Generator().manual_seed(2)).tokens
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
        parameters = Controller(SPACES["arxiv-1"], hidden=8, seed=seed).parameters()
        return torch.cat([parameter.detach().flatten() for parameter in parameters])

    assert torch.equal(weights(5), weights(5))
    assert not torch.equal(weights(5), weights(6))


def test_a_draw_leaves_the_global_generator_alone() -> None:
    controller = Controller(SPACES["arxiv-1"], hidden=8)
    before = torch.get_rng_state()
    first = controller.sample(9, torch.Generator().manual_seed(1)).tokens
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(controller.sample(9, torch.Generator().manual_seed(1)).tokens, first)


@pytest.mark.parametrize("figure", ["log_probs", "entropy"])
def test_gradients_agree_with_finite_differences(figure) -> None:
    """In float64, with masks, for every weight of a tiny controller."""
    controller = Controller(space_of("g m", "exp", "+ *", 2), hidden=3, init=0.8).double()
    tokens = controller.encode(every_string(controller.space)[::9])
    names, values = zip(*controller.named_parameters(), strict=True)

    def total(*weights: Tensor) -> Tensor:
        given = dict(zip(names, weights, strict=True))
        scores = torch.func.functional_call(controller, given, (tokens,))
        return getattr(scores, figure).sum()

    controller.forward = controller.score  # what functional_call calls
    assert torch.autograd.gradcheck(total, values, eps=1e-6, atol=1e-6, fast_mode=False)


def test_forbidden_tokens_put_no_nan_into_a_gradient() -> None:
    controller = Controller(SPACES["arxiv-4"])
    scores = controller.score(controller.sample(20, torch.Generator().manual_seed(0)).tokens)
    assert any(bool((choices == -math.inf).any()) for choices in scores.choices)
    torch.autograd.backward(scores.entropy.sum() + scores.log_probs.sum())
    for name, parameter in controller.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
