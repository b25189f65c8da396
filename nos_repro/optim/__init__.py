"""A rule becomes a `torch.optim.Optimizer`; PowerSign, AddSign; baselines, schedules, the factory.

The rest is imported from the modules: `optim.rule_optimizer`, `optim.families`, `optim.factory`...
"""

from nos_repro.optim.registry import OPTIMIZERS, SCHEDULES

__all__ = ["OPTIMIZERS", "SCHEDULES"]
