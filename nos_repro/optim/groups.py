"""What an update needs of a parameter group: program, settings, the state of its parameters."""

from functools import cache
from typing import Any

import torch
from torch import Tensor

from nos_repro.errors import ConfigError, RuleError
from nos_repro.optim.batch import Step, arithmetic_dtype, new_average
from nos_repro.optim.options import check_dense_and_real
from nos_repro.optim.program import Program, lower, scalar_inputs
from nos_repro.optim.sharding import check_numbered, is_any, is_in_parts
from nos_repro.rules.rule import Rule

MASTER = "master"  # the name of a parameter's float32 copy in its state


@cache
def program_of(rule: str) -> Program:
    """The program of a rule's text."""
    known = Rule.parse(rule)
    return lower(known.expr, known.states)


def check_group(rule: str, group: dict[str, Any]) -> None:
    """Raises RuleError or ConfigError if the rule cannot update the group's parameters."""
    program = program_of(rule)
    check_total_steps(rule, program, group)
    for p in group["params"]:
        check_dense_and_real(p)
    if program.wholes:
        check_whole(program, group["params"])
    if program.sites:
        check_numbered(group["params"])


def check_whole(program: Program, params: list[Tensor]) -> None:
    """Raises ConfigError for parameters that functions of whole tensors cannot take."""
    words = " and ".join(program.wholes)
    for number, p in enumerate(params):
        if program.of_matrices and p.dim() != 2:
            raise ConfigError(
                f"{' and '.join(program.of_matrices)} takes matrices, and parameter {number} of"
                f" the group has the shape {tuple(p.shape)}\n"
                "  give this optimizer the matrices, and another one the rest"
            )
        if is_in_parts(p):
            raise ConfigError(
                f"{words} takes whole tensors, and of parameter {number} of the group each process"
                f" has a part; shard without it, or use a rule without {words}"
            )


def check_total_steps(rule: str, program: Program, options: dict[str, Any]) -> None:
    """Raises RuleError if the rule reads a decay and its length is not given."""
    if program.decays and options["total_steps"] is None:
        raise RuleError(
            f"the rule {rule} reads a decay, which ends with the training\n"
            "  give total_steps: the total number of updates"
        )


def step_of(
    options: dict[str, Any], program: Program, updates: int | Tensor, device: torch.device
) -> Step:
    """The settings of one update of parameters on a device."""
    lr, t = options["lr"], options["t"]
    if isinstance(t, Tensor):
        lr, t = lr.to(device), t.to(device)
    inputs = scalar_inputs(
        program,
        betas=options["betas"],
        eps=options["eps"],
        t=t,
        total_steps=options["total_steps"],
        updates=updates,
    )
    return Step(
        program=program,
        lr=lr.reshape(()) if isinstance(lr, Tensor) else lr,
        betas=options["betas"],
        weight_decay=options["weight_decay"],
        decoupled=options["decoupled_weight_decay"],
        maximize=options["maximize"],
        seed=options["seed"],
        t=t,
        inputs=inputs,
    )


def start_state(
    state: dict[str, Any], p: Tensor, program: Program, options: dict[str, Any]
) -> None:
    """Makes what the state of a parameter lacks before an update."""
    if "step" not in state:
        state["step"] = 0
        state.update({name: new_average(p) for name in program.kept})
    if keeps_master(p, options):
        state[MASTER] = new_average(p).copy_(p)


def keeps_master(p: Tensor, options: dict[str, Any]) -> bool:
    """Whether a float32 copy of a parameter is updated in its place."""
    return bool(options["master_weights"]) and arithmetic_dtype(p.dtype) != p.dtype


def is_empty_step(groups: list[dict[str, Any]]) -> bool:
    """Whether all rates and all gradients are 0."""
    gradients = [p.grad for group in groups for p in group["params"] if p.grad is not None]
    return (
        bool(gradients)
        and all(float(group["lr"]) == 0 for group in groups)
        and not any(g.layout != torch.strided or is_any(g) for g in gradients)
    )
