"""`RuleOptimizer`: any update rule of the language as an ordinary `torch.optim.Optimizer`.

State is derived from the rule: only the averages that it reads are kept, besides a step count.
For bfloat16 and float16 parameters, averages and arithmetic are in float32.

*Readings of the paper*: the first update is step 0 of the decays; averages are updated before the
rule reads them, and start at 0. `t` counts the optimizer's steps; the bias corrections count a
parameter's own updates, which are fewer where it had no gradient.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from functools import cache
from typing import TYPE_CHECKING, Any, overload

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT, StateDict

from nos_repro.errors import ConfigError, RuleError
from nos_repro.optim.batch import FlatBatch, FlatView, Step, new_average
from nos_repro.optim.foreach import update_foreach
from nos_repro.optim.fused import use_fused
from nos_repro.optim.program import Program, lower, scalar_inputs
from nos_repro.optim.reference import update_reference
from nos_repro.rules.parse import parse
from nos_repro.rules.printing import print_expr

if TYPE_CHECKING:
    from nos_repro.rules.rule import Rule

Execution = Callable[[FlatBatch, Step], None]


class RuleOptimizer(Optimizer):
    """Any update rule of the language as an optimizer.

    Each update is

        m <- beta1 * m + (1 - beta1) * g            for rules that read m or adam
        v <- beta2 * v + (1 - beta2) * g^2          ... v, adam or rmsprop
        gamma <- beta3 * gamma + (1 - beta3) * g^3  ... gamma
        w <- w - lr * rule(g, m_hat, v_hat, gamma_hat, w, decays, noise)

    where the hat is the bias correction, m_hat = m / (1 - beta1^k) after k updates.
    Only the averages that the rule reads are kept. `python -m nos_repro rule TEXT`
    explains a rule.

    Args:
        params: the parameters to train, or groups of them as dicts, as for any
            torch optimizer.
        rule: a `Rule` or its text, such as "exp(sign(g) * sign(m)) * g".
        lr: the learning rate, a number >= 0 or a tensor of one element.
        betas: the decay rates of the averages of g, g^2 and g^3; in [0, 1).
        eps: what a division adds to its divisor (the papers' delta); >= 0.
        weight_decay: how much of the weight is added to the gradient that the rule
            sees (L2); >= 0.
        decoupled_weight_decay: instead subtract lr * weight_decay times the weight
            from the weight itself, as AdamW does.
        total_steps: T, the number of updates in the whole training; needed if the
            rule reads a decay (ld, cd, cd{n}, rd{n}).
        seed: the seed of the rule's noise and drops, a whole number. What an update
            draws depends only on the seed and the number of the update.
        foreach: update all tensors in one call (True) or in a plain loop (False).
        fused: update all tensors in one compiled pass over memory. If neither is
            given, this is used where a compiler works and the tensors hold a
            million elements or more, `foreach` elsewhere.
        maximize: climb instead of descending.

    Raises:
        RuleError: the text is not a rule, or `total_steps` is missing.
        ConfigError: another argument is impossible, a parameter is not a dense
            tensor of real floating-point numbers, or, in `step`, a gradient is
            sparse.

    Example:
        >>> import torch
        >>> from nos_repro import RuleOptimizer
        >>> w = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
        >>> optimizer = RuleOptimizer([w], "adam * exp(sign(g) * sign(m))", lr=0.1)
        >>> for step in range(4):
        ...     optimizer.zero_grad()
        ...     loss = (w**2).sum()
        ...     loss.backward()
        ...     optimizer.step()
        ...     print(f"loss {loss.item():.2f}")
        loss 5.00
        loss 3.52
        loss 2.34
        loss 1.46

    References:
        I. Bello, B. Zoph, V. Vasudevan, Q. Le, "Neural Optimizer Search with
        Reinforcement Learning", ICML 2017, arXiv:1709.07417, sections 3.1 and 4.1.

    Notes:
        Where the papers leave it open: the decays see t = 0 at the first update,
        and t counts the optimizer's steps. A bias correction counts the updates of
        its parameter, which are fewer where the parameter had no gradient. Averages
        start at 0 and are updated before the rule reads them. With float16 and
        bfloat16 parameters, averages and arithmetic are in float32. A non-finite
        update is not an error: the run has diverged.
    """

    def __init__(
        self,
        params: ParamsT,
        rule: Rule | str,
        lr: float | Tensor,
        *,
        betas: tuple[float, float, float] = (0.9, 0.999, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        total_steps: int | None = None,
        seed: int = 0,
        foreach: bool | None = None,
        fused: bool | None = None,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "rule": print_expr(parse(str(rule))),
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "total_steps": total_steps,
            "seed": seed,
            "foreach": foreach,
            "fused": fused,
            "maximize": maximize,
        }
        _check_group(defaults)
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds parameters with their own options; they join at the optimizer's current step."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            _check_group(group)
            for p in group["params"]:
                _check_parameter(p)
        except Exception:
            self.param_groups.pop()
            raise
        group["rule"] = str(group["rule"])
        group.setdefault("t", max((g.get("t", 0) for g in self.param_groups), default=0))

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of every parameter that has a gradient; returns the closure's loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        first = 0
        for group in self.param_groups:
            self._step_group(group, first)
            first += len(group["params"])
        return loss

    def _step_group(self, group: dict[str, Any], first: int) -> None:
        program = program_of(group["rule"])
        batches = self._batches(group, program, first)
        for (_, _, updates), batch in batches.items():
            step = _step(group, program, updates)
            _choose(group, batch, step)(batch, step)
            batch.copy_back()
        group["t"] += 1

    def _batches(
        self, group: dict[str, Any], program: Program, first: int
    ) -> dict[tuple[torch.device, torch.dtype, int], FlatBatch]:
        """The group's parameters in batches that one call can update."""
        batches: dict[tuple[torch.device, torch.dtype, int], FlatBatch] = {}
        for number, p in enumerate(group["params"], start=first):
            g = p.grad
            if g is None:
                continue
            if g.layout != torch.strided:
                raise ConfigError(
                    f"a rule needs dense gradients; parameter {number} has a sparse one\n"
                    "  use torch.optim.SparseAdam for it, or sparse=False in its embedding"
                )
            state = self.state[p]
            if not state:
                state["step"] = 0
                state.update({name: new_average(p) for name in program.averages})
            state["step"] += 1
            key = p.device, p.dtype, state["step"] if program.corrections else 0
            if key not in batches:
                batches[key] = FlatBatch()
            batches[key].add(self._laid(p, state, program), g, number)
        return batches

    def _laid(self, p: Tensor, state: dict[str, Any], program: Program) -> FlatView:
        """The flat views of a parameter and its averages, made again if these have moved."""
        known: dict[Tensor, FlatView] = self.__dict__.setdefault("_laid_parameters", {})
        laid = known.get(p)
        if laid is None or not laid.holds(p, state):
            laid = known[p] = FlatView(p, state, program.averages)
        return laid

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Fills the options that older pickles and saved states lack."""
        super().__setstate__(state)
        for option, argument in inspect.signature(RuleOptimizer).parameters.items():
            if argument.default is not argument.empty:
                for group in [self.defaults, *self.param_groups]:
                    group.setdefault(option, argument.default)
        for group in self.param_groups:
            group.setdefault("t", max(map(self._updates, group["params"]), default=0))

    def _updates(self, p: Tensor) -> int:
        return int(self.state[p]["step"]) if p in self.state else 0

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Loads a saved state, bit for bit, but keeps this optimizer's `foreach` and `fused`.

        Raises ConfigError if the state belongs to another rule or does not fit the parameters.
        """
        self._check_saved(state_dict)
        execution = [{k: group[k] for k in ("foreach", "fused")} for group in self.param_groups]
        super().load_state_dict(state_dict)
        for group, own in zip(self.param_groups, execution, strict=True):
            group.update(own)
        for key, p in _saved_keys(self, state_dict):
            for name in program_averages(self.state.get(p, {})):
                # torch would have cast it to the parameter's dtype
                self.state[p][name] = new_average(p).copy_(state_dict["state"][key][name])

    def _check_saved(self, state_dict: StateDict) -> None:
        for own, saved in zip(self.param_groups, state_dict["param_groups"], strict=False):
            if saved.get("rule") != own["rule"]:
                raise ConfigError(
                    "this state belongs to another update rule\n"
                    f"  saved:  {saved.get('rule', 'not a rule of this package')}\n"
                    f"  here:   {own['rule']}"
                )
        for key, p in _saved_keys(self, state_dict):
            state = state_dict["state"].get(key)
            if state is None:
                continue
            for name in self._averages_of(p):
                if name not in state or state[name].shape != p.shape:
                    given = tuple(state[name].shape) if name in state else "nothing"
                    raise ConfigError(
                        f"this state does not fit: average '{name}' of parameter {key} must have "
                        f"shape {tuple(p.shape)}, got {given}"
                    )

    def _averages_of(self, p: Tensor) -> tuple[str, ...]:
        for group in self.param_groups:
            if any(p is q for q in group["params"]):
                return program_of(group["rule"]).averages
        return ()


@cache
def program_of(rule: str) -> Program:
    """The program of a rule's text."""
    return lower(parse(rule))


def program_averages(state: dict[str, Any]) -> list[str]:
    """The names of the averages in a parameter's state."""
    return [name for name in state if name != "step"]


def _saved_keys(optimizer: Optimizer, state_dict: StateDict) -> Iterable[tuple[int, Tensor]]:
    """The saved name of every parameter."""
    for own, saved in zip(optimizer.param_groups, state_dict["param_groups"], strict=False):
        yield from zip(saved["params"], own["params"], strict=False)


def _step(group: dict[str, Any], program: Program, updates: int) -> Step:
    lr = group["lr"]
    inputs = scalar_inputs(
        program,
        betas=group["betas"],
        eps=group["eps"],
        t=group["t"],
        total_steps=group["total_steps"],
        updates=updates,
    )
    return Step(
        program=program,
        lr=lr.reshape(()) if isinstance(lr, Tensor) else lr,
        betas=group["betas"],
        weight_decay=group["weight_decay"],
        decoupled=group["decoupled_weight_decay"],
        maximize=group["maximize"],
        seed=group["seed"],
        t=group["t"],
        inputs=inputs,
    )


def _choose(group: dict[str, Any], batch: FlatBatch, step: Step) -> Execution:
    fused = None if group["foreach"] is None else False
    wish = group["fused"] if group["fused"] is not None else fused
    execution = use_fused(wish, batch, step)
    if execution is not None:
        return execution
    return update_reference if group["foreach"] is False else update_foreach


def _check_parameter(p: Tensor) -> None:
    if p.layout != torch.strided:
        raise ConfigError(f"a rule needs dense parameters, got one of layout {p.layout}")
    if not p.is_floating_point():
        raise ConfigError(
            f"a rule needs real floating-point parameters, got one of {p.dtype}\n"
            "  a complex parameter can be given as torch.view_as_real(parameter)"
        )


def _check_group(group: dict[str, Any]) -> None:
    lr, betas = group["lr"], group["betas"]
    if isinstance(lr, Tensor) and lr.numel() != 1:
        raise ConfigError(f"lr must be a number or a tensor of one element, got {lr.numel()}")
    if not isinstance(lr, Tensor):
        _check_number("lr", lr)
    _check_number("eps", group["eps"])
    _check_number("weight_decay", group["weight_decay"])
    if len(betas) != 3 or not all(0 <= beta < 1 for beta in betas):
        raise ConfigError(f"betas must be three numbers in [0, 1), got {betas}")
    steps = group["total_steps"]
    if steps is not None and (not isinstance(steps, int) or steps < 1):
        raise ConfigError(f"total_steps must be a positive integer, got {steps!r}")
    if steps is None and program_of(str(group["rule"])).decays:
        raise RuleError(
            f"the rule {group['rule']} reads a decay, which ends with the training\n"
            "  give total_steps: the total number of updates"
        )
    if group["foreach"] and group["fused"]:
        raise ConfigError("foreach and fused exclude each other: give one of them")


def _check_number(name: str, value: float) -> None:
    if not (isinstance(value, int | float) and math.isfinite(value) and value >= 0):
        raise ConfigError(f"{name} must be a finite number >= 0, got {value!r}")
