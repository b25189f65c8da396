"""Whether an optimizer from elsewhere can train here, found out with a few updates before it does.

Anything may stand behind a dotted path. So one that does not ship is made, steps on a toy problem,
is saved in the middle and goes on from there. That takes about 20 ms.
"""

from __future__ import annotations

import inspect
import io
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from nos_repro.errors import ConfigError, EndsProgram, in_a_line, no_exit
from nos_repro.optim.modes import has_modes

NO_NUMBERS = "tries an optimizer on a toy problem (experiments.digest)"

STEPS, SAVED_AFTER = 24, 12
"""Some begin late: RAdam moves nothing in its first 5 updates, AdaShift in its first 10."""
SHAPES = {"kernel": (4, 2, 3, 3), "matrix": (8, 6), "head": (10, 8), "gain": (8,), "bias": (10,)}
"""The parameters of the toy problem, of the kinds that a network has."""
WHAT_IS_TAKEN = (("", 0, 9), ("parameters of two and more dimensions", 2, 9), ("matrices", 2, 2))
"""What an optimizer may be limited to, and between which numbers of dimensions that is."""
CLOSURE = (
    "its step calls a closure that computes the loss again, and the training loop computes each"
    " loss once"
)

Make = Callable[[list[tuple[str, Parameter]]], Optimizer]


@dataclass(frozen=True)
class Tried:
    """What a few updates have shown of an optimizer.

    ``takes``: "" for parameters of any shape, else the only ones that it takes. ``kept``: values
    per parameter in its state. ``starts_over``: why an interrupted trial cannot go on as if nothing
    had happened; "" if it can. ``has_modes``: whether it has `train()` and `eval()`.
    """

    takes: str
    kept: float
    starts_over: str
    has_modes: bool = False

    @property
    def dimensions(self) -> range:
        """The numbers of dimensions that a parameter may have."""
        ((low, high),) = [(low, high) for takes, low, high in WHAT_IS_TAKEN if takes == self.takes]
        return range(low, high + 1)


def tried(name: str, make: Make, options: Mapping[str, Any]) -> Tried:
    """Tries the optimizer of a name; ``make`` makes it, with these options, of named parameters.

    Raises ConfigError, in a sentence, if it cannot train here.
    """
    return _tried(name, json.dumps(options, sort_keys=True, default=repr), make)


_KNOWN: dict[tuple[str, str], Tried] = {}


def _tried(name: str, options: str, make: Make) -> Tried:
    if (name, options) not in _KNOWN:
        try:
            with no_exit(), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                _KNOWN[name, options] = _try_out(name, make)
        except EndsProgram as error:
            raise _refused(name, str(error)) from None
    return _KNOWN[name, options]


def _try_out(name: str, make: Make) -> Tried:
    first: ConfigError | None = None
    for takes, low, high in WHAT_IS_TAKEN:
        shapes = [(part, size) for part, size in SHAPES.items() if low <= len(size) <= high]
        try:
            return _train(name, make, shapes, takes)
        except ConfigError as error:
            first = first or error
    assert first is not None
    raise first


class _Toy:
    """A bowl whose lowest point differs from batch to batch."""

    def __init__(self, make: Make, shapes: Sequence[tuple[str, tuple[int, ...]]]) -> None:
        random = torch.Generator().manual_seed(0)
        drawn = [torch.randn((STEPS + 1, *size), generator=random) for _, size in shapes]
        self.params = [Parameter(each[0] / 4) for each in drawn]
        self.batches = [each[1:] / 4 for each in drawn]
        names = [part for part, _ in shapes]
        self.optimizer = make(list(zip(names, self.params, strict=True)))
        self.done = 0
        if has_modes(self.optimizer):
            self.optimizer.train()

    def loss(self) -> Tensor:
        pairs = zip(self.params, self.batches, strict=True)
        return torch.stack([(p - batch[self.done]).square().mean() for p, batch in pairs]).sum()

    def backward(self, **words: Any) -> Tensor:
        loss = self.loss()
        self.optimizer.zero_grad()
        loss.backward(**words)  # type: ignore[no-untyped-call]
        return loss

    def step(self, count: int = 1) -> None:
        for _ in range(count):
            self.backward()
            self.optimizer.step()
            self.done += 1


def _train(
    name: str, make: Make, shapes: Sequence[tuple[str, tuple[int, ...]]], takes: str
) -> Tried:
    toy = _Toy(make, shapes)
    if not all("lr" in group for group in toy.optimizer.param_groups):
        raise _refused(name, "its groups have no lr, which a schedule sets")
    before = [p.detach().clone() for p in toy.params]
    if _requires(toy.optimizer.step, "closure"):
        raise _refused(name, CLOSURE)
    try:
        toy.step(SAVED_AFTER)
    except Exception as error:
        raise _refused(name, _why_no_step(make, shapes, error)) from error
    saved = _saved(toy)
    toy.step(STEPS - SAVED_AFTER)
    if all(map(torch.equal, before, toy.params)):
        raise _refused(name, f"{STEPS} updates of it change nothing")
    kept = [v for state in toy.optimizer.state.values() for v in _tensors(state) if v.ndim]
    values = sum(v.numel() for v in kept) / sum(p.numel() for p in toy.params)
    over = _why_over(make, shapes, saved, toy)
    return Tried(takes, values, over, has_modes(toy.optimizer))


def _tensors(state: Any) -> list[Tensor]:
    values = state.values() if isinstance(state, Mapping) else ()
    return [value for value in values if isinstance(value, Tensor)]


def _saved(toy: _Toy) -> io.BytesIO | Exception:
    """A checkpoint of the toy, or why there cannot be one."""
    buffer = io.BytesIO()
    state = {"optimizer": toy.optimizer.state_dict(), "model": [p.detach() for p in toy.params]}
    try:
        torch.save({**state, "random": torch.get_rng_state()}, buffer)
    except Exception as error:  # noqa: BLE001 whatever it keeps
        return error
    buffer.seek(0)
    return buffer


def _why_over(
    make: Make,
    shapes: Sequence[tuple[str, tuple[int, ...]]],
    saved: io.BytesIO | Exception,
    whole: _Toy,
) -> str:
    """Why a run that goes on from its checkpoint is not the run that never stopped; "" if it is."""
    if isinstance(saved, Exception):
        return f"its state cannot be saved ({in_a_line(saved)[:100]})"
    try:
        state = torch.load(saved, weights_only=True)
    except Exception as error:  # noqa: BLE001 whatever it keeps
        kind = str(error).partition("GLOBAL ")[2].split(" ")[0]
        return "its state holds more than tensors and plain values" + (f": {kind}" if kind else "")
    other = _Toy(make, shapes)
    try:
        with torch.no_grad():
            for p, value in zip(other.params, state["model"], strict=True):
                p.copy_(value)
        other.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        other.done = SAVED_AFTER
        other.step(STEPS - SAVED_AFTER)
    except Exception as error:  # noqa: BLE001 whatever it does
        return f"its saved state cannot be loaded ({in_a_line(error)[:100]})"
    same = all(_is_same(a, b) for a, b in zip(whole.params, other.params, strict=True))
    return "" if same else "its saved state lacks something that the next updates depend on"


def _is_same(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a.nan_to_num(), b.nan_to_num())


def _refused(name: str, why: str) -> ConfigError:
    return ConfigError(f"optimizer '{name}' cannot train here: {why}")


def _requires(function: Any, argument: str) -> bool:
    try:
        found = inspect.signature(function).parameters.get(argument)
    except (TypeError, ValueError):
        return False
    return found is not None and found.default is found.empty


def _why_no_step(
    make: Make, shapes: Sequence[tuple[str, tuple[int, ...]]], error: Exception
) -> str:
    """Why a step failed: what makes it work tells what it needs."""

    def with_closure(toy: _Toy) -> None:
        toy.optimizer.step(toy.backward)  # type: ignore[arg-type]

    def with_graph(toy: _Toy) -> None:
        toy.backward(create_graph=True)
        toy.optimizer.step()

    for needed, step in (
        (CLOSURE, with_closure),
        ("it needs second derivatives (create_graph=True), which the training loop does not keep",
         with_graph),
    ):  # fmt: skip
        toy = _Toy(make, shapes)
        try:
            for _ in range(SAVED_AFTER):
                toy.backward()
                step(toy)
                toy.done += 1
        except Exception:  # noqa: BLE001 that was not it
            continue
        return needed
    return f"its step fails: {in_a_line(error)}"
