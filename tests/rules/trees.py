"""Random trees over every word, for hypothesis, and operands to evaluate them on."""

import torch
from hypothesis import strategies as st
from torch import Tensor

from nos_repro.rules.normal import SMALLEST_PLAIN_DIVISOR
from nos_repro.rules.primitives import BINARY, DELTA, OPERANDS, UNARY, operand_row
from nos_repro.rules.tree import Binary, Expr, Number, Operand, Unary, walk

PERIODIC = ("cd2", "rd10")
PARAMETERS = {"clip": (1e-5, 1e-4, 1e-3, 0.5), "drop": (0.1, 0.3, 0.5)}
NUMBERS = (0.0, 1.0, 2.0, 0.5, -1.0, -2.5, 1e-4, 3.0, 1e22, 123456789.0, 0.1 + 0.2)


def numbers() -> st.SearchStrategy[Expr]:
    """Constants: the usual ones, and any."""
    drawn = st.floats(-1e3, 1e3).filter(lambda x: x != 0)
    return (st.sampled_from(NUMBERS) | drawn).map(Number)


def trees(exclude: tuple[str, ...] = (), leaves: int = 8) -> st.SearchStrategy[Expr]:
    """Trees over all words except some."""

    def known(names: list[str]) -> list[str]:
        return [name for name in names if name not in exclude]

    def functions(arguments: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
        unary = st.one_of(
            st.builds(Unary, st.just(f), arguments, st.sampled_from(PARAMETERS.get(f, (None,))))
            for f in known([*UNARY])
        )
        return unary | st.builds(Binary, st.sampled_from(known([*BINARY])), arguments, arguments)

    operands = st.sampled_from(known([*OPERANDS, *PERIODIC])).map(Operand)
    return st.recursive(operands | numbers(), functions, max_leaves=leaves)


def values(count: int) -> dict[str, Tensor]:
    """Operands in float64: of every size from 1e-9 to 30, a tenth of them at edges."""
    generator = torch.Generator().manual_seed(0)
    edges = torch.tensor([0.0, -0.0, 1.0, -1.0, 1e-8, -1e-8, 0.01, 2.0], dtype=torch.float64)

    def some() -> Tensor:
        size = 10 ** (10.5 * torch.rand(count, generator=generator, dtype=torch.float64) - 9)
        plain = size * torch.randn(count, generator=generator, dtype=torch.float64).sign()
        edge = edges[torch.randint(len(edges), (count,), generator=generator)]
        return torch.where(torch.rand(count, generator=generator) < 0.1, edge, plain)

    given = {}
    for name in (*OPERANDS, *PERIODIC):
        row = operand_row(name)
        if row.definition is None:
            x = some().abs() if row.nonnegative else some()
            given[name] = x.clamp(max=1) if row.needs_total_steps else x
    return given


class Evaluation:
    """The value of a tree, and where it can be trusted.

    Everything is computed twice, the second time with an error of 1e-9 in every step. A value is
    tame if it and everything it is made of are finite and of usual size, and the error has not
    grown by more than a factor of 1,000: there, algebra and floating point agree.
    """

    def __init__(self, operands: dict[str, Tensor]) -> None:
        self.operands = operands
        self._generator = torch.Generator().manual_seed(1)
        self._seen: dict[Expr, tuple[Tensor, Tensor, Tensor]] = {}

    def __call__(self, expr: Expr) -> tuple[Tensor, Tensor]:
        """Value and whether it is tame, by element."""
        value, _, tame = self._both(expr)
        return value, tame

    def _both(self, expr: Expr) -> tuple[Tensor, Tensor, Tensor]:
        if expr not in self._seen:
            self._seen[expr] = self._compute(expr)
        return self._seen[expr]

    def _compute(self, expr: Expr) -> tuple[Tensor, Tensor, Tensor]:
        like = self.operands["g"]
        match expr:
            case Number(number):
                value = torch.full_like(like, number)
                return value, value, torch.ones_like(like, dtype=torch.bool)
            case Operand(name):
                definition = operand_row(name).definition
                if definition is not None:
                    return self._both(definition)
                value = self.operands[name]
                return value, value, torch.ones_like(like, dtype=torch.bool)
            case Unary(function, x, parameter):
                a, b, tame = self._both(x)
                apply = UNARY[function].function
                assert apply is not None
                extra = () if parameter is None else (parameter,)
                if function in ("exp", "sigmoid"):
                    tame = tame & (apply(a) != 0)  # else it is too small for a float
                return self._step(apply(a, *extra), apply(b, *extra), tame)
            case Binary(function, x, y):
                row = BINARY[function]
                (a, b, tame), (c, d, other) = self._both(x), self._both(y)
                if row.adds_delta:
                    # the normal form forgets delta beside a plain number
                    number = not any(isinstance(node, Operand) for node in walk(y))
                    delta = torch.where(number & (c.abs() >= SMALLEST_PLAIN_DIVISOR), 0.0, DELTA)
                    c, d = c + delta, d + delta
                value = row.function(a, c)
                if function in ("*", "/", "**"):
                    other = other & ((value != 0) | (a == 0) | ((c == 0) & (function == "*")))
                return self._step(value, row.function(b, d), tame & other)

    def _step(self, value: Tensor, rough: Tensor, tame: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        error = torch.rand(value.shape, generator=self._generator, dtype=torch.float64) - 0.5
        rough = rough * (1 + 2e-9 * error)
        size = value.abs()
        usual = (size < 1e12) & ((size > 1e-30) | (size == 0))
        return value, rough, tame & usual & ((value - rough).abs() <= 1e-6 * size)
