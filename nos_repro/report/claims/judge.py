"""The claims, each with what the records of a results folder say of it at every scale."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nos_repro.errors import ConfigError
from nos_repro.experiments.layers import scales_of
from nos_repro.experiments.settings_file import read_values
from nos_repro.report.claims.check import check_names
from nos_repro.report.claims.evidence import ANY_SCALE, Finding, not_run
from nos_repro.report.claims.kinds.base import ClaimTest
from nos_repro.report.claims.listed import Claim, claims, read_claims
from nos_repro.report.claims.more_seeds import needed
from nos_repro.report.claims.results import Results

LEFT_OUT = "smoke"
"""The scale that proves only that everything runs: it is judged only when it is asked for."""


@dataclass(frozen=True)
class Judged:
    """A claim and its findings: one per scale with records, or one that says why there is none."""

    claim: Claim
    findings: list[Finding]


def own_claims(file: Path, found: Results) -> tuple[Claim, ...]:
    """The claims of a user's own file, about studies and searches that are ``found``. Raises
    ConfigError, naming file, claim and key."""
    listed = read_claims(file)
    for claim in listed:
        if claim.test is not None:
            check_names(claim.test, found, f"{file}: claim {claim.id}")
    return listed


def judge_claims(
    found: Results, *, scale: str | None = None, only: Sequence[Claim] | None = None
) -> list[Judged]:
    """Every claim (or ``only`` some) at every scale there are records of (or at ``scale``)."""
    return [Judged(c, judge_claim(c, found, scale)) for c in (claims() if only is None else only)]


def judge_claim(claim: Claim, found: Results, scale: str | None = None) -> list[Finding]:
    if claim.test is None:
        return [Finding(ANY_SCALE, "cannot be tested here", f"because {claim.untested}")]
    if not claim.test.source:
        return [finding_of(claim.test, found, ANY_SCALE)]
    begun = found.scales(claim.test.source)
    scales = [each for each in begun if (each != LEFT_OUT if scale is None else each == scale)]
    if not scales:
        hint = f" but at {LEFT_OUT}: ask with --scale {LEFT_OUT}" if begun and not scale else ""
        return [not_run(scale or "-", f"no record of {claim.test.source}{hint}")]
    return [_judge_at(claim.test, found, each) for each in scales]


def _judge_at(test: ClaimTest, found: Results, scale: str) -> Finding:
    """Not run where a study lacks the scale, or leaves out a row there."""
    for study, row in test.named():
        if scale not in scales_of(read_values(found.files[study])):
            return not_run(scale, f"{study} has no scale {scale}")
        if row not in found.study(study, scale)[1]:
            return not_run(scale, f"{study} leaves out {row} at this scale")
    return finding_of(test, found, scale)


def finding_of(test: ClaimTest, found: Results, scale: str) -> Finding:
    """What the test finds; of an undecided claim also how many seeds more would decide it."""
    finding: object = test.judge(found, scale)
    if not isinstance(finding, Finding):
        where = f"{type(test).__module__}.{type(test).__name__}"
        raise ConfigError(f"claim test {where}: judge must return a Finding, got {finding!r}")
    if finding.verdict == "undecided" and (more := needed(test, found, scale)):
        return dataclasses.replace(finding, reason=f"{finding.reason}; {more}")
    return finding
