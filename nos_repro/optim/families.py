"""PowerSign and AddSign, the two families that the search found (sec. 5.1), as classes."""

import math
from typing import Any

from torch import Tensor
from torch.optim.optimizer import ParamsT

from nos_repro.optim.rule_optimizer import RuleOptimizer
from nos_repro.rules.families import FAMILIES, Family


class PowerSign(RuleOptimizer):
    """PowerSign: larger steps where gradient and momentum agree in sign.

    Each update is

        m <- beta * m + (1 - beta) * g
        w <- w - lr * base ** (f(t) * sign(g) * sign(m)) * g

    so that with the default base a gradient counts e times where its sign is that
    of its average m, and 1/e times where they differ. A decay f(t) from 1 to 0
    turns the update into that of SGD by the end of the training. PowerSign keeps
    one average per weight; Adam keeps two.

    Args:
        params: the parameters to train, or groups of them as dicts, as for any
            torch optimizer.
        lr: the learning rate, a number >= 0 or a tensor of one element. The paper's
            advice (sec. 8.1): begin with the rate of SGD.
        base: the factor of a gradient that agrees; a finite number > 0.
        beta: the decay rate of the average m; in [0, 1).
        decay: the internal decay f(t), one of
            None: f = 1;
            "ld": linear, 1 - t/T;
            "cd": cosine, from 1 to 0 in half a period;
            "cd{n}", such as "cd3": cosine of n whole periods;
            "rd{n}", such as "rd20": n cosines from 1 to 0, one after the other.
            The paper recommends "cd".
        total_steps: T, the number of updates in the whole training; needed with a
            decay.
        weight_decay: how much of the weight is added to the gradient (L2); >= 0.
        decoupled_weight_decay: instead subtract lr * weight_decay times the weight
            from the weight itself, as AdamW does.
        foreach: update all tensors in one call (True) or in a plain loop (False).
        fused: update all tensors in one compiled pass over memory. If neither is
            given, this is used where a compiler works and the tensors are large,
            `foreach` elsewhere.
        maximize: climb instead of descending.

    Raises:
        RuleError: `decay` is unknown, or `total_steps` is missing.
        ConfigError: another argument is impossible, a parameter is not a dense
            tensor of real floating-point numbers, or, in `step`, a gradient is
            sparse.

    Example:
        >>> import torch
        >>> from nos_repro import PowerSign
        >>> w = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
        >>> optimizer = PowerSign([w], lr=0.05, decay="cd", total_steps=4)
        >>> for step in range(4):
        ...     optimizer.zero_grad()
        ...     loss = (w**2).sum()
        ...     loss.backward()
        ...     optimizer.step()
        ...     print(f"loss {loss.item():.2f}")
        loss 5.00
        loss 2.65
        loss 1.55
        loss 1.08

    References:
        I. Bello, B. Zoph, V. Vasudevan, Q. Le, "Neural Optimizer Search with
        Reinforcement Learning", ICML 2017, arXiv:1709.07417, section 5.1.

    Notes:
        The defaults are those of the authors' TensorFlow code. The first update
        sees f(0), and m already holds that update's gradient. m starts at 0; a bias
        correction would not change its sign, so there is none. sign(0) is 0.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.1,
        base: float = math.e,
        beta: float = 0.9,
        decay: str | None = None,
        total_steps: int | None = None,
        *,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            FAMILIES["powersign"].rule(decay, base=base),
            lr,
            betas=(beta, 0.999, 0.999),
            total_steps=total_steps,
            weight_decay=weight_decay,
            decoupled_weight_decay=decoupled_weight_decay,
            foreach=foreach,
            fused=fused,
            maximize=maximize,
        )


class AddSign(RuleOptimizer):
    """AddSign: steps of SGD, doubled where gradient and momentum agree in sign.

    Each update is

        m <- beta * m + (1 - beta) * g
        w <- w - lr * (alpha + f(t) * sign(g) * sign(m)) * g

    so that with the default alpha a gradient counts twice where its sign is that of
    its average m, and not at all where they differ. A decay f(t) from 1 to 0 turns
    the update into that of SGD by the end of the training. AddSign keeps one
    average per weight; Adam keeps two.

    Args:
        params: the parameters to train, or groups of them as dicts, as for any
            torch optimizer.
        lr: the learning rate, a number >= 0 or a tensor of one element. The paper's
            advice (sec. 8.1): begin with the rate of SGD.
        alpha: the factor to which the agreement, 1, 0 or -1, is added; finite.
        beta: the decay rate of the average m; in [0, 1).
        decay: the internal decay f(t), one of
            None: f = 1;
            "ld": linear, 1 - t/T;
            "cd": cosine, from 1 to 0 in half a period;
            "cd{n}", such as "cd3": cosine of n whole periods;
            "rd{n}", such as "rd20": n cosines from 1 to 0, one after the other.
            The paper recommends "ld".
        total_steps: T, the number of updates in the whole training; needed with a
            decay.
        weight_decay: how much of the weight is added to the gradient (L2); >= 0.
        decoupled_weight_decay: instead subtract lr * weight_decay times the weight
            from the weight itself, as AdamW does.
        foreach: update all tensors in one call (True) or in a plain loop (False).
        fused: update all tensors in one compiled pass over memory. If neither is
            given, this is used where a compiler works and the tensors are large,
            `foreach` elsewhere.
        maximize: climb instead of descending.

    Raises:
        RuleError: `decay` is unknown, or `total_steps` is missing.
        ConfigError: another argument is impossible, a parameter is not a dense
            tensor of real floating-point numbers, or, in `step`, a gradient is
            sparse.

    Example:
        >>> import torch
        >>> from nos_repro import AddSign
        >>> w = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
        >>> optimizer = AddSign([w], lr=0.05, decay="ld", total_steps=4)
        >>> for step in range(4):
        ...     optimizer.zero_grad()
        ...     loss = (w**2).sum()
        ...     loss.backward()
        ...     optimizer.step()
        ...     print(f"loss {loss.item():.2f}")
        loss 5.00
        loss 3.20
        loss 2.18
        loss 1.57

    References:
        I. Bello, B. Zoph, V. Vasudevan, Q. Le, "Neural Optimizer Search with
        Reinforcement Learning", ICML 2017, arXiv:1709.07417, section 5.1.

    Notes:
        The defaults are those of the authors' TensorFlow code. The first update
        sees f(0), and m already holds that update's gradient. m starts at 0; a bias
        correction would not change its sign, so there is none. sign(0) is 0.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.1,
        alpha: float = 1.0,
        beta: float = 0.9,
        decay: str | None = None,
        total_steps: int | None = None,
        *,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            FAMILIES["addsign"].rule(decay, alpha=alpha),
            lr,
            betas=(beta, 0.999, 0.999),
            total_steps=total_steps,
            weight_decay=weight_decay,
            decoupled_weight_decay=decoupled_weight_decay,
            foreach=foreach,
            fused=fused,
            maximize=maximize,
        )


def of_family(
    family: Family, params: ParamsT, *, decay: str | None = None, **options: Any
) -> RuleOptimizer:
    """The optimizer for a family that has no class of its own.

    options: the family's constants, and the options of `RuleOptimizer`.
    """
    constants = {c.name: options.pop(c.name) for c in family.constants if c.name in options}
    return RuleOptimizer(params, family.rule(decay, **constants), **options)
