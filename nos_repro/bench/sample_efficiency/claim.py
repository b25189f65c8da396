"""The comparison of search algorithms as a test of what the papers claim (`report/claims`)."""

from __future__ import annotations

import math
from pathlib import Path

from nos_repro.bench.sample_efficiency.runs import SEEDS, of, read_records
from nos_repro.bench.sample_efficiency.verdict import compare
from nos_repro.report.claims.evidence import ANY_SCALE, Effect, Finding, single
from nos_repro.report.claims.results import not_run

FOLDER = Path("bench") / "sample-efficiency"
"""Of the results folder."""


def sample_efficiency(results: Path, ours: str, theirs: str) -> Finding:
    """Whether ``ours`` needs fewer samples than ``theirs``: the two-sided sign-flip test's half."""
    records = read_records(results / FOLDER / "runs.jsonl")
    done = [len(of(records, part="final", algorithm=name)) for name in (ours, theirs)]
    if min(done) < len(SEEDS):
        return not_run(ANY_SCALE, f"{min(done)} of {len(SEEDS)} seeds are on record")
    found = compare(records, ours, theirs)
    fewer = found.factor < 1
    half = found.p / 2
    effect = Effect(
        f"samples of {ours} over those of {theirs}",
        found.factor,
        math.nan,
        math.nan,
        found.pairs,
        "times as many",
        p_for=half if fewer else 1 - half,
        p_against=1 - half if fewer else half,
    )
    remarks = [
        "a looked-up reward with a known best rule, nothing is trained; steps chosen from equally"
        " many on tuning seeds"
    ]
    reason = str(found).replace(found.words + ": ", "")
    verdict = single(effect).verdict
    return Finding(ANY_SCALE, verdict, reason, [effect], remarks)
