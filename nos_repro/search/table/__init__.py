"""NOS-Bench: every distinct rule of a space, trained once per task and seed.

from nos_repro.search import table
t = table.load("signs")
t.rewards("digits", seed=0)[t.rule_of(tokens)]
"""

from nos_repro.search.table.loaded import RuleTable, load

__all__ = ["RuleTable", "load"]
