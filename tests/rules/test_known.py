"""Each known optimizer against its paper's update, written out here, over twenty noisy steps."""

import importlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from nos_repro import RuleOptimizer
from nos_repro.rules.evaluate import evaluate
from nos_repro.rules.known import KNOWN
from nos_repro.rules.naming import equalities
from nos_repro.rules.parse import parse
from nos_repro.rules.rule import Rule

STEPS, SIZE, LR = 20, 200, 0.01
B1, B2 = 0.9, 0.999
K, J = 0.3, 0.05
Updates = Iterator[Tensor]
History = list[dict[str, Tensor]]


def history() -> History:
    """Gradients, weights and noise of each step: no optimizer moves the weights here."""
    generator = torch.Generator().manual_seed(5)

    def drawn() -> Tensor:
        return torch.randn(SIZE, generator=generator, dtype=torch.float64)

    scale = 10 ** (2 * torch.rand(SIZE, generator=generator, dtype=torch.float64) - 1)
    steady, w = drawn(), drawn()
    return [
        {
            "g": scale * (steady + 2 * drawn()),
            "w": w + 0.1 * drawn(),
            "noise": 0.1 * drawn(),
            "annealed_noise": (1 + t) ** -0.275 * drawn(),
            "kept": (torch.rand(SIZE, generator=generator) >= K).double(),
        }
        for t in range(STEPS)
    ]


HISTORY = history()


def averages(beta: float, values: list[Tensor], corrected: bool = False) -> list[Tensor]:
    average, found = torch.zeros(SIZE, dtype=torch.float64), []
    for t, value in enumerate(values, 1):
        average = beta * average + (1 - beta) * value
        found.append(average / (1 - beta**t) if corrected else average)
    return found


G = [now["g"] for now in HISTORY]
W = [now["w"] for now in HISTORY]
M, M_HAT = averages(B1, G), averages(B1, G, corrected=True)
SQUARES = [g * g for g in G]
V, V_HAT = averages(B2, SQUARES), averages(B2, SQUARES, corrected=True)
ADAM = [m / (v.sqrt() + 1e-8) for m, v in zip(M_HAT, V_HAT, strict=True)]
NUS = K, J


def by_step(update: Callable[..., Tensor], *series: list[Tensor]) -> list[Tensor]:
    return [update(*now) for now in zip(*series, strict=True)]


def mask(u: Tensor, g: Tensor) -> Tensor:
    return (u * g > 0).double()


def lion() -> list[Tensor]:
    """Chen et al., program 1, with beta2 = B1 and the beta1 that the row says."""
    beta2, beta1 = B1, B1 * K / (1 + K)
    m, found = torch.zeros(SIZE, dtype=torch.float64), []
    for g in G:
        found.append((beta1 * m + (1 - beta1) * g).sign())
        m = beta2 * m + (1 - beta2) * g
    return found


def heavy_ball() -> list[Tensor]:
    buffer, found = torch.zeros(SIZE, dtype=torch.float64), []
    for g in G:
        buffer = B1 * buffer + g
        found.append((1 - B1) * buffer)
    return found


def nesterov() -> list[Tensor]:
    """As in torch, at the momentum that the row's constant stands for."""
    beta = K / (1 + K)
    buffer, found = torch.zeros(SIZE, dtype=torch.float64), []
    for g in G:
        buffer = beta * buffer + g
        found.append(g + beta * buffer)
    return found


def nadam() -> list[Tensor]:
    beta = K
    m, found = torch.zeros(SIZE, dtype=torch.float64), []
    for g, v in zip(G, V_HAT, strict=True):
        m = beta * m + (1 - beta) * g
        found.append((beta * m + (1 - beta) * g) / (v.sqrt() + 1e-8))
    return found


def partially_adaptive(p: float) -> list[Tensor]:
    return by_step(lambda m, v: m / v**p, M, V)


def softplus(x: Tensor, beta: float) -> Tensor:
    return torch.nn.functional.softplus(x, beta=beta, threshold=1e9)


def cautious(updates: list[Tensor]) -> list[Tensor]:
    return by_step(lambda u, g: u * mask(u, g), updates, G)


def decayed(updates: list[Tensor], decay: float) -> list[Tensor]:
    return by_step(lambda u, w: u + decay * w, updates, W)


def cautiously_decayed(updates: list[Tensor], decay: float) -> list[Tensor]:
    return by_step(lambda u, w: u + decay * w * (u * w >= 0), updates, W)


def with_nus(nu2: float) -> list[Tensor]:
    """Ma & Yarats, algorithm 2."""
    return by_step(
        lambda g, m, v: ((1 - NUS[0]) * g + NUS[0] * m)
        / (((1 - nu2) * g * g + nu2 * v).sqrt() + 1e-8),
        G, M_HAT, V_HAT,
    )  # fmt: skip


# fmt: off
ORACLES: dict[str, Callable[[], list[Tensor]]] = {
    "SGD":                        lambda: G,
    "SGD with weight decay (L2)": lambda: decayed(G, K),
    "SGD with an L1 penalty":     lambda: by_step(lambda g, w: g + K * w / w.abs(), G, W),
    "SGD with its gradient clipped by value": lambda: [g.clamp(-K, K) for g in G],
    "momentum":                   heavy_ball,
    "SGDW":                       lambda: decayed(heavy_ball(), K),
    "Nesterov momentum":          nesterov,
    "QHM":             lambda: by_step(lambda g, m: (1 - NUS[0]) * g + NUS[0] * m, G, M),
    "ACClip with a constant tau": lambda: [(K / m.abs()).clamp(max=1) * m for m in M],
    "Powerball":       lambda: [g.sign() * g.abs() ** 0.5 for g in G],
    "SGD with annealed gradient noise": lambda: [
        h["g"] + (K * K) ** 0.5 * h["annealed_noise"] for h in HISTORY],
    "SGD with constant gradient noise": lambda: [
        h["g"] + K / 10 * (h["noise"] / 0.1) for h in HISTORY],
    "SGLD": lambda: [  # Welling & Teh, (4), divided by lr = epsilon / 2; it subtracts no gain
        h["g"] + (2 * 200 / K**2) ** 0.5 * (h["noise"] / 0.1) / (200 / K**2) for h in HISTORY],
    "gradient dropout":           lambda: [h["g"] * h["kept"] for h in HISTORY],
    "PowerSign":       lambda: by_step(lambda g, m: torch.e ** (
        K * (2 * mask(g, m) - 1)) * g, G, M),
    "AddSign":         lambda: by_step(lambda g, m: (
        K - 1 + 2 * mask(g, m)) * g, G, M),
    "signSGD":                    lambda: [g / g.abs() for g in G],
    "noisy signSGD":              lambda: [(h["g"] + K * h["noise"]).sign() for h in HISTORY],
    "Signum":                     lambda: [m / m.abs() for m in M],
    "Signum with weight decay":   lambda: decayed([m.sign() for m in M], K),
    "Lion":                       lion,
    "Lion with weight decay":     lambda: decayed(lion(), J),
    "RMSProp":         lambda: by_step(lambda g, v: g / (v.sqrt() + 1e-8), G, V),
    "RMSProp with epsilon inside the root": lambda: by_step(lambda g, v: g / (v + K).sqrt(), G, V),
    "RMSProp without the root":   lambda: by_step(lambda g, v: g / v, G, V),
    "Adam":                       lambda: ADAM,
    "Adam with epsilon inside the root": lambda: by_step(
        lambda m, v: m / (v + K).sqrt(), M_HAT, V_HAT),
    "AdamW":                      lambda: decayed(ADAM, K),
    "NAdam":                      nadam,
    "NAdamW":                     lambda: decayed(nadam(), J),
    "QHAdam with nu2 = 1":        lambda: with_nus(1.0),
    "QHAdam":                     lambda: with_nus(NUS[1]),
    "Padam at p = 1/4":           lambda: partially_adaptive(1 / 4),
    "Padam at p = 1/8":           lambda: partially_adaptive(1 / 8),
    "SAdam":           lambda: by_step(lambda m, v: m / softplus(v.sqrt(), 50.0), M_HAT, V_HAT),
    "MAS":                        lambda: by_step(lambda a, g: a + K * g, ADAM, G),
    "Grams":                      lambda: by_step(lambda a, g: a.abs() * g.sign(), ADAM, G),
    "Grams on momentum":          lambda: by_step(lambda m, g: m.abs() * g.sign(), M, G),
    "cautious SGD":               lambda: by_step(lambda g, m: g * mask(m, g), G, M),
    "cautious momentum":          lambda: cautious(M),
    "cautious Adam":              lambda: cautious(ADAM),
    "cautious AdamW":             lambda: decayed(cautious(ADAM), K),
    "cautious Signum":            lambda: cautious([m.sign() for m in M]),
    "cautious Lion":              lambda: cautious(lion()),
    "AdamW with cautious weight decay": lambda: cautiously_decayed(ADAM, 2 * K),
    "Lion with cautious weight decay":  lambda: cautiously_decayed(lion(), 2 * J),
}
NO_DELTA = {"Padam at p = 1/4", "Padam at p = 1/8", "SAdam", "RMSProp without the root"}
"""Their papers' epsilon stands elsewhere, or is none: compared without the language's."""
BETAS = {"Nesterov momentum": K / (1 + K), "NAdam": K, "NAdamW": K}
"""The beta1 that their constants stand for."""
# fmt: on


def written(name: str) -> str:
    """A row's text with K and J for its constants."""
    values = dict(zip(KNOWN[name].constants, (str(K), str(J)), strict=False))
    return re.sub(r"\b[a-z]\w*", lambda word: values.get(word[0], word[0]), KNOWN[name].text)


def updates_of(name: str) -> list[Tensor]:
    """What the row's rule does, with averages that are corrected unless the row says otherwise."""
    beta = BETAS.get(name, B1)
    words = re.search(r"bias correction of (m and v|m|v)", KNOWN[name].but)
    raw = {average: words is not None and average in words[1] for average in "mv"}
    raw["v"] |= "start of v" in KNOWN[name].but
    m = averages(beta, G, corrected=not raw["m"])
    v = averages(B2, SQUARES, corrected=not raw["v"])
    delta = 0.0 if name in NO_DELTA or "inside the root" in name else 1e-8
    return [
        evaluate(
            parse(written(name)),
            {**now, "m": m[t], "v": v[t]},
            drop=lambda x, p, kept=now["kept"]: x * kept,
            delta=delta,
        )
        for t, now in enumerate(HISTORY)
    ]


def test_every_row_has_an_oracle() -> None:
    assert KNOWN.keys() == ORACLES.keys()
    assert len(KNOWN) >= 40


@pytest.mark.parametrize("name", KNOWN)
def test_a_known_optimizers_rule_does_what_its_paper_says(name: str) -> None:
    for mine, theirs in zip(updates_of(name), ORACLES[name](), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", KNOWN)
def test_a_condition_is_said_only_where_it_is_needed(name: str) -> None:
    """With its averages corrected, a rule that says "but for the bias correction" differs."""
    if "correction of" not in KNOWN[name].but:
        return
    beta = BETAS.get(name, B1)
    m, v = (averages(b, x, corrected=True) for b, x in ((beta, G), (B2, SQUARES)))
    first = {**HISTORY[1], "m": m[1], "v": v[1]}
    mine = evaluate(parse(written(name)), first)
    assert not torch.allclose(mine, ORACLES[name]()[1], rtol=1e-6)


# fmt: off
CLASSES: list[tuple[str, str, dict[str, Any], str]] = [
    # rule, class, its options, name
    ("g",        "torch.optim.SGD",      {}, "SGD"),
    ("g + 0.1 * w", "torch.optim.SGD",   {"weight_decay": 0.1}, "SGD with weight decay (L2)"),
    ("adam",     "torch.optim.Adam",     {}, "Adam"),
    ("rmsprop",  "torch.optim.Adam",     {"betas": (0.0, 0.999)}, "RMSProp"),
    ("adam + 0.1 * w", "torch.optim.AdamW", {"weight_decay": 0.1}, "AdamW"),
    ("sign(g)",  "pytorch_optimizer.SignSGD", {"momentum": 0.0}, "signSGD"),
    ("sign(m)",  "pytorch_optimizer.SignSGD", {"momentum": 0.9}, "Signum"),
    ("sign(m) + 0.1 * w", "pytorch_optimizer.Tiger", {"beta": 0.9, "weight_decay": 0.1},
     "Signum with weight decay"),
    ("sqrt(adam) * sqrt(adam) * sign(g)", "pytorch_optimizer.Grams", {"eps": 1e-8}, "Grams"),
    ("0.3 * rmsprop + 0.7 * adam", "pytorch_optimizer.QHAdam",
     {"nus": (0.7, 1.0)}, "QHAdam with nu2 = 1"),
    ("(g + m) / sqrt(0.25 * g2 + 0.75 * v)", "pytorch_optimizer.QHAdam",
     {"nus": (0.5, 0.75)}, "QHAdam"),
]
# fmt: on


@pytest.mark.parametrize(("text", "path", "options", "name"), CLASSES)
def test_a_published_class_takes_the_same_steps(
    text: str, path: str, options: dict[str, Any], name: str
) -> None:
    """At the factor that the name comes with: the class's rate is that much larger."""
    package, _, cls = path.rpartition(".")
    module = importlib.import_module(package) if "torch." in path else pytest.importorskip(package)
    (found,) = [each for each in equalities(Rule.parse(text)) if each.known.name == name]
    start = torch.randn(SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    mine, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    ours = RuleOptimizer([mine], text, lr=LR)
    other = getattr(module, cls)([theirs], lr=LR * found.factor, **options)
    for g in G:
        mine.grad, theirs.grad = g.clone(), g.clone()
        ours.step()
        other.step()
    tolerance = 1e-6 if "QHAdam" in path else 1e-11  # its corrections are in float32
    torch.testing.assert_close(mine, theirs, rtol=tolerance, atol=tolerance)
