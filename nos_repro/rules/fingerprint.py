"""The numeric fingerprint: a short hash of what a rule does in a fixed, seeded probe.

It finds rules that are the same function even where algebra does not show it. Five steps of
gradients, weights, averages, decays and noise are laid out as [steps, elements] in float64, so that
the rule is evaluated once; values are rounded to 6 digits before they are hashed. The price: rules
that differ by less than rounding everywhere in the probe count as equal.

A drop is seeded with its arguments' values and its probability: equal arguments, however they are
written, lose the same elements, and commuted sums stay equal.
"""

import hashlib
import math
import random
from functools import lru_cache

import torch
from torch import Tensor

from nos_repro.rules.evaluate import evaluate
from nos_repro.rules.primitives import OPERANDS, operand_row
from nos_repro.rules.tree import Expr, Operand, walk

NO_NUMBERS = "compares rules (experiments.digest)"

SEED = 2017
ELEMENTS = 24
STEPS = (0, 137, 300, 611, 913)  # of TOTAL_STEPS, a prime: no two decays agree on all of them
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
    return hashlib.sha256(_rounded(evaluate(expr, operands, _drop)).encode()).hexdigest()[:16]


@lru_cache(maxsize=1)
def _probe() -> dict[str, Tensor]:
    """Every operand but the decays: float64, [steps, elements].

    Gradients span 1e-6 to 3 in size, so that clips and divisions show; two elements are sometimes
    zero, so that sign(0) shows. Python's generator promises the same numbers in every version.
    """
    source = random.Random(SEED)

    def normal() -> Tensor:
        rows = [[source.gauss(0, 1) for _ in range(ELEMENTS)] for _ in STEPS]
        return torch.tensor(rows, dtype=torch.float64)

    size = torch.logspace(-5, 0, ELEMENTS // 2, dtype=torch.float64)
    g = normal() * torch.cat([size, torch.ones_like(size)])
    g[1:3, -1] = 0
    g[0, -2] = 0
    probe = {"g": g, "w": normal()}
    for name, row in OPERANDS.items():
        if row.random:
            stds = [[row.std_at(step)] for step in STEPS]
            probe[name] = torch.tensor(stds, dtype=torch.float64) * normal()
    for name, beta in BETAS.items():
        power = OPERANDS[name].power
        average = torch.zeros(ELEMENTS, dtype=torch.float64)
        rows = []
        for step, gradient in enumerate(g, 1):
            average = beta * average + (1 - beta) * gradient**power
            rows.append(average / (1 - beta**step))
        probe[name] = torch.stack(rows)
    return probe


def _drop(x: Tensor, probability: float) -> Tensor:
    x = x.expand(len(STEPS), ELEMENTS)
    source = random.Random(f"{probability} {_rounded(x)}")
    kept = torch.tensor([source.random() >= probability for _ in range(x.numel())])
    return torch.where(kept.view_as(x), x, 0.0)


def _rounded(values: Tensor) -> str:
    """The values as text with 6 digits; NaN and infinities by name, negligible ones as 0."""
    texts = []
    for row in values.expand(len(STEPS), ELEMENTS).tolist():
        largest = max((abs(x) for x in row if math.isfinite(x)), default=0.0)
        least = max(1e-13, NEGLIGIBLE * largest)
        texts += ["0" if abs(x) < least else f"{x:.{DIGITS - 1}e}" for x in row]
    return " ".join(texts)
