"""Cheap probes that find rules that cannot train, before any training (milliseconds per rule).

Each probe is a path of plain gradient descent on a quadratic, five in all. Their gradients and
weights are laid out as [steps, elements], so that a rule is evaluated once on each. Every element
has a mirror image with all signs flipped, so that terms even in the gradient (`g2`, `sqrt(g)`,
`v`) give no direction at all. As in a network, weights start near 0 with the optimum elsewhere,
so that weight decay alone does not pass for descent.

A probe never refuses a rule because its values are not finite: training finds that in one step.
"""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float32
from torch import Tensor

from nos_repro.rules.evaluate import evaluate
from nos_repro.rules.primitives import OPERANDS
from nos_repro.rules.rule import Rule
from nos_repro.search.refusals import Reason

SEED = 2017
PAIRS, STEPS, TOTAL_STEPS = 16, 24, 1000
LEAST_COSINE = 1e-9
"""A cosine between update and gradient below this is rounding error."""


@dataclass(frozen=True)
class _Path:
    """What a rule reads along a path, and the exact gradient: float32 [steps, elements]."""

    operands: dict[str, Tensor]
    slope: Float32[Tensor, "steps elements"]


def probe(rule: Rule) -> Reason | None:
    """Why the rule cannot train, as far as the probes can tell; None if they find nothing wrong."""
    paths = _paths()
    updates = [_update(rule, path) for path in paths]
    finite = torch.cat([update[update.isfinite()] for update in updates])
    if not len(finite):
        return None
    if all(update.isfinite().all() for update in updates) and bool((finite == finite[0]).all()):
        return "constant"
    if all(
        _same(update, _update(rule, _other(path)))
        for update, path in zip(updates, paths, strict=True)
    ):
        return "gradient-free"
    if not any(_descends(update, path.slope) for update, path in zip(updates, paths, strict=True)):
        return "no descent"
    return None


def _same(a: Tensor, b: Tensor) -> bool:
    return bool(torch.equal(a.nan_to_num(nan=1e30), b.nan_to_num(nan=1e30)))


def _descends(update: Tensor, slope: Tensor) -> bool:
    """Whether, at some step of the path, a small move against the update would lower the loss."""
    products = update.double() * slope.double()
    half = products.shape[1] // 2
    along = (products[:, :half] + products[:, half:]).sum(1)  # mirrored pairs cancel exactly
    sizes = update.double().norm(dim=1) * slope.double().norm(dim=1)
    known = along.isfinite() & sizes.isfinite()
    return bool((along[known] > LEAST_COSINE * sizes[known]).any()) or not bool(known.any())


def _update(rule: Rule, path: _Path) -> Tensor:
    return evaluate(rule.expr, {**path.operands, **_decays(rule)}, _Drops())


class _Drops:
    """The drops of one evaluation. Each has its own positions, whatever the values; a mirrored
    pair is dropped as a whole."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, x: Tensor, probability: float) -> Tensor:
        self.number += 1
        return torch.where(_kept(self.number, probability), x, 0.0)


@functools.cache
def _kept(number: int, probability: float) -> Bool[Tensor, "steps elements"]:
    source = random.Random(f"{SEED} {number} {probability}")
    rows = [[source.random() >= probability for _ in range(PAIRS)] for _ in range(STEPS)]
    return torch.tensor(rows).repeat(1, 2)


@functools.cache
def _paths() -> list[_Path]:
    """One path with exact gradients, then noisy ones: slow, fast, so slow that weights stay small,
    and one whose weights are all positive, as the scales of batch norm are."""
    source = torch.Generator().manual_seed(SEED)
    kinds = ((0.1, 0.0, 0), (0.1, 0.9, 0), (0.4, 0.9, 0), (0.002, 0.9, 0), (0.1, 0.9, 1))
    return [_path(source, *kind) for kind in kinds]


def _path(source: torch.Generator, rate: float, noise: float, start: float) -> _Path:
    """Gradients span 1e-6 to 1 across elements; their noise is proportional to them."""
    size = torch.logspace(-6, 0, PAIRS).repeat(2)
    side = torch.randn(PAIRS, generator=source)
    optimum = torch.cat([side, -side])
    weights = 0.01 * optimum
    slopes, gradients, path = [], [], []
    for _ in range(STEPS):
        share = noise * (2 * torch.rand(PAIRS, generator=source) - 1).repeat(2)
        slopes.append(size * (weights - optimum))
        gradients.append(slopes[-1] * (1 + share))
        path.append(weights)
        weights = weights - rate * (weights - optimum)
    operands = {**_averages(torch.stack(gradients)), "w": start + torch.stack(path)}
    for name, row in OPERANDS.items():
        if row.random:
            stds = torch.tensor([[row.std_at(step)] for step in range(STEPS)])
            operands[name] = stds * _normals(source)
    return _Path(operands, torch.stack(slopes))


def _normals(source: torch.Generator) -> Tensor:
    half = torch.randn(STEPS, PAIRS, generator=source)
    return half.repeat(1, 2)


def _averages(g: Tensor) -> dict[str, Tensor]:
    """The gradient and the bias-corrected averages that follow from it."""
    found = {"g": g}
    for name, beta in (("m", 0.9), ("v", 0.999), ("gamma", 0.999)):
        power = OPERANDS[name].power
        average, rows = torch.zeros_like(g[0]), []
        for step, gradient in enumerate(g, 1):
            average = beta * average + (1 - beta) * gradient**power
            rows.append(average / (1 - beta**step))
        found[name] = torch.stack(rows)
    return found


def _decays(rule: Rule) -> dict[str, Tensor]:
    """The decays that a rule reads, at steps spread over the training; the very first step, where
    `log(cd)` is 0, is skipped."""
    steps = [1 + step * TOTAL_STEPS // STEPS for step in range(STEPS)]
    rows = [row for row in rule.operands if row.needs_total_steps]
    return {r.name: torch.tensor([[r.decay_at(s, TOTAL_STEPS)] for s in steps]) for r in rows}


def _other(path: _Path) -> _Path:
    """The same weights, decays and draws under other gradients."""
    g = path.operands["g"].flip(0) * 1.7 + 0.01
    return _Path({**path.operands, **_averages(g)}, path.slope)
