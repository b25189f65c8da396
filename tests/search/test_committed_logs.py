"""What a committed log says of its updates, or, where no controller learns, of its proposals, is
what the algorithm of today makes of it."""

import dataclasses
import json

import pytest

from nos_repro.search.algorithms.policy_gradient import PolicyGradient
from nos_repro.search.log import Log
from nos_repro.search.settings import load_search
from nos_repro.search.state import SearchState, sample_of
from tests.conftest import ROOT

LOGS = sorted((ROOT / "results").glob("search*/*/log.jsonl"))
COMPARED = 40


@pytest.mark.parametrize("log", LOGS, ids=lambda path: path.parent.parent.name)
def test_the_first_updates_or_proposals_of_a_committed_log_come_out_again(log):
    """Another version of torch, or another order of sums, may change an update's last digits."""
    given = json.loads((log.parent / "settings.json").read_text())
    keys = ("space", "algorithm", "seed", "redraws", "canonical_sign")
    search = load_search(ROOT / "configs" / f"{given['search']}.yaml", scale=given["scale"])
    search = dataclasses.replace(search, **{key: given[key] for key in keys if key in given})
    state = SearchState(search)
    learns = isinstance(state.algorithm, PolicyGradient)
    made = None
    seen = 0
    for event in Log(log).read():
        if event["event"] == "proposed":
            sample = sample_of(event)
            if not learns:
                assert state.draw().tokens == sample.tokens
                seen += 1
            state.propose(sample)
        elif event["event"] == "withdrawn":
            state.withdraw(event["sample"])
        elif event["event"] == "reopened":
            state.reopen(sample_of(event))
        elif event["event"] == "evaluated":
            made = state.reward(event)
        elif event["event"] == "updated":
            assert made is not None
            assert (made["policy"], made["samples"]) == (event["policy"], event["samples"])
            for figure in ("entropy", "baseline", "kl"):
                assert made.get(figure) == pytest.approx(event.get(figure), abs=1e-3)
            seen += 1
        if seen == COMPARED:
            break
    assert seen
