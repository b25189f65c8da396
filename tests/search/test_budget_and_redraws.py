"""What costs a child, what a redraw teaches, and rules that are trained as their negatives."""

import json
from collections import Counter

import pytest

from nos_repro.errors import ConfigError
from nos_repro.rules.rule import Rule
from nos_repro.search.budget import Budget
from nos_repro.search.equality import key_of
from nos_repro.search.folder import check_settings
from nos_repro.search.hall import best_rules
from nos_repro.search.judging import meaning, negative
from nos_repro.search.log import Log
from nos_repro.search.probe import probe
from nos_repro.search.sample import Sample
from nos_repro.search.settings import load_search
from nos_repro.search.state import Tally
from tests.conftest import ROOT
from tests.search.helpers import Instant, loop, tiny_search
from tests.search.test_loop import assert_same, final

SMALL = {"operands": ["g", "m"], "unary": ["identity", "neg"], "binary": ["*", "keep_left"],
         "iterations": 1}  # fmt: skip


def events(folder, kind):
    return [event for event in Log(folder / "log.jsonl").read() if event["event"] == kind]


def trained(folder):
    """The keys of the rules whose children were trained."""
    return {e["key"] for e in events(folder, "evaluated") if e["status"] == "healthy"}


@pytest.mark.parametrize("slots", [1, 4])
def test_a_search_ends_when_so_many_different_rules_are_trained(tmp_path, slots):
    launcher = Instant(slots=slots)
    whole = loop(tmp_path, launcher, tiny_search(samples=500, children=9))
    whole.run()
    assert len(launcher.trained) == len(trained(tmp_path)) == whole.tally.children == 9
    statuses = Counter(event["status"] for event in events(tmp_path, "evaluated"))
    assert statuses["refused"]
    assert whole.tally.sampled == whole.tally.evaluated < 500
    assert whole.budget.over(whole.tally)
    assert not whole.state.open


def test_samples_end_a_search_that_finds_no_more_rules(tmp_path):
    launcher = Instant(slots=3)
    whole = loop(tmp_path, launcher, tiny_search(space=SMALL, samples=60, children=50))
    whole.run()
    assert len(launcher.trained) < 10
    assert whole.tally.evaluated == 60


def test_more_children_may_be_asked_for_afterwards(tmp_path):
    loop(tmp_path / "a", search=tiny_search(samples=500, children=5)).run()
    more = loop(tmp_path / "a", search=tiny_search(samples=500, children=9))
    more.run()
    whole = loop(tmp_path / "b", search=tiny_search(samples=500, children=9))
    whole.run()
    assert_same(final(more), final(whole))


def test_a_budget_says_what_is_done_of_what_was_asked():
    tally = Tally(sampled=30, evaluated=30, statuses=Counter(healthy=8, diverged=1, refused=21))
    assert Budget(1000).words(tally) == "30/1,000 draws"
    assert Budget(1000, 10).words(tally) == "30/1,000 draws, 9/10 children"
    assert Budget(1000, 10).share(tally) == 0.9
    assert Budget(1000, 9).over(tally)
    assert not Budget(1000, 10).over(tally)
    assert Budget(30, 10).over(tally)


def learned(folder):
    """For each rule, how often it was learned from, whole batches alone; and the redraws."""
    rules = {event["sample"]: event for event in events(folder, "evaluated")}
    taught = [rules[n] for update in events(folder, "updated") for n in update["samples"]]
    return taught, [event for event in taught if event["status"] == "reused"]


@pytest.mark.parametrize("redraws", ["always", "once", "never"])
def test_what_a_redraw_teaches_is_a_setting(tmp_path, redraws):
    """The log shows it, and replaying the log gives the same controller."""
    search = tiny_search(samples=150, redraws=redraws)
    whole = loop(tmp_path, Instant(slots=3), search)
    whole.run()
    taught, again = learned(tmp_path)
    counts = Counter(event["key"] for event in again)
    drawn_again = Counter(
        e["key"] for e in events(tmp_path, "evaluated") if e["status"] == "reused"
    )
    assert max(drawn_again.values()) > 2
    if redraws == "always":
        assert max(counts.values()) > 2
        assert len(taught) == 150
    else:
        assert len(taught) < 150
    if redraws == "once":
        assert max(counts.values()) == 1
    if redraws == "never":
        assert not again
    (tmp_path / "checkpoint.pt").unlink()
    replayed = loop(tmp_path, search=search)
    replayed.run()
    assert_same(final(replayed), final(whole))
    assert replayed.state.redrawn == whole.state.redrawn


def test_a_search_with_every_setting_ends_as_one_that_was_not_interrupted(tmp_path):
    algorithm = {
        "name": "ppo",
        "lr": 0.01,
        "batch": 3,
        "passes": 2,
        "living_entropy": True,
        "normalise": True,
        "risk": 0.5,
        "queue": 3,
        "clip_norm": 0.5,
        "eps": 1e-5,
    }
    space = {**tiny_search().space, "no_final_keep_left": True}
    given = {"algorithm": algorithm, "space": space, "canonical_sign": True, "redraws": "once"}
    whole = loop(tmp_path / "a", search=tiny_search(samples=60, **given))
    whole.run()
    for samples in (7, 20, 41, 60):
        pieces = loop(tmp_path / "b", search=tiny_search(samples=samples, **given))
        pieces.run()
    assert_same(final(pieces), final(whole))
    (tmp_path / "b" / "checkpoint.pt").unlink()
    replayed = loop(tmp_path / "b", search=tiny_search(samples=60, **given))
    replayed.run()
    assert_same(final(replayed), final(whole))
    assert all(event["tokens"][-1] != "keep_left" for event in events(tmp_path / "a", "proposed"))


def test_an_unknown_kind_of_redraw_is_refused():
    with pytest.raises(ConfigError, match="unknown value of redraws: 'onec'\n  did you mean"):
        tiny_search(redraws="onec")


CLIMBING = ["g", "m", "neg", "identity", "keep_left"]
CLIMBING_PRODUCT = ["g", "1", "neg", "exp", "*"]
DESCENDING = ["g", "m", "identity", "identity", "keep_left"]
EVEN = ["g", "m", "identity", "identity", "*"]


@pytest.mark.parametrize(
    ("tokens", "negated"),
    [(CLIMBING, True), (CLIMBING_PRODUCT, True), (DESCENDING, False), (EVEN, False)],
)
def test_a_rule_that_climbs_is_trained_as_its_negative_if_that_passes(tokens, negated):
    sample = Sample(0, 0, tokens, [])
    found = meaning(sample, canonical_sign=True)
    assert found.negated == negated
    assert found.rule == (negative(sample.rule) if negated else sample.rule)
    assert (found.key, found.text) == key_of(found.rule)
    assert meaning(sample, canonical_sign=False).rule == sample.rule
    if negated:
        assert probe(sample.rule) == "no descent"
        assert probe(found.rule) is None


def test_log_rewards_keys_and_hall_see_the_rule_that_was_trained(tmp_path):
    launcher = Instant()
    search = tiny_search(space=SMALL, samples=80, canonical_sign=True)
    loop(tmp_path, launcher, search).run()
    drawn = {event["sample"]: event["tokens"] for event in events(tmp_path, "proposed")}
    scored = [e for e in events(tmp_path, "evaluated") if e["status"] != "refused"]
    assert any(event.get("sign") == -1 for event in scored)
    for event in scored:
        rule = Rule.from_tokens(drawn[event["sample"]])
        trained_rule = negative(rule) if event.get("sign") == -1 else rule
        assert event["key"] == key_of(trained_rule)[0]
        assert event["rule"] == str(trained_rule.normal())
        assert event["status"] == "reused" or probe(trained_rule) is None
    assert len(launcher.trained) == len(trained(tmp_path))
    texts = [entry.text for entry in best_rules(tmp_path, 5)]
    assert {f"rule: {text}" for text in texts} <= set(launcher.trained)
    refused = [e for e in events(tmp_path, "evaluated") if e["status"] == "refused"]
    assert all(event.get("sign") != -1 for event in refused)


def test_a_search_of_an_older_version_goes_on_with_the_defaults_of_what_it_did_not_have(tmp_path):
    """Its settings are not in the file, as in a committed search."""
    search = load_search(ROOT / "configs" / "search.yaml", scale="small")
    new = ("redraws", "canonical_sign")
    before = {key: value for key, value in search.identity().items() if key not in new}
    before["algorithm"] = {k: v for k, v in before["algorithm"].items() if k != "risk"}
    (tmp_path / "settings.json").write_text(json.dumps(before))
    check_settings(search, tmp_path)
    (tmp_path / "settings.json").write_text(json.dumps({**before, "redraws": "never"}))
    with pytest.raises(ConfigError, match='redraws: was "never", is "always"'):
        check_settings(search, tmp_path)
