"""A rule becomes a `torch.optim.Optimizer`; PowerSign, AddSign; baselines, schedules, the factory.

Imports stand in the modules: `optim.rule_optimizer`, `optim.families`, `optim.factory`, ...
"""
