"""Claims about the samples that a search algorithm needs, decided by `search.efficiency`'s runs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nos_repro.report.claims.evidence import ANY_SCALE, Effect, Finding, not_run, single
from nos_repro.report.claims.kinds.base import CLAIM_TESTS, ClaimTest
from nos_repro.report.claims.results import Results
from nos_repro.report.search.fewer_samples import compare_samples
from nos_repro.search.efficiency.runs import SEEDS, of, read_records, records_file


@CLAIM_TESTS.register("sample_efficiency")
@dataclass(frozen=True)
class EfficiencyTest(ClaimTest):
    """``ours`` needs fewer samples than ``theirs``: half of the two-sided sign-flip test's p."""

    ours: str
    theirs: str

    def judge(self, found: Results, scale: str) -> Finding:
        records = read_records(records_file(found.root))
        done = [len(of(records, part="final", algorithm=name)) for name in (self.ours, self.theirs)]
        if min(done) < len(SEEDS):
            return not_run(ANY_SCALE, f"{min(done)} of {len(SEEDS)} seeds are on record")
        seen = compare_samples(records, self.ours, self.theirs)
        fewer, half = seen.factor < 1, seen.p / 2
        effect = Effect(
            f"samples of {self.ours} over those of {self.theirs}",
            seen.factor,
            math.nan,
            math.nan,
            seen.pairs,
            "times as many",
            p_for=half if fewer else 1 - half,
            p_against=1 - half if fewer else half,
        )
        remarks = [
            "a looked-up reward with a known best rule, nothing is trained; steps chosen from"
            " equally many on tuning seeds"
        ]
        reason = str(seen).replace(seen.words + ": ", "")
        return Finding(ANY_SCALE, single(effect).verdict, reason, [effect], remarks)
