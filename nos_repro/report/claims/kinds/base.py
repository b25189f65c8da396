"""The contract of a test that decides a claim: a frozen dataclass that registers itself.

    from nos_repro.report.claims.kinds.base import CLAIM_TESTS, ClaimTest

    @CLAIM_TESTS.register("finishes")
    @dataclass(frozen=True)
    class Finishes(ClaimTest):
        study: str

A list of claims names it as `test: {kind: finishes, study: table2}`, or as
`kind: my_package.my_test` where the module is its own; the other keys are the dataclass's fields.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import TypeAlias

from nos_repro.errors import ConfigError
from nos_repro.registry import Registry, require_methods
from nos_repro.report.claims.evidence import ClaimVerdict, Finding
from nos_repro.report.claims.results import Results
from nos_repro.report.statistics import Scores

Extend: TypeAlias = Callable[[Scores, Scores], tuple[Scores, Scores]]
"""Adds seeds to the scores of two rows that are compared."""


class ClaimTest(ABC):
    """What decides a claim, from the records of one scale."""

    @property
    def source(self) -> str:
        """The study or search whose scales count; "" for what depends on no training."""
        return ""

    def named(self) -> Iterator[tuple[str, str]]:
        """Every (study, row) that the claim speaks of."""
        return iter(())

    @abstractmethod
    def judge(self, found: Results, scale: str) -> Finding:
        """The verdict at ``scale``, with the comparisons that it rests on."""

    def foresee(self, found: Results, scale: str, extend: Extend) -> ClaimVerdict | None:
        """The verdict if each comparison had the seeds that ``extend`` adds to it; None where more
        seeds cannot be added."""
        return None


def _is_test(thing: object) -> bool:
    return isinstance(thing, type) and issubclass(thing, ClaimTest) and thing is not ClaimTest


def _check_test(name: str, kind: type[ClaimTest]) -> None:
    if not _is_test(kind) or "__dataclass_fields__" not in vars(kind):
        raise ConfigError(
            f"claim test {name}: expected a frozen dataclass that extends ClaimTest, got {kind!r}"
        )
    require_methods(f"claim test {name}", kind, ClaimTest)


CLAIM_TESTS: Registry[type[ClaimTest]] = Registry(
    "claim test", "nos_repro.report.claims.kinds", check=_check_test, recognise=_is_test
)
