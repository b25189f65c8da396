"""`RuleOptimizer`: any update rule of the language as an ordinary `torch.optim.Optimizer`.

State is derived from the rule: only the averages that it reads are kept, next to a step count.
Averages of bfloat16 and float16 parameters are kept, and the arithmetic is done, in float32.

*Readings of the paper*: the first update is step 0 of the decays; averages are updated before the
rule reads them, and start at 0. `t` counts the optimizer's steps; the bias corrections count a
parameter's own updates, which are fewer where it had no gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, overload

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
from nos_repro.rules.rule import Rule

Execution = Callable[[FlatBatch, Step], None]


class RuleOptimizer(Optimizer):
    """w <- w - lr * rule(g, averages, w, decays, noise).

    rule: a `Rule` or its text, e.g. "exp(sign(g) * sign(m)) * g".
    betas: the decay rates of the averages of g, g^2 and g^3.
    eps: what a division adds to its divisor (the papers' delta).
    weight_decay: added to the gradient that the rule sees (L2), or, with
        `decoupled_weight_decay`, taken off the weights at the rate lr * weight_decay.
    total_steps: T of the decays; a rule that reads one cannot do without.
    seed: of the rule's noise and drops; with the step count it is the generator's whole state.
    foreach, fused: which execution runs. By default fused (one compiled pass over memory) where a
        compiler works and the tensors hold a million elements or more, else foreach;
        `foreach=False` is the plain loop, `fused=True` insists.
    maximize: climb instead of descending.

    Raises RuleError (text, missing total_steps) and ConfigError (any other setting). A non-finite
    update is no error: the run has diverged.
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
            "rule": str(rule if isinstance(rule, Rule) else Rule.parse(rule)),
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
        """Adds parameters with options of their own; they join at the optimizer's present step."""
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
        """The group's parameters by what one call can update at once."""
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
        """The flat views of a parameter and its averages, made again when they have moved."""
        known: dict[Tensor, FlatView] = self.__dict__.setdefault("_laid_parameters", {})
        laid = known.get(p)
        if laid is None or not laid.holds(p, state):
            laid = known[p] = FlatView(p, state, program.averages)
        return laid

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Takes over a saved state, bit for bit; how it is executed stays this optimizer's own.

        Raises ConfigError if the state is of another rule, or does not fit the parameters.
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
                    f"  saved:  {saved.get('rule', 'no rule of this package')}\n"
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
    return lower(Rule.parse(rule).expr)


@cache
def _needs_total_steps(rule: str) -> bool:
    return Rule.parse(rule).needs_total_steps


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
    if steps is None and _needs_total_steps(str(group["rule"])):
        raise RuleError(
            f"the rule {group['rule']} reads a decay, which ends with the training\n"
            "  give total_steps: the number of updates in all"
        )
    if group["foreach"] and group["fused"]:
        raise ConfigError("foreach and fused exclude each other: give one of them")


def _check_number(name: str, value: float) -> None:
    if not (isinstance(value, int | float) and math.isfinite(value) and value >= 0):
        raise ConfigError(f"{name} must be a finite number >= 0, got {value!r}")
