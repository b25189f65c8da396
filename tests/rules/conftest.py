"""Random trees and the operands to evaluate them on."""

import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nos_repro.rules.primitives import BINARY, OPERANDS, UNARY
from nos_repro.rules.tree import Binary, Expr, Number, Operand, Unary

PARAMETERS = {"clip": (1e-5, 1e-4, 1e-3, 0.5), "drop": (0.1, 0.3, 0.5)}
NUMBERS = (0.0, 1.0, 2.0, 0.5, -1.0, -2.5, 1e-4, 3.0, 1e22, 123456789.0, 0.1 + 0.2)


@pytest.fixture
def random_tree() -> Callable[..., Expr]:
    """A maker of random trees over every word: `random_tree(source, depth, exclude)`."""

    def make(source: random.Random, depth: int, exclude: tuple[str, ...] = ()) -> Expr:
        kind = source.random()
        if depth == 0 or kind < 0.1:
            if source.random() < 0.25 and "numbers" not in exclude:
                return Number(source.choice(NUMBERS))
            return Operand(
                source.choice([n for n in [*OPERANDS, "cd2", "rd10"] if n not in exclude])
            )
        if kind < 0.45:
            function = source.choice([name for name in UNARY if name not in exclude])
            parameters = PARAMETERS.get(function)
            parameter = source.choice(parameters) if parameters else None
            return Unary(function, make(source, depth - 1, exclude), parameter)
        function = source.choice([name for name in BINARY if name not in exclude])
        return Binary(function, make(source, depth - 1, exclude), make(source, depth - 1, exclude))

    return make


@pytest.fixture
def operands() -> dict[str, Tensor]:
    """Generic values in float64: nothing is zero, v is what squares average to."""
    generator = torch.Generator().manual_seed(0)

    def normal() -> Tensor:
        return torch.randn(40, generator=generator, dtype=torch.float64)

    given = {name: normal() for name in ("g", "m", "gamma", "w", "noise", "annealed_noise")}
    given["v"] = normal() ** 2 + 0.01
    decays = {"ld": 0.75, "cd": 0.8535533905932737, "cd2": 0.25, "rd10": 0.625}
    return given | {n: torch.tensor(f, dtype=torch.float64) for n, f in decays.items()}
