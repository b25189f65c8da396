"""The numeric fingerprint: a short hash of what a rule does in a fixed, seeded probe.

It finds rules that are the same function even where algebra does not show it. Some steps of
gradients, weights, averages, decays and noise are laid out as [steps, elements] in float64, so that
the rule is evaluated once; values are rounded to 6 digits before they are hashed. The price: rules
that differ by less than rounding everywhere in the probe count as equal.

A drop is seeded with its argument's values and its probability, so that commuted sums stay equal.
If one rule draws twice for the same values, the two draws differ, as they do in the program.
"""

import hashlib
import math
import random
from collections import Counter
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from nos_repro.rules.evaluate import Drop, evaluate
from nos_repro.rules.primitives import OPERANDS, operand_row
from nos_repro.rules.tree import Expr, Operand, walk

NO_NUMBERS = "compares rules (experiments.digest)"

SEED = 2017
ELEMENTS = 48
STEPS = (0, 137, 300, 611, 913, 996)  # of TOTAL_STEPS, a prime: no two decays agree on all of them
TOTAL_STEPS = 997
BETAS = {"m": 0.9, "v": 0.999, "gamma": 0.999}  # the averages' decay rates
DIGITS = 6
NEGLIGIBLE = 1e-12  # relative to the step's largest value; 1e-13 in absolute terms


def fingerprint(expr: Expr) -> str:
    """16 hexadecimal digits; the same on every machine."""
    operands = dict(_probe())
    for node in walk(expr):
        if isinstance(node, Operand) and node.name not in operands:
            row = operand_row(node.name)
            if row.needs_total_steps:
                values = [[row.decay_at(step, TOTAL_STEPS)] for step in STEPS]
                operands[node.name] = torch.tensor(values, dtype=torch.float64)
    return hashlib.sha256(_rounded(evaluate(expr, operands, _make_drop())).encode()).hexdigest()[
        :16
    ]


@lru_cache(maxsize=1)
def _probe() -> dict[str, Tensor]:
    """Every operand but the decays: float64, [steps, elements].

    So that clips and divisions show, gradients and weights are of every size: some elements stay
    of one size, others change it at every step, a few nearly cancel in m. So that sign(0) shows,
    some are 0. Python's generator promises the same numbers in every version.
    """
    source = random.Random(SEED)

    def rows(draw: Callable[[], float]) -> Tensor:
        drawn = [[draw() for _ in range(ELEMENTS)] for _ in STEPS]
        return torch.tensor(drawn, dtype=torch.float64)

    def normal() -> Tensor:
        return rows(lambda: source.gauss(0, 1))

    def of_every_size() -> Tensor:
        return rows(lambda: source.gauss(0, 1) * 10 ** source.uniform(-7, 0.5))

    steady = normal() * torch.logspace(-5, 0, ELEMENTS, dtype=torch.float64)
    g = torch.cat([steady[:, ::2], of_every_size()[:, ::2]], dim=1)
    for element, part in zip(
        range(0, ELEMENTS, 8), (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2), strict=True
    ):
        g[1, element] = -BETAS["m"] * g[0, element] * (1 + part)
    g[1:3, -1] = 0
    g[0, -2] = 0
    probe = {"g": g, "w": of_every_size()}
    for name, row in OPERANDS.items():
        if row.random:
            stds = [[row.std_at(step)] for step in STEPS]
            probe[name] = torch.tensor(stds, dtype=torch.float64) * normal()
    for name, beta in BETAS.items():
        power = OPERANDS[name].power
        average = torch.zeros(ELEMENTS, dtype=torch.float64)
        averages = []
        for step, gradient in enumerate(g, 1):
            average = beta * average + (1 - beta) * gradient**power
            averages.append(average / (1 - beta**step))
        probe[name] = torch.stack(averages)
    return probe


def _make_drop() -> Drop:
    """The drops of one evaluation."""
    seen: Counter[str] = Counter()

    def drop(x: Tensor, probability: float) -> Tensor:
        x = x.expand(len(STEPS), ELEMENTS)
        seed = f"{probability} {_rounded(x)}"
        source = random.Random(f"{seed} {seen[seed]}")
        seen[seed] += 1
        kept = torch.tensor([source.random() >= probability for _ in range(x.numel())])
        return torch.where(kept.view_as(x), x, 0.0)

    return drop


def _rounded(values: Tensor) -> str:
    """The values as text with 6 digits; NaN and infinities by name, negligible ones as 0."""
    texts = []
    for row in values.expand(len(STEPS), ELEMENTS).tolist():
        largest = max((abs(x) for x in row if math.isfinite(x)), default=0.0)
        least = max(1e-13, NEGLIGIBLE * largest)
        texts += ["0" if abs(x) < least else f"{x:.{DIGITS - 1}e}" for x in row]
    return " ".join(texts)
