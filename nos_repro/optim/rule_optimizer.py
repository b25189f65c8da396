"""`RuleOptimizer`: any update rule of the language as an ordinary `torch.optim.Optimizer`.

State is derived from the rule: only the averages that it reads are kept, besides a step count.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable
from typing import Any, overload

import torch
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT, StateDict

from nos_repro.errors import ConfigError, SparseGradientError
from nos_repro.optim.batch import FlatParameter, Layout, ParameterBatch, new_average
from nos_repro.optim.capture import (
    UpdateCounts,
    check_capture,
    is_capturing,
    load_numbers,
    put_on_device,
)
from nos_repro.optim.execution import update
from nos_repro.optim.groups import (
    MASTER,
    check_group,
    check_total_steps,
    is_empty_step,
    keeps_master,
    program_of,
    start_state,
    step_of,
)
from nos_repro.optim.loading import check_saved, kept_as, saved_states
from nos_repro.optim.options import check_common, fractions, nonnegative, whole
from nos_repro.optim.program import Program
from nos_repro.optim.sharding import local_gradient, local_part, number_of, spread_of
from nos_repro.rules.rule import Rule

EXECUTION = ("foreach", "fused", "capturable")  # how an update is made, not what it is
_SEEDS = itertools.count(1 << 32)  # for optimizers that are given none; nobody chooses these


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
        rule: a `Rule` or its text, such as "exp(sign(g) * sign(m)) * g"; in the
            language's second edition "language 2: u <- 0.9 * u + g; u", where the
            state u is kept too.
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
            draws depends only on the seed, the number of the update, the place of
            the parameter in the optimizer and that of the element in the parameter.
            Processes whose optimizers have different parameters of a model
            (pipeline stages, `ZeroRedundancyOptimizer`) first call
            `nos_repro.optim.sharding.number_parameters(model.parameters())`.
            None: a number of its own for every optimizer that this process makes,
            by their order; it is saved with the state.
        foreach: update all tensors in one call (True) or in a plain loop (False).
        fused: update all tensors in one compiled pass over memory. If neither is
            given, this is used where a compiler works and the tensors hold a
            million elements or more, `foreach` elsewhere.
        maximize: climb instead of descending.
        master_weights: keep a float32 copy of float16 and bfloat16 parameters in
            the state; the copy is updated, and the parameter is its rounded value.
            Without it, updates that are too small for the parameter's precision
            (below 1/512 of a bfloat16 weight) are lost.
        capturable: keep the number of the step and the rate as tensors on the
            device, so that a CUDA graph can hold the update. A schedule fills the
            rate, and a replay sees it.

    Raises:
        RuleError: the text is not a rule, or `total_steps` is missing.
        ConfigError: another argument is impossible, a parameter is not a dense
            tensor of real floating-point numbers, or, in `step`, a gradient is
            sparse.

    Examples:
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
        seed: int | None = None,
        foreach: bool | None = None,
        fused: bool | None = None,
        maximize: bool = False,
        master_weights: bool = False,
        capturable: bool = False,
    ) -> None:
        self._begin(
            params,
            {
                "rule": str(rule),
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
                "master_weights": master_weights,
                "capturable": capturable,
            },
        )

    arguments = inspect.signature(__init__).parameters

    def _begin(self, params: ParamsT, defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self._check(defaults)
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds parameters with their own options; they join at the optimizer's current step."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            self._check(group)
            check_group(self.rule_of(group), group)
        except Exception:
            self.param_groups.pop()
            raise
        group.setdefault("t", max((int(g.get("t", 0)) for g in self.param_groups), default=0))
        if group["capturable"]:
            put_on_device(group)

    def rule_of(self, group: dict[str, Any]) -> str:
        """The text of the rule that updates a parameter group, as its options make it."""
        return str(self._as_rule(group)["rule"])

    def _as_rule(self, group: dict[str, Any]) -> dict[str, Any]:
        """A group's options as those of `RuleOptimizer`."""
        return group

    def _check(self, options: dict[str, Any]) -> None:
        """Checks the options of a group, or the defaults."""
        check_common(options)
        options["rule"] = str(Rule.parse(str(options["rule"])))
        options["betas"] = fractions("betas", options["betas"], 3)
        options["eps"] = nonnegative("eps", options["eps"])
        if options["seed"] is None:
            options["seed"] = next(_SEEDS) if options is self.defaults else self.defaults["seed"]
        options["seed"] = whole("seed", options["seed"])

    def saved_rule_of(self, group: dict[str, Any]) -> str | None:
        """The text of the rule that a saved group belongs to, None if it has none."""
        return group.get("rule")

    def _complete(self, options: dict[str, Any]) -> None:
        """Adds the options that an older version did not save, with their defaults."""
        if "seed" in self.arguments:
            options.setdefault("seed", 0)  # older versions' default
        for name, argument in self.arguments.items():
            if argument.default is not argument.empty:
                options.setdefault(name, argument.default)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @_disable_dynamo
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of every parameter that has a gradient; returns the closure's loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if is_capturing():
            check_capture(self)
        if self._only_makes_state():
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is not None:
                        start_state(self.state[p], p, program_of(self.rule_of(group)), group)
            return loss
        first = 0
        for group in self.param_groups:
            self._step_group(group, first)
            first += len(group["params"])
        return loss

    def _only_makes_state(self) -> bool:
        """Whether this step is to make the state and no update.

        `torch.distributed.checkpoint.state_dict` takes such a step before the first one: its rate
        and gradients are 0. Counted, it would use up f(0).
        """
        return not self.state and is_empty_step(self.param_groups)

    def _step_group(self, group: dict[str, Any], first: int) -> None:
        if group["capturable"]:
            put_on_device(group)
        options = self._as_rule(group)
        program = program_of(options["rule"])
        check_total_steps(options["rule"], program, options)
        for batch, updates in self._batches(group, program, first):
            update(group, batch, step_of(options, program, updates, batch.device))
            batch.copy_back()
        if group["master_weights"]:
            for p in group["params"]:
                if p.grad is not None and keeps_master(p, group):
                    p.copy_(self.state[p][MASTER])
        group["t"] += 1

    def _batches(
        self, group: dict[str, Any], program: Program, first: int
    ) -> list[tuple[ParameterBatch, int | Tensor]]:
        """The group's parameters in batches that one call can update, and how many updates each
        has seen, this one included."""
        batches: dict[tuple[torch.device, torch.dtype, int], ParameterBatch] = {}
        known = self._known(program, group)
        counts = UpdateCounts() if group["capturable"] else None
        for number, p in enumerate(group["params"], start=first):
            g = p.grad
            if g is None:
                continue
            if g.layout != torch.strided:
                raise SparseGradientError(
                    f"a rule needs dense gradients; parameter {number} has a sparse one\n"
                    "  use torch.optim.SparseAdam for it, or sparse=False in its embedding"
                )
            state = self.state[p]
            w = state.get(MASTER, p) if group["master_weights"] else p
            flat = known.get(number)
            if flat is None or "step" not in state or not flat.holds(w, state):
                flat = self._flatten(p, number, program, group)
                if flat.stays:
                    known[number] = flat
                w = state.get(MASTER, p) if group["master_weights"] else p
            if counts is None:
                seen = state["step"] = int(state["step"]) + 1  # others may save it as a tensor
            else:
                seen = counts.add(state, flat.device)
            key = flat.device, flat.dtype, seen if program.counts else 0
            batch = batches.get(key)
            if batch is None:
                batch = batches[key] = ParameterBatch()
            if type(g) is not Tensor or w is not p:
                g = local_gradient(g, w).to(flat.dtype)
            batch.add(flat, g, number_of(p, number))
        if counts is None:
            return [(batch, updates) for (_, _, updates), batch in batches.items()]
        idle = [self.state[p] for p in group["params"] if p.grad is None and p in self.state]
        updates = counts.advance(idle)
        return [(batch, updates.get(seen, 0)) for (_, _, seen), batch in batches.items()]

    def _known(self, program: Program, group: dict[str, Any]) -> dict[int, FlatParameter]:
        """What earlier steps know of the parameters, by their numbers."""
        known: dict[Any, dict[int, FlatParameter]] = self.__dict__.setdefault("_flat", {})
        return known.setdefault((program, group["master_weights"]), {})

    def _flatten(
        self, p: Tensor, number: int, program: Program, group: dict[str, Any]
    ) -> FlatParameter:
        """Where the parameter and its averages lie; makes what its state lacks."""
        state = self.state[p]
        if "step" not in state or (keeps_master(p, group) and MASTER not in state):
            start_state(state, p, program, group)
        w = state[MASTER] if keeps_master(p, group) else p
        part = local_part(w)
        laid = self._layout(w, part)
        for name in program.kept:
            if name not in state:
                raise ConfigError(
                    f"the rule of a group was changed to {self.rule_of(group)}, which reads the"
                    f" {kept_as(name)}; parameter {number} has none\n"
                    "  make a new optimizer, or begin at zero with optimizer.state.clear()"
                )
            if laid.dense and local_part(state[name]).stride() != part.stride():
                state[name] = new_average(w).copy_(state[name])
        return FlatParameter(w, laid, {name: state[name] for name in program.kept})

    def _layout(self, p: Tensor, part: Tensor) -> Layout:
        """The layout of a parameter, which is kept for all that have the same."""
        known: dict[Any, Layout] = self.__dict__.setdefault("_layouts", {})
        key = p.shape, part.stride(), part.is_neg(), p.device, spread_of(p)
        laid = known.get(key)
        if laid is None:
            laid = known[key] = Layout(p)
        return laid

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Fills the options that older pickles and saved states lack."""
        super().__setstate__(state)
        if "differentiable" not in self.arguments:
            self.defaults.pop("differentiable", None)  # torch adds it here
        for options in [self.defaults, *self.param_groups]:
            self._complete(options)
        for group in self.param_groups:
            group.setdefault("t", max(map(self._updates, group["params"]), default=0))

    def _updates(self, p: Tensor) -> int:
        return int(self.state[p]["step"]) if p in self.state else 0

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Loads a saved state, bit for bit, but keeps this optimizer's `foreach`, `fused` and
        `capturable`.

        Raises ConfigError if the state belongs to another rule or another training length, or does
        not fit the parameters.
        """
        before = [dict(group) for group in self.param_groups]
        hooked: list[StateDict] = []

        def check(_: Optimizer, saved: StateDict) -> None:
            check_saved(self, saved)
            hooked.append(saved)

        def restore(_: Optimizer) -> None:
            for group, own in zip(self.param_groups, before, strict=True):
                load_numbers(
                    group, [self.state[p] for p in group["params"] if p in self.state], own
                )
                group.update({name: own[name] for name in EXECUTION})
            for p, saved, program in saved_states(self, hooked[0]):
                for name in (*program.kept, MASTER):
                    if name in saved:  # torch has cast it to the parameter's dtype
                        self.state[p][name] = new_average(p).copy_(saved[name])

        # after the caller's hooks, which may change what is loaded, and before those that see it
        first = self.register_load_state_dict_pre_hook(check)
        last = self.register_load_state_dict_post_hook(restore, prepend=True)
        try:
            super().load_state_dict(state_dict)
        finally:
            first.remove()
            last.remove()
