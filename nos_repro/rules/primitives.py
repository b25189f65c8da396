"""The words of the language (sec. 4.1), as tables: the parser, the printer, the tokens, the normal
form, the executions, `export` and the tests all read these rows and know no other primitives. The
papers' words come first; those of the second edition are in tables of their own.

*Readings of the paper*: N(0, 0.01) gives a variance (std 0.1); clip(x, l) clips to [-l, l];
drop(x, p) zeroes with probability p and does not rescale what it keeps; `x**y` with a negative x
and a fractional y is NaN, as in torch. m, v, gamma are the bias-corrected m_hat, v_hat, gamma_hat;
Table 6 writes a plain m in signs, where the correction, a positive factor, makes no difference.
"""

from __future__ import annotations

import math
import operator
import re
from functools import cache
from typing import TYPE_CHECKING

from nos_repro.registry import Table
from nos_repro.rules import decays, floats
from nos_repro.rules.rows import BinaryRow, Infix, OperandRow, Rewrites, Tensors, UnaryRow
from nos_repro.rules.tree import Binary, Expr, Number, Unary, state_of
from nos_repro.rules.tree import Operand as Op

if TYPE_CHECKING:
    from torch import Tensor

DELTA = 1e-8  # the papers' delta (000: epsilon): x / y is x / (y + DELTA)
NEGATION = 3  # how tightly a minus sign binds: more than `*`, less than `**`, as in Python
ATOM = 5  # how tightly a word, a number and a call bind


def _log(x: Tensor) -> Tensor:
    return x.abs().log()


def _logs(x: Tensors) -> Tensors:
    import torch

    return torch._foreach_log(torch._foreach_abs(x))


def _sqrt(x: Tensor) -> Tensor:
    return x.abs().sqrt()


def _sqrts(x: Tensors) -> Tensors:
    import torch

    return torch._foreach_sqrt(torch._foreach_abs(x))


def _clip(x: Tensor, bound: float) -> Tensor:
    return x.clamp(-bound, bound)


def _mean(x: Tensor) -> Tensor:
    return x.mean(-1, keepdim=True).expand_as(x)


def _norm(x: Tensor) -> Tensor:
    import torch

    length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return length.expand_as(x)


def _orthogonal(x: Tensor) -> Tensor:
    from nos_repro.rules.newton_schulz import orthogonal

    return orthogonal(x)


def _moved(old: Expr, x: Expr, decay: float) -> Expr:
    """An average that has moved towards x."""
    kept = Binary("*", Number(decay), old)
    return Binary("+", kept, Binary("*", Number(1 - decay), x))


def _unbiased(average: Expr, decay: float) -> Expr:
    """The average divided by the sum of its weights, 1 - decay**step."""
    weights = Binary("-", Number(1.0), Binary("**", Number(decay), Op("step")))
    return Binary("*", average, Binary("**", weights, Number(-1.0)))


def _velocity(old: Expr, x: Expr, decay: float) -> Expr:
    return Binary("+", Binary("*", Number(decay), old), x)


_G2 = Binary("*", Op("g"), Op("g"))
_G3 = Binary("*", _G2, Op("g"))
_ADAM = Binary("/", Op("m"), Unary("sqrt", Op("v")))
_RMSPROP = Binary("/", Op("g"), Unary("sqrt", Op("v")))
_LOG_OF: Rewrites = {
    "exp": lambda f, _: f.x,
    "sqrt": lambda f, _: Binary("*", Number(0.5), Unary("log", f.x)),
}
_SQRT_OF: Rewrites = {
    "exp": lambda f, _: Unary("exp", Binary("*", Number(0.5), f.x)),
    "sign": lambda f, _: Binary("**", f, Number(2.0)),
}
_SIGN_OF: Rewrites = {
    "exp": lambda f, _: Number(1.0),
    "sigmoid": lambda f, _: Number(1.0),
    "sqrt": lambda f, _: Binary("**", Unary("sign", f.x), Number(2.0)),
    "sign": lambda f, _: f,
    "clip": lambda f, _: Unary("sign", f.x),
}
_CLIP_OF: Rewrites = {
    "clip": lambda f, p: Unary("clip", f.x, min(f.parameter or math.inf, p or math.inf)),
}

# The order does not matter: the search spaces list their words themselves.
# fmt: off
OPERANDS = Table(
    OperandRow("g",       "g",                 "the gradient"),
    OperandRow("g2",      "g^2",               "its square",  _G2, nonnegative=True),
    OperandRow("g3",      "g^3",               "its cube",    _G3),
    OperandRow("m",       r"\hat{m}",          "bias-corrected average of g",
               power=1, aliases=("m_hat",)),
    OperandRow("v",       r"\hat{v}",          "bias-corrected average of g^2",
               power=2, aliases=("v_hat",), nonnegative=True),
    OperandRow("gamma",   r"\hat{\gamma}",     "bias-corrected average of g^3",
               power=3, aliases=("gamma_hat",)),
    OperandRow("adam",    r"\mathrm{Adam}",    "m / (sqrt(v) + 1e-8)",
               _ADAM, aliases=("Adam", "ADAM")),
    OperandRow("rmsprop", r"\mathrm{RMSProp}", "g / (sqrt(v) + 1e-8)",
               _RMSPROP, aliases=("RMSProp", "RMSprop")),
    OperandRow("w",       "w",                 "the weight", reads_weights=True, token=False),
    OperandRow("noise",   r"\epsilon",         "N(0, 0.01), std 0.1",
               std=0.1, aliases=("eps", "epsilon")),
    OperandRow("annealed_noise", r"\epsilon_t", "N(0, 1 / (1 + t)^0.55)",
               std=decays.annealed_noise_std, aliases=("eps_t", "epsilon_t"),
               source=f"(1 + t) ** -{decays.ANNEALED_NOISE_POWER / 2}"),
    OperandRow("ld",      "ld",                "linear decay",
               decay=decays.linear, nonnegative=True,
               source="1 - elapsed / total_steps"),
    OperandRow("cd",      "cd",                "cosine decay, n = 1/2",
               decay=decays.cosine, nonnegative=True,
               source="0.5 * (1 + math.cos(math.pi * elapsed / total_steps))"),
)
UNARY = Table(
    UnaryRow("neg",     "-{X}",                       "torch.neg",  "-0.0 at 0",
             "torch._foreach_neg", word="minus", on_numbers=operator.neg),
    UnaryRow("exp",     "e^{{{x}}}",                  "torch.exp",  "inf above 88.7 in float32",
             "torch._foreach_exp", costly=True, algebra="exponential", nonnegative=True,
             on_numbers=floats.exp),
    UnaryRow("log",     r"\log|{x}|",                 _log,       "log|x|; -inf at 0",
             _logs, "torch.log({x})", reads="size", algebra="logarithmic", of=_LOG_OF,
             on_numbers=floats.log),
    UnaryRow("sqrt",    r"\sqrt{{|{x}|}}",            _sqrt,      "sqrt|x|",
             _sqrts, "torch.sqrt({x})", "root", reads="size", algebra="multiplicative", of=_SQRT_OF,
             nonnegative=True, on_numbers=floats.sqrt),
    UnaryRow("clip",    r"\mathrm{{clip}}({x}, {p})", _clip,      "to [-p, p]",
             source="torch.clamp({x}, -{p}, {p})", word="clipped",
             algebra="odd", of=_CLIP_OF, nonnegative="where x is",
             on_numbers=floats.clip,
             parameter="bound", parameter_range=(0.0, math.inf), constants=(1e-5, 1e-4, 1e-3)),
    UnaryRow("drop",    r"\mathrm{{drop}}({x}, {p})", None,       "no rescaling",
             word="dropped", nonnegative="where x is",
             parameter="probability", parameter_range=(0.0, 1.0), constants=(0.1, 0.3, 0.5)),
    UnaryRow("sign",    r"\mathrm{{sign}}({x})",      "torch.sign", "0 at 0, -0.0 and NaN",
             "torch._foreach_sign", reads="sign", algebra="multiplicative", of=_SIGN_OF,
             on_numbers=floats.sign),
    UnaryRow("sigmoid", r"\mathrm{{sigmoid}}({x})",   "torch.sigmoid", "0 and 1 far from 0",
             "torch._foreach_sigmoid", costly=True, nonnegative=True, token=False,
             on_numbers=floats.sigmoid),
)
BINARY = Table(
    BinaryRow("+",  "{X} + {Y}",            "torch.add", "inf - inf is NaN",
              Infix(1, 1, 2), "torch._foreach_add", word="total", algebra="sum",
              on_numbers=operator.add),
    BinaryRow("-",  "{X} - {Y}",            "torch.sub", "inf - inf is NaN",
              Infix(1, 1, 2), "torch._foreach_sub", word="difference", algebra="difference",
              on_numbers=operator.sub),
    BinaryRow("*",  "{X} * {Y}",            "torch.mul", "0 * inf is NaN",
              Infix(2, 2, 3), "torch._foreach_mul", word="product", algebra="product",
              on_numbers=operator.mul),
    BinaryRow("/",  r"\frac{{{x}}}{{{y}}}", "torch.true_divide", "x / (y + 1e-8)",
              Infix(2, 2, 3), "torch._foreach_div", word="ratio", algebra="quotient",
              adds_delta=True, on_numbers=floats.divide),
    BinaryRow("**", "{{{base}}}^{{{y}}}",   "torch.pow", "NaN if x < 0, y fractional",
              Infix(4, ATOM, NEGATION), "torch._foreach_pow", "torch.pow({x}, {y})", "power",
              costly=True, algebra="power", on_numbers=floats.power),
)

# What the second edition adds, for texts and searches that ask for it (`language: 2`).
OPERANDS_2 = Table(
    OperandRow("step",      "k",                       "the number of the update: 1, 2, ...",
               counts=True, nonnegative=True, token=False),
)
UNARY_2 = Table(
    UnaryRow("ema",         r"\mathrm{{ema}}_{{{p}}}({x})", None, "decay * old + (1 - decay) * x",
             word="ema", nonnegative="where x is",
             parameter="decay", parameter_range=(0.0, 1.0), constants=(0.9, 0.99, 0.999),
             recurrence=_moved, definition=lambda state, _: state),
    UnaryRow("average",     r"\mathrm{{average}}_{{{p}}}({x})", None,
             "ema(x, decay) / (1 - decay**step)", word="average", nonnegative="where x is",
             parameter="decay", parameter_range=(0.0, 1.0), constants=(0.9, 0.99, 0.999),
             recurrence=_moved, definition=_unbiased),
    UnaryRow("velocity",    r"\mathrm{{velocity}}_{{{p}}}({x})", None, "decay * old + x",
             word="velocity", nonnegative="where x is",
             parameter="decay", parameter_range=(0.0, 1.0), constants=(0.9, 0.95),
             recurrence=_velocity, definition=lambda state, _: state),
    UnaryRow("mean",        r"\mathrm{{mean}}({x})",  _mean, "over all elements of the tensor",
             source="torch.mean({x}).expand_as(g)", scope="tensor", nonnegative="where x is",
             on_row=floats.mean),
    UnaryRow("norm",        r"\lVert {x} \rVert",     _norm, "root of the sum of squares",
             source="torch.linalg.vector_norm({x}).expand_as(g)", scope="tensor", nonnegative=True,
             on_row=floats.norm),
    UnaryRow("unit",        r"\mathrm{{unit}}({x})",  None, "x / (norm(x) + 1e-8)",
             nonnegative="where x is",
             definition=lambda x, _: Binary("/", x, Unary("norm", x))),
    UnaryRow("orthogonal",  r"\mathrm{{orthogonal}}({x})", _orthogonal,
             "singular values near 1; of matrices", source="orthogonal({x})", scope="matrix",
             on_row=floats.orthogonal),
)
BINARY_2 = Table(
    BinaryRow("max",        r"\max({x}, {y})",       "torch.maximum", "the larger; NaN if one is",
              word="largest", on_numbers=floats.maximum),
    BinaryRow("min",        r"\min({x}, {y})",       "torch.minimum", "the smaller; NaN if one is",
              word="least", on_numbers=floats.minimum),
    # no word: it joins the trees of a rule and its states while they are simplified
    BinaryRow(";",          r"{x}; {y}",              "torch.add", "", token=False),
)
# fmt: on

ALIASES = {alias: row.name for row in OPERANDS.values() for alias in row.aliases}
PERIODIC_DECAY = re.compile(r"(cd|rd)_?([1-9][0-9]{0,5})")


@cache
def find_operand(name: str) -> OperandRow | None:
    """The row of an operand; those of `cd7`, `rd10` and their like are made here."""
    match = PERIODIC_DECAY.fullmatch(name)
    if match is None or "_" in name:
        return OPERANDS.get(name)
    kind, n = match.groups()
    what, decay, angle = {
        "cd": ("cyclical", decays.cyclical, f"2 * math.pi * {n} * elapsed"),
        "rd": ("restart", decays.restart, f"math.pi * (elapsed * {n} % total_steps)"),
    }[kind]
    return OperandRow(
        name,
        f"{kind}_{{{n}}}",
        f"{what} decay of {n} periods",
        decay=decay(int(n)),
        source=f"0.5 * (1 + math.cos({angle} / total_steps))",
        nonnegative=True,
    )


def operand_row(name: str) -> OperandRow:
    """The row of an operand that is in a tree."""
    row = find_operand(name) or OPERANDS_2.get(name) or _state_row(name)
    assert row is not None, name
    return row


@cache
def unary_row(name: str) -> UnaryRow:
    """The row of a function that is in a tree."""
    return UNARY[name] if name in UNARY else UNARY_2[name]


@cache
def binary_row(name: str) -> BinaryRow:
    """The row of a function of two that is in a tree."""
    return BINARY[name] if name in BINARY else BINARY_2[name]


@cache
def _state_row(name: str) -> OperandRow | None:
    """The row for a value of a state that a rule keeps."""
    known = state_of(name)
    if known is None:
        return None
    state, is_old = known
    letters = state if len(state) == 1 else rf"\mathit{{{state}}}"
    if is_old:
        return OperandRow(name, f"{letters}_{{k-1}}", f"the state {state} before this update")
    return OperandRow(state, letters, f"the state {state} after this update")
