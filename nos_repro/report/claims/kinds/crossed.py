"""A claim about two searches whose children differ in their environment (002 sec. 7)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nos_repro.report.claims.evidence import Finding, every, fact, not_run, single
from nos_repro.report.claims.kinds.base import CLAIM_TESTS
from nos_repro.report.claims.kinds.search import SearchTest, compared
from nos_repro.report.search.confirmation import Candidate, difference, versus
from nos_repro.report.search.crossed import Crossed, crossed, overlap, places_of
from nos_repro.report.search.history import History


@CLAIM_TESTS.register("search_crossed")
@dataclass(frozen=True)
class CrossedTest(SearchTest):
    """The best rule of the ``search`` is not the best of the search that its `confirm.against`
    names, and beats that one in its own environment, over fresh seeds, on the test images.

    The rules are declared before these seeds: each search's own ranking chose them.
    """

    def decide(self, history: History, scale: str) -> Finding:
        other = history.asked.confirm.against
        found = crossed(history)
        if found is None or found.best is None or found.theirs is None:
            missing = "not trained in both environments yet (`search ... --confirm`)"
            return not_run(scale, missing if other else "its file has no `confirm.against`")
        best, theirs = found.here[found.best.name], found.here[found.theirs]
        what = f"{best.name} is not the best rule of {other}"
        effects = [fact(what, best.name != theirs.name)]
        if best.name != theirs.name:
            result = versus(history, best, theirs, "test")
            effects.append(compared(best, theirs, result, history.metric))
        evidence = every([*map(single, effects)])
        reason = "; ".join(map(str, effects))
        remarks = [overlap(history, found.ranked), *_beside(history, found, best, theirs)]
        return Finding(scale, evidence.verdict, reason, effects, remarks)


def _beside(history: History, found: Crossed, best: Candidate, theirs: Candidate) -> Iterator[str]:
    """What else may make the difference than the environment."""
    if best.name == theirs.name:
        return
    if best.name in found.there and theirs.name in found.there:
        plain = versus(history, found.there[best.name], found.there[theirs.name], "test")
        said = difference(plain, history.metric)
        yield f"with {places_of(history)[1]}: {best.name} less {theirs.name} {said}"
    if more := best.decays - theirs.decays:
        yield f"{best.name} decays its own rate ({', '.join(sorted(more))}), {theirs.name} does not"
