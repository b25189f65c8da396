"""What the probes refuse, and what they must never refuse."""

import random

import pytest
import torch

from nos_repro.rules.catalog import CATALOG
from nos_repro.rules.rule import Rule
from nos_repro.rules.space import SPACES
from nos_repro.search.probe import probe
from nos_repro.search.refusals import REASONS, Refusals


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1", "constant"),
        ("exp(sign(v))", "constant"),
        ("v - v", "constant"),
        ("clip(exp(g), 1e-5)", "constant"),
        ("ld", "gradient-free"),
        ("cd7 * exp(ld)", "gradient-free"),
        ("0.1 * w", "gradient-free"),
        ("noise", "gradient-free"),
        ("drop(w, 0.5) + annealed_noise", "gradient-free"),
        ("sign(v) * w", "gradient-free"),
        ("-g", "no descent"),
        ("-adam", "no descent"),
        ("g2", "no descent"),
        ("v", "no descent"),
        ("sqrt(g)", "no descent"),
        ("log(m)", "no descent"),
        ("drop(v, 0.5)", "no descent"),
        ("1e-3 * w * g2", "no descent"),
        ("g2 + 0.1 * w", "no descent"),
    ],
)
def test_a_rule_that_cannot_train_is_refused_for_its_reason(text, reason):
    assert probe(Rule.parse(text)) == reason


@pytest.mark.parametrize(
    "text",
    [
        *("g", "m", "adam", "rmsprop", "gamma", "sign(g)", "sign(m) * sqrt(g)", "g - m", "m - g"),
        *("-g + 1.8 * m", "exp(g)", "exp(g) - exp(m)", "clip(g, 1e-5)", "exp(clip(g, 1e-5))"),
        *("g / v", "1 / g", "noise * g", "ld * g", "g + 0.1 * w", "drop(g, 0.5)", "log(g2) * g"),
        *("g ** m", "log(g - g)", "exp(exp(exp(1e9 * g)))"),
        # each of these reaches 80 % and more on the digits: drops of different things differ,
        # weights may stay small for long, a decay is seldom at its first value
        "drop(adam, 0.3) / drop(rmsprop, 0.3)",
        "drop(sign(m), 0.3) / drop(sign(m) + clip(g, 1e-4), 0.3)",
        "drop(clip(rmsprop, 1e-4), 0.3) / drop(1e-3 * w, 0.3)",
        "log(cd) * clip(-(1e-3 * w) - clip(rmsprop, 1e-4), 1e-4)",
        "sign(g) * -(drop(sign(m), 0.5) - sign(1e-3 * w))",
    ],
)
def test_a_rule_that_may_train_or_is_not_finite_is_left_to_training(text):
    assert probe(Rule.parse(text)) is None


def test_no_rule_that_the_papers_list_is_refused():
    """Except the three decays of the learning rate, which are not rules by themselves."""
    refused = {name for name, entry in CATALOG.items() if probe(entry.rule) is not None}
    assert refused == {"cosine", "linear-cosine", "noisy-linear-cosine"}


def test_a_rule_and_its_normal_form_get_the_same_verdict_if_both_are_finite():
    source = random.Random(1)
    rules = [Rule.from_tokens(SPACES["arxiv-4"].sample(source)) for _ in range(60)]
    differing = [str(r) for r in rules if probe(r) != probe(r.normal())]
    assert len(differing) <= 2, differing


def test_every_refusal_has_words_and_a_switch():
    for reason in REASONS:
        assert Refusals().refuse(reason)
        off = reason.replace(" ", "_").replace("-", "_")
        assert not Refusals(**{off: False}).refuse(reason)
    assert not Refusals().refuse(None)


def test_a_refused_rule_never_lowers_a_quadratic_that_it_is_run_on():
    """An oracle outside the probes: 200 steps on a quadratic from a start near 0."""
    source = random.Random(5)
    judged = {True: 0, False: 0}
    for _ in range(60):
        rule = Rule.from_tokens(SPACES["icml-2"].sample(source))
        refused = probe(rule) == "no descent"
        judged[refused] += 1
        if refused:
            assert _gain(rule) < 0.05, rule
    assert min(judged.values()) > 10


def _gain(rule: Rule) -> float:
    """The largest share by which any of four rates reduces the loss."""
    from nos_repro.optim.rule_optimizer import RuleOptimizer

    best = 0.0
    optimum = torch.randn(400, generator=torch.Generator().manual_seed(0))
    for lr in (1e-4, 1e-3, 1e-2, 1e-1):
        w = torch.nn.Parameter(torch.zeros(400))
        optimizer = RuleOptimizer([w], rule, lr=lr, total_steps=100, foreach=False)
        for _ in range(100):
            w.grad = (w - optimum).detach()
            optimizer.step()
        loss = float(((w.detach() - optimum) ** 2).sum() / (optimum**2).sum())
        best = max(best, 1 - loss)
    return best
