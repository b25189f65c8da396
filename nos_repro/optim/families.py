"""PowerSign and AddSign, the two families that the search found (sec. 5.1)."""

import math
from typing import Any

from torch import Tensor
from torch.optim.optimizer import ParamsT

from nos_repro.errors import ConfigError, RuleError, unknown
from nos_repro.optim.rule_optimizer import RuleOptimizer
from nos_repro.rules.primitives import find_operand
from nos_repro.rules.rule import Rule
from nos_repro.rules.tree import Binary, Expr, Number, Operand, Unary

DECAYS = ("ld", "cd", "cd{n}", "rd{n}")


def agreement(decay: str | None) -> Expr:
    """f(t) * sign(g) * sign(m)."""
    product = Binary("*", Unary("sign", Operand("g")), Unary("sign", Operand("m")))
    if decay is None:
        return product
    row = find_operand(decay)
    if row is None or not row.needs_total_steps:
        raise RuleError(unknown("decay", decay, DECAYS))
    return Binary("*", Operand(decay), product)


def powersign_rule(base: float = math.e, decay: str | None = None) -> Rule:
    """base ** (f(t) * sign(g) * sign(m)) * g."""
    if not (math.isfinite(base) and base > 0):
        raise ConfigError(f"base must be a finite number > 0, got {base!r}")
    power = agreement(decay)
    factor = Unary("exp", power) if base == math.e else Binary("**", Number(float(base)), power)
    return Rule(Binary("*", factor, Operand("g")))


def addsign_rule(alpha: float = 1.0, decay: str | None = None) -> Rule:
    """(alpha + f(t) * sign(g) * sign(m)) * g."""
    if not math.isfinite(alpha):
        raise ConfigError(f"alpha must be a finite number, got {alpha!r}")
    constant: Expr = Number(abs(float(alpha)))
    if alpha < 0:
        constant = Unary("neg", constant)
    return Rule(Binary("*", Binary("+", constant, agreement(decay)), Operand("g")))


class PowerSign(RuleOptimizer):
    """w <- w - lr * base ** (f(t) * sign(g) * sign(m)) * g, with m the average of g.

    decay: f(t), one of None (f = 1), "ld", "cd", "cd{n}", "rd{n}"; needs `total_steps`.
    The other options are those of `RuleOptimizer`. Defaults are those of the authors' code.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.1,
        base: float = math.e,
        beta: float = 0.9,
        decay: str | None = None,
        total_steps: int | None = None,
        **options: Any,
    ) -> None:
        rule = powersign_rule(base, decay)
        super().__init__(
            params, rule, lr, betas=(beta, 0.999, 0.999), total_steps=total_steps, **options
        )


class AddSign(RuleOptimizer):
    """w <- w - lr * (alpha + f(t) * sign(g) * sign(m)) * g, with m the average of g.

    decay: f(t), one of None (f = 1), "ld", "cd", "cd{n}", "rd{n}"; needs `total_steps`.
    The other options are those of `RuleOptimizer`. Defaults are those of the authors' code.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.1,
        alpha: float = 1.0,
        beta: float = 0.9,
        decay: str | None = None,
        total_steps: int | None = None,
        **options: Any,
    ) -> None:
        rule = addsign_rule(alpha, decay)
        super().__init__(
            params, rule, lr, betas=(beta, 0.999, 0.999), total_steps=total_steps, **options
        )
