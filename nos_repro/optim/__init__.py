"""A rule becomes a `torch.optim.Optimizer`; PowerSign, AddSign; baselines, schedules, the factory.

Import everything else from its module: `optim.rule_optimizer`, `optim.families`, `optim.factory`...
"""

from nos_repro.optim.registry import OPTIMIZERS, SCHEDULES

__all__ = ["OPTIMIZERS", "SCHEDULES"]
