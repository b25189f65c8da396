"""Stage 0: cheap probes of a candidate on a small quadratic, before it trains anything.

The parameters are a matrix, a vector, a convolution's weight and one that never has a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Parameter

from nos_repro.score.candidate import Submission
from nos_repro.score.exchange import Exchange
from nos_repro.score.fault import Fault
from nos_repro.score.process import Nursery, RemoteOptimizer

SHAPES = {"matrix": (6, 4), "vector": (5,), "convolution": (3, 2, 3, 3), "untouched": (2,)}
STEPS = 40
RATES = (1e-3, 1e-2, 0.1, 1.0)
DESCENT = 0.95
"""The loss must fall below this share of its first value at one of the rates."""
SEED = 2017
FORGETS = (
    "after loading its state_dict it goes on differently: keep what it remembers in self.state or"
    " in param_groups"
)
# fmt: off
PROBES = {
    "contract":   "it is made for a model's parameters, and updates them",
    "finite":     "its weights stay finite at one of the rates",
    "descends":   "it lowers a quadratic at one of the rates",
    "gradient":   "its updates depend on the gradients",
    "untouched":  "it leaves a parameter without a gradient alone",
    "repeats":    "it makes the same updates again with the same seed",
    "state_dict": "it goes on from its saved state as if it had not been saved",
}
# fmt: on


@dataclass
class Path:
    """Where a run of updates on the quadratic has led."""

    losses: list[float]
    weights: list[Tensor]

    @property
    def finite(self) -> bool:
        return all(map(math.isfinite, self.losses))


def probe(candidate: Submission, nursery: Nursery) -> list[str]:
    """The probes passed. Raises Fault for the first that is not, and OutOfTime.

    Two processes of the candidate descend, each several times, since a process costs more than
    these few updates.
    """
    with _started(candidate, nursery) as remote:
        paths = {lr: descend(remote, lr) for lr in RATES}
        finite = {lr: path for lr, path in paths.items() if path.finite}
        _require("finite", bool(finite), "its weights are not finite at any of the rates")
        best = min(finite, key=lambda lr: finite[lr].losses[-1])
        path = finite[best]
        share = path.losses[-1] / path.losses[0]
        said = f"it does not lower a quadratic at any of the rates ({share:.3g} x)"
        _require("descends", share < DESCENT, said)
        untouched = list(SHAPES).index("untouched")
        start = _parameters()[untouched]
        for each in finite.values():
            same = torch.equal(each.weights[untouched], start)
            _require("untouched", same, "it changes a parameter that has no gradient")
        other = descend(remote, best, sign=-1.0)
        ignores = _equal(path.weights, other.weights)
        _require("gradient", not ignores, "its updates ignore the gradients")
        remote.call("check")
    with _started(candidate, nursery) as remote:
        again = descend(remote, best)
        repeats = _equal(path.weights, again.weights)
        _require("repeats", repeats, "two runs with the same seed differ")
        reloaded = descend(remote, best, reload=True)
        _require("state_dict", _near(path.weights, reloaded.weights), FORGETS)
        remote.call("check")
    return list(PROBES)


def _started(candidate: Submission, nursery: Nursery) -> RemoteOptimizer:
    shapes = [(name, torch.Size(shape)) for name, shape in SHAPES.items()]
    return nursery.start(candidate, shapes, SEED)


def descend(remote: RemoteOptimizer, lr: float, *, sign: float = 1.0, reload: bool = False) -> Path:
    """STEPS updates on the quadratic, by a new optimizer; with ``reload`` its state is saved and
    loaded half-way."""
    params = _parameters()
    optimum, curvature = _quadratic()
    exchange = Exchange(params, remote, SEED)
    exchange.show_weights()
    remote.make(lr=lr, total_steps=STEPS)
    losses = []
    for step in range(STEPS):
        if reload and step == STEPS // 2:
            _reload(remote)
        losses.append(_gradients(params, optimum, curvature, sign))
        if not math.isfinite(losses[-1]):
            break
        exchange.update()
    if remote.modes:
        remote.call("mode", mode="eval")
        exchange.take_weights()
    losses.append(_gradients(params, optimum, curvature, sign))
    return Path(losses, [p.detach().clone() for p in params])


def _reload(remote: RemoteOptimizer) -> None:
    try:
        remote.call("reload")
    except Fault as error:
        if error.kind not in ("error", "contract"):
            raise
        raise Fault("probe", f"probe state_dict: {error.reason}", error.traceback) from None


def _require(name: str, holds: bool, otherwise: str) -> None:
    if not holds:
        raise Fault("probe", f"probe {name}: {otherwise}")


def _parameters() -> list[Parameter]:
    source = torch.Generator().manual_seed(SEED)
    return [Parameter(0.5 * torch.randn(shape, generator=source)) for shape in SHAPES.values()]


def _quadratic() -> tuple[list[Tensor], list[Tensor]]:
    """Where its minimum is, and its curvature, from 0.1 to 1."""
    source = torch.Generator().manual_seed(SEED + 1)
    optimum = [torch.randn(shape, generator=source) for shape in SHAPES.values()]
    curvature = [10 ** (torch.rand(shape, generator=source) - 1) for shape in SHAPES.values()]
    return optimum, curvature


def _gradients(
    params: list[Parameter], optimum: list[Tensor], curvature: list[Tensor], sign: float
) -> float:
    """Sets all gradients but the last parameter's, and returns the loss."""
    total = 0.0
    parts = list(zip(params, optimum, curvature, strict=True))
    for p, to, bend in parts[:-1]:
        distance = p.detach() - to
        p.grad = sign * bend * distance
        total += float((bend * distance.square()).sum()) / 2
    return total


def _equal(a: list[Tensor], b: list[Tensor]) -> bool:
    return _same(a, b, torch.equal)


def _near(a: list[Tensor], b: list[Tensor]) -> bool:
    return _same(a, b, lambda x, y: torch.allclose(x, y, rtol=1e-4, atol=1e-6))


def _same(a: list[Tensor], b: list[Tensor], like: Callable[[Tensor, Tensor], bool]) -> bool:
    return all(like(x, y) for x, y in zip(a, b, strict=True))
