"""Whether a saved state belongs to an optimizer, and what it holds for each parameter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.optim.optimizer import StateDict

from nos_repro.errors import ConfigError
from nos_repro.optim.groups import program_of
from nos_repro.optim.program import STATE, Program

if TYPE_CHECKING:
    from nos_repro.optim.rule_optimizer import RuleOptimizer


def check_saved(optimizer: RuleOptimizer, state_dict: StateDict) -> None:
    """Raises ConfigError if a state belongs to another rule or another training length, or does not
    fit the parameters."""
    for own, saved in zip(optimizer.param_groups, state_dict["param_groups"], strict=False):
        rule, other = optimizer.rule_of(own), optimizer.saved_rule_of(saved)
        if rule != other:
            options = ", ".join(sorted(saved.keys() - {"params"}))
            raise ConfigError(
                "this state belongs to another update rule\n"
                f"  saved:  {other or f'no rule, but the options {options}'}\n"
                f"  here:   {rule}"
            )
        here, there = own["total_steps"], saved.get("total_steps", own["total_steps"])
        if here != there and program_of(rule).decays:
            raise ConfigError(
                f"this state was saved with total_steps={there}, here it is {here}, and the"
                " rule's decay depends on it\n"
                f"  make the optimizer with total_steps={there}, or set total_steps={here} in"
                " the state's param_groups"
            )
    for number, (p, saved, program) in enumerate(saved_states(optimizer, state_dict)):
        for name in program.kept if saved else ():
            if name not in saved or saved[name].shape != p.shape:
                given = tuple(saved[name].shape) if name in saved else "nothing"
                raise ConfigError(
                    f"this state does not fit: {kept_as(name)} of parameter"
                    f" {number} must have shape {tuple(p.shape)}, got {given}"
                )


def kept_as(name: str) -> str:
    """What a tensor in a state is, in words."""
    if name.startswith(STATE):
        return f"state '{name.removeprefix(STATE)}'"
    return f"average '{name}'"


def saved_states(
    optimizer: RuleOptimizer, state_dict: StateDict
) -> Iterator[tuple[Tensor, dict[str, Any], Program]]:
    """Every parameter, what is saved of it, and the program that updates it."""
    for own, saved in zip(optimizer.param_groups, state_dict["param_groups"], strict=False):
        program = program_of(optimizer.rule_of(own))
        for p, key in zip(own["params"], saved["params"], strict=False):
            yield p, state_dict["state"].get(key, {}), program
