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
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float32
from torch import Tensor

from nos_repro.rules.evaluate import evaluate
from nos_repro.rules.primitives import OPERANDS, operand_row
from nos_repro.rules.rule import Rule
from nos_repro.search.refusals import Reason

SEED = 2017
PAIRS, STEPS, TOTAL_STEPS = 16, 24, 1000
MATRIX = (4, 4)
"""The shape of the elements of half a path, for functions of matrices."""
LEAST_COSINE = 1e-9
"""A cosine between update and gradient below this is rounding error."""


@dataclass(frozen=True)
class _Paths:
    """What a rule reads along all paths, and the exact gradients: float32 [paths, steps, elements].
    ``others`` is what it would read with other gradients."""

    operands: dict[str, Tensor]
    others: dict[str, Tensor]
    slopes: Float32[Tensor, "paths steps elements"]


def probe(rule: Rule) -> Reason | None:
    """Why the rule cannot train, as far as the probes can tell; None if they find nothing wrong."""
    paths = _paths()
    updates = _update(rule, paths.operands, paths.slopes)
    finite = updates.isfinite()
    values = updates[finite]
    if not len(values):
        return None
    if bool(finite.all()) and bool((values == values[0]).all()):
        return "constant"
    if _same(updates, _update(rule, paths.others, paths.slopes)):
        return "gradient-free"
    if not _descends(updates, paths.slopes):
        return "no descent"
    return None


def _same(a: Tensor, b: Tensor) -> bool:
    return bool(torch.equal(a.nan_to_num(nan=1e30), b.nan_to_num(nan=1e30)))


def _descends(updates: Tensor, slopes: Tensor) -> bool:
    """Whether, at some step of a path, a small move against the update would lower the loss. A path
    on which that cannot be told passes."""
    products = updates.double() * slopes.double()
    half = products.shape[2] // 2
    along = (products[..., :half] + products[..., half:]).sum(2)  # mirrored pairs cancel exactly
    sizes = updates.double().norm(dim=2) * slopes.double().norm(dim=2)
    known = along.isfinite() & sizes.isfinite()
    downhill = (known & (along > LEAST_COSINE * sizes)).any(1)
    return bool((downhill | ~known.any(1)).any())


def _update(rule: Rule, operands: dict[str, Tensor], slopes: Tensor) -> Tensor:
    if rule.language != 1:
        return _by_step(rule, {**operands, **_decays(rule)}, slopes)
    found = evaluate(rule.expr, {**operands, **_decays(rule)}, _Drops())
    return found.expand(slopes.shape)


def _by_step(rule: Rule, operands: dict[str, Tensor], slopes: Tensor) -> Tensor:
    """The updates of a rule that keeps states or reads whole tensors. Each half of a path's
    elements, which mirrors the other half, is a tensor by itself: its mean is not 0."""
    memory: dict[str, Tensor] = {}
    found = []
    for step in range(STEPS):
        own: dict[str, Tensor | float] = {"step": float(step + 1)}
        for name, values in operands.items():
            now = values[..., step, :]
            own[name] = now if now.dim() == 1 else now.reshape(-1, 2, PAIRS)
        found.append(
            evaluate(
                rule.expr,
                own,
                _Drops(step),
                states=rule.states,
                memory=memory,
                tensor_shape=MATRIX,
            ).flatten(-2)
        )
    return torch.stack(found, 1).expand(slopes.shape)


class _Drops:
    """The drops of one evaluation, of all steps or of one. Each has its own positions, whatever the
    values; a mirrored pair is dropped as a whole."""

    def __init__(self, step: int | None = None) -> None:
        self.number, self.step = 0, step

    def __call__(self, x: Tensor, probability: float) -> Tensor:
        self.number += 1
        kept = _kept(self.number, probability)
        if self.step is not None:
            kept = kept[self.step].view(2, PAIRS)
        return torch.where(kept, x, 0.0)


@functools.cache
def _kept(number: int, probability: float) -> Bool[Tensor, "steps elements"]:
    source = random.Random(f"{SEED} {number} {probability}")
    rows = [[source.random() >= probability for _ in range(PAIRS)] for _ in range(STEPS)]
    return torch.tensor(rows).repeat(1, 2)


@functools.cache
def _paths() -> _Paths:
    """One path with exact gradients, then noisy ones: slow, fast, so slow that weights stay small,
    and one whose weights are all positive, as the scales of batch norm are."""
    source = torch.Generator().manual_seed(SEED)
    kinds = ((0.1, 0.0, 0), (0.1, 0.9, 0), (0.4, 0.9, 0), (0.002, 0.9, 0), (0.1, 0.9, 1))
    slopes, operands, others = zip(*(_path(source, *kind) for kind in kinds), strict=True)
    return _Paths(_stacked(operands), _stacked(others), torch.stack(slopes))


def _stacked(each: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([operands[name] for operands in each]) for name in each[0]}


def _path(
    source: torch.Generator, rate: float, noise: float, start: float
) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """The exact gradients, the operands, and these with other gradients.

    Gradients span 1e-6 to 1 across elements; their noise is proportional to them.
    """
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
    return torch.stack(slopes), operands, _other(operands)


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
    """The decays that a rule reads."""
    return {row.name: _decay(row.name) for row in rule.operands if row.needs_total_steps}


@functools.cache
def _decay(name: str) -> Float32[Tensor, "steps 1"]:
    """At steps spread over the training; the very first step, where `log(cd)` is 0, is skipped."""
    steps = [1 + step * TOTAL_STEPS // STEPS for step in range(STEPS)]
    return torch.tensor([[operand_row(name).decay_at(step, TOTAL_STEPS)] for step in steps])


def _other(operands: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights, decays and draws under other gradients."""
    g = operands["g"].flip(0) * 1.7 + 0.01
    return {**operands, **_averages(g)}
