"""A claim test: a row of a study ends below a bound.

test: {kind: my_package.agrees, study: example_line, row: Lion, below: 0.05}
"""

from collections.abc import Iterator
from dataclasses import dataclass

from nos_repro.report.claims.evidence import Finding, not_run
from nos_repro.report.claims.kinds.base import CLAIM_TESTS, ClaimTest
from nos_repro.report.claims.results import Results


@CLAIM_TESTS.register("agrees")
@dataclass(frozen=True)
class Agrees(ClaimTest):
    """Every seed of ``row`` ends below ``below``."""

    study: str
    row: str
    below: float

    @property
    def source(self) -> str:
        return self.study

    def named(self) -> Iterator[tuple[str, str]]:
        yield self.study, self.row

    def judge(self, found: Results, scale: str) -> Finding:
        _, rows = found.study(self.study, scale)
        ends = [r.column("final_test") for r in rows[self.row].counting if r.status == "finished"]
        if not ends:
            return not_run(scale, "no seed has finished")
        worst = max(ends)
        verdict = "holds" if worst < self.below else "does not hold"
        return Finding(scale, verdict, f"the worst of {len(ends)} seeds ends at {worst:.3g}")
