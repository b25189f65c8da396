"""The kinds of tests that `claims.yaml` may name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from nos_repro.report.claims.efficiency_tests import EfficiencyTest
from nos_repro.report.claims.evidence import Finding
from nos_repro.report.claims.language_tests import EqualTest, TokensTest
from nos_repro.report.claims.results import Results
from nos_repro.report.claims.row_tests import RowsTest
from nos_repro.report.claims.search_tests import (
    BeatsTest,
    CostTest,
    RewardsTest,
    RisesTest,
    SharesTest,
)
from nos_repro.report.claims.study_tests import EarlyTest, MemoryTest, RatesTest


class Test(Protocol):
    """What decides a claim, from the records of one scale."""

    @property
    def source(self) -> str:
        """The study or search whose scales count; "" for what depends on no training."""

    def named(self) -> Iterator[tuple[str, str]]:
        """Every (study, row) that the claim speaks of."""

    def judge(self, found: Results, scale: str) -> Finding: ...


# fmt: off
KINDS: dict[str, Any] = {
    "rows":              RowsTest,      # one optimizer against another, paired over seeds
    "rates":             RatesTest,     # the learning rates that sweeps chose
    "memory":            MemoryTest,    # values kept a parameter
    "early_predicts":    EarlyTest,     # the first epochs against the last, over rows
    "rewards_predict":   RewardsTest,   # a search's rewards against long runs
    "search_beats":      BeatsTest,     # the best rule found against baselines, by fresh seeds
    "search_rises":      RisesTest,     # the reward over the samples
    "search_shares":     SharesTest,    # what the best rules have in common
    "search_cost":       CostTest,      # hours of workers
    "tokens":            TokensTest,    # the length of a rule's string
    "equal_rules":       EqualTest,     # two texts, one rule
    "sample_efficiency": EfficiencyTest,    # samples until a known best rule is found
}
# fmt: on
