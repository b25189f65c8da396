"""Neural Optimizer Search with Reinforcement Learning (Bello et al., 2017), reproduced.

Import the optimizers from here in your own project; each is loaded when it is first asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nos_repro.optim.factory import make_optimizer, make_schedule
    from nos_repro.optim.families import AddSign, PowerSign
    from nos_repro.optim.rule_optimizer import RuleOptimizer
    from nos_repro.rules.rule import Rule

__version__ = "0.1.0"

__all__ = ["AddSign", "PowerSign", "Rule", "RuleOptimizer", "make_optimizer", "make_schedule"]

_HOME = {
    "AddSign": "nos_repro.optim.families",
    "PowerSign": "nos_repro.optim.families",
    "Rule": "nos_repro.rules.rule",
    "RuleOptimizer": "nos_repro.optim.rule_optimizer",
    "make_optimizer": "nos_repro.optim.factory",
    "make_schedule": "nos_repro.optim.factory",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'nos_repro' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
