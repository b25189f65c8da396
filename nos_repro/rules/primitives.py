"""The words of the language (sec. 4.1), as tables: the parser, the printer, the tokens, the
compiler and the tests all read these rows.

*Readings of the paper*: N(0, 0.01) gives a variance (std 0.1); clip(x, l) clips to [-l, l];
drop(x, p) zeroes with probability p and does not rescale the rest; `x**y` of a negative x and a
broken y is NaN, as in torch. m, v, gamma are the bias-corrected m_hat, v_hat, gamma_hat; Table 6
writes a plain m in signs, where the correction, a positive factor, makes no difference.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from nos_repro.rules.tree import Binary, Expr, Unary
from nos_repro.rules.tree import Operand as Op

DELTA = 1e-8  # the papers' delta (000: epsilon): x / y is x / (y + DELTA)
NOISE_STD = 0.1
ANNEALED_NOISE_POWER = 0.55  # the variance at step t is 1 / (1 + t) ** 0.55


@dataclass(frozen=True)
class OperandRow:
    """An input. `averages` it reads: "m", "v", "gamma". `definition`: the tree it is short for."""

    name: str
    latex: str
    meaning: str
    averages: frozenset[str] = frozenset()
    definition: Expr | None = None
    reads_weights: bool = False
    random: bool = False
    needs_total_steps: bool = False


@dataclass(frozen=True)
class UnaryRow:
    """A function of one tensor; with `parameter` it takes a constant too (its name is given).

    `function` of `drop` is None: its random numbers come from outside, from the optimizer's
    generator.
    """

    name: str
    latex: str
    function: Callable[..., Tensor] | None
    edge: str
    parameter: str | None = None

    @property
    def random(self) -> bool:
        """Whether it draws."""
        return self.function is None


@dataclass(frozen=True)
class BinaryRow:
    """A function of two tensors; with `adds_delta` the second one is y + DELTA."""

    name: str
    latex: str
    precedence: int
    function: Callable[..., Tensor]
    edge: str
    adds_delta: bool = False


def _log(x: Tensor) -> Tensor:
    return x.abs().log()


def _sqrt(x: Tensor) -> Tensor:
    return x.abs().sqrt()


def _clip(x: Tensor, bound: float) -> Tensor:
    return x.clamp(-bound, bound)


_NONE, _M, _V, _GAMMA = (frozenset(averages) for averages in ([], ["m"], ["v"], ["gamma"]))
_G2 = Binary("*", Op("g"), Op("g"))
_G3 = Binary("*", _G2, Op("g"))
_ADAM = Binary("/", Op("m"), Unary("sqrt", Op("v")))
_RMSPROP = Binary("/", Op("g"), Unary("sqrt", Op("v")))

# fmt: off
_OPERANDS = (
    OperandRow("g",       "g",                 "the gradient"),
    OperandRow("g2",      "g^2",               "its square",                    _NONE,   _G2),
    OperandRow("g3",      "g^3",               "its cube",                      _NONE,   _G3),
    OperandRow("m",       r"\hat{m}",          "bias-corrected average of g",   _M),
    OperandRow("v",       r"\hat{v}",          "bias-corrected average of g^2", _V),
    OperandRow("gamma",   r"\hat{\gamma}",     "bias-corrected average of g^3", _GAMMA),
    OperandRow("adam",    r"\mathrm{Adam}",    "m / (sqrt(v) + 1e-8)",          _M | _V, _ADAM),
    OperandRow("rmsprop", r"\mathrm{RMSProp}", "g / (sqrt(v) + 1e-8)",          _V,      _RMSPROP),
    OperandRow("w",       "w",                 "the weight",                    reads_weights=True),
    OperandRow("noise",   r"\epsilon",         "N(0, 0.01), std 0.1",           random=True),
    OperandRow("annealed_noise", r"\epsilon_t", "N(0, 1 / (1 + t)^0.55)",       random=True),
    OperandRow("ld",      "ld",                "linear decay",          needs_total_steps=True),
    OperandRow("cd",      "cd",                "cosine decay, n = 1/2", needs_total_steps=True),
)
_UNARY = (
    UnaryRow("neg",     "-{x}",                         torch.neg,     "-0.0 at 0"),
    UnaryRow("exp",     "e^{{{x}}}",                    torch.exp,     "inf above 88.7 in float32"),
    UnaryRow("log",     r"\log|{x}|",                   _log,          "log|x|; -inf at 0"),
    UnaryRow("sqrt",    r"\sqrt{{|{x}|}}",              _sqrt,         "sqrt|x|"),
    UnaryRow("clip",    r"\mathrm{{clip}}({x}, {p})",   _clip,         "to [-p, p]",    "bound"),
    UnaryRow("drop",    r"\mathrm{{drop}}({x}, {p})",   None,        "no rescaling", "probability"),
    UnaryRow("sign",    r"\mathrm{{sign}}({x})",        torch.sign,    "0 at 0, -0.0 and NaN"),
    UnaryRow("sigmoid", r"\mathrm{{sigmoid}}({x})",     torch.sigmoid, "text only"),
)
_BINARY = (
    BinaryRow("+",  "{x} + {y}",             1, torch.add,         "inf - inf is NaN"),
    BinaryRow("-",  "{x} - {y}",             1, torch.sub,         "inf - inf is NaN"),
    BinaryRow("*",  "{x} * {y}",             2, torch.mul,         "0 * inf is NaN"),
    BinaryRow("/",  r"\frac{{{x}}}{{{y}}}",  2, torch.true_divide, "x / (y + 1e-8)", True),
    BinaryRow("**", "{{{x}}}^{{{y}}}",       4, torch.pow,         "NaN if x < 0 and y is broken"),
)
# fmt: on

OPERANDS: dict[str, OperandRow] = {row.name: row for row in _OPERANDS}
UNARY: dict[str, UnaryRow] = {row.name: row for row in _UNARY}
BINARY: dict[str, BinaryRow] = {row.name: row for row in _BINARY}

PERIODIC_DECAY = re.compile(r"(cd|rd)_?([1-9][0-9]{0,5})")
_PERIODIC_MEANING = {"cd": "cyclical decay of {n} periods", "rd": "restart decay of {n} periods"}


@cache
def find_operand(name: str) -> OperandRow | None:
    """The row of an operand; `cd7` and `rd10` have one each, made here."""
    if row := OPERANDS.get(name):
        return row
    if match := PERIODIC_DECAY.fullmatch(name):
        kind, n = match.groups()
        if name == f"{kind}{n}":
            meaning = _PERIODIC_MEANING[kind].format(n=n)
            return OperandRow(name, f"{kind}_{{{n}}}", meaning, needs_total_steps=True)
    return None
