"""PowerSign and AddSign, the two families that the search found (sec. 5.1), as classes."""

import inspect
import math
from functools import cache
from itertools import product
from typing import Any, ClassVar

from torch import Tensor
from torch.optim.optimizer import ParamsT

from nos_repro.errors import ConfigError
from nos_repro.optim.options import check_common, fraction, number
from nos_repro.optim.rule_optimizer import RuleOptimizer
from nos_repro.rules.families import FAMILIES, Family, is_decay
from nos_repro.rules.parse import parse
from nos_repro.rules.tree import Number, Operand, walk


class FamilyOptimizer(RuleOptimizer):
    """What PowerSign and AddSign share: a group's rule follows from its own constants and decay."""

    family: ClassVar[Family]

    def _as_rule(self, group: dict[str, Any]) -> dict[str, Any]:
        constants = tuple(group[constant.name] for constant in self.family.constants)
        return {
            **group,
            "rule": _text(self.family, group["decay"], constants),
            "betas": (group["beta"], 0.999, 0.999),
            "eps": 1e-8,
            "seed": 0,
        }

    def _check(self, options: dict[str, Any]) -> None:
        check_common(options)
        options["beta"] = fraction("beta", options["beta"])
        for constant in self.family.constants:
            options[constant.name] = number(constant.name, options[constant.name])
        if not isinstance(options["decay"], str | None):
            raise ConfigError(f"decay must be a name such as 'ld', got {options['decay']!r}")
        self.rule_of(options)

    def saved_rule_of(self, group: dict[str, Any]) -> str | None:
        if "rule" in group:
            return str(group["rule"])
        if not group.keys() >= {constant.name for constant in self.family.constants}:
            return None
        options = dict(group)
        self._complete(options)
        return self.rule_of(options)

    def _complete(self, options: dict[str, Any]) -> None:
        """Older versions saved the rule and `RuleOptimizer`'s options in place of the family's."""
        if "rule" in options:
            options.update(_constants(self.family, options.pop("rule")))
            options["beta"] = options.pop("betas", (0.9,))[0]
            for other in ("eps", "seed"):
                options.pop(other, None)
        super()._complete(options)


@cache
def _text(family: Family, decay: str | None, constants: tuple[float, ...]) -> str:
    names = [constant.name for constant in family.constants]
    return str(family.rule(decay, **dict(zip(names, constants, strict=True))))


def _constants(family: Family, text: str) -> dict[str, Any]:
    """The decay and the constants with which a family's rule has this text."""
    tree = parse(text)
    numbers = [node.value for node in walk(tree) if isinstance(node, Number)]
    values = dict.fromkeys([math.e, *numbers, *(-x for x in numbers)])
    decays = [node.name for node in walk(tree) if isinstance(node, Operand) and is_decay(node.name)]
    for constants in product(values, repeat=len(family.constants)):
        for decay in (None, *decays):
            try:
                found = _text(family, decay, constants) == text
            except ConfigError:  # a constant that this family cannot have
                continue
            if found:
                names = [constant.name for constant in family.constants]
                return {"decay": decay, **dict(zip(names, constants, strict=True))}
    raise ConfigError(f"this state belongs to another update rule: {text} is not {family.label}")


class PowerSign(FamilyOptimizer):
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
        master_weights: keep a float32 copy of float16 and bfloat16 parameters in
            the state; the copy is updated, and the parameter is its rounded value.
            Without it, updates that are too small for the parameter's precision
            (below 1/512 of a bfloat16 weight) are lost.
        capturable: keep the number of the step and the rate as tensors on the
            device, so that a CUDA graph can hold the update. A schedule fills the
            rate, and a replay sees it.

    Raises:
        RuleError: `decay` is unknown, or `total_steps` is missing.
        ConfigError: another argument is impossible, a parameter is not a dense
            tensor of real floating-point numbers, or, in `step`, a gradient is
            sparse.

    Examples:
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

    family = FAMILIES["powersign"]

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
        master_weights: bool = False,
        capturable: bool = False,
    ) -> None:
        self._begin(
            params,
            {
                "lr": lr,
                "base": base,
                "beta": beta,
                "decay": decay,
                "total_steps": total_steps,
                "weight_decay": weight_decay,
                "decoupled_weight_decay": decoupled_weight_decay,
                "foreach": foreach,
                "fused": fused,
                "maximize": maximize,
                "master_weights": master_weights,
                "capturable": capturable,
            },
        )

    arguments = inspect.signature(__init__).parameters


class AddSign(FamilyOptimizer):
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
        master_weights: keep a float32 copy of float16 and bfloat16 parameters in
            the state; the copy is updated, and the parameter is its rounded value.
            Without it, updates that are too small for the parameter's precision
            (below 1/512 of a bfloat16 weight) are lost.
        capturable: keep the number of the step and the rate as tensors on the
            device, so that a CUDA graph can hold the update. A schedule fills the
            rate, and a replay sees it.

    Raises:
        RuleError: `decay` is unknown, or `total_steps` is missing.
        ConfigError: another argument is impossible, a parameter is not a dense
            tensor of real floating-point numbers, or, in `step`, a gradient is
            sparse.

    Examples:
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

    family = FAMILIES["addsign"]

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
        master_weights: bool = False,
        capturable: bool = False,
    ) -> None:
        self._begin(
            params,
            {
                "lr": lr,
                "alpha": alpha,
                "beta": beta,
                "decay": decay,
                "total_steps": total_steps,
                "weight_decay": weight_decay,
                "decoupled_weight_decay": decoupled_weight_decay,
                "foreach": foreach,
                "fused": fused,
                "maximize": maximize,
                "master_weights": master_weights,
                "capturable": capturable,
            },
        )

    arguments = inspect.signature(__init__).parameters


def of_family(
    family: Family, params: ParamsT, *, decay: str | None = None, **options: Any
) -> RuleOptimizer:
    """The optimizer for a family that has no class of its own.

    options: the family's constants, and the options of `RuleOptimizer`.
    """
    constants = {c.name: options.pop(c.name) for c in family.constants if c.name in options}
    return RuleOptimizer(params, family.rule(decay, **constants), **options)
