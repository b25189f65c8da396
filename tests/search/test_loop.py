"""The search loop: nothing lost, nothing counted twice, whatever happens in the middle."""

import json
import os
import time
from collections import Counter

import pytest
import torch

from nos_repro.errors import ConfigError, LaunchError
from nos_repro.experiments import files
from nos_repro.experiments.files import StoreError, json_line
from nos_repro.launch.base import Report
from nos_repro.launch.driver import MAX_LOST
from nos_repro.rules.rule import Rule
from nos_repro.search import log as log_module
from nos_repro.search import loop as loop_module
from nos_repro.search.equality import key_of
from nos_repro.search.log import Log, LogError
from nos_repro.search.loop import (
    DRAWS,
    MAX_WITHDRAWN,
    WAITING,
    SearchLoop,
)
from tests.search.helpers import Instant, loop, reward_of_text, tiny_search


def events(folder, kind):
    return [event for event in Log(folder / "log.jsonl").read() if event["event"] == kind]


def final(search_loop: SearchLoop) -> dict:
    """Where a search ends: the policy and what it learned from, in order."""
    return {
        "weights": [
            tensor.clone()
            for tensor in search_loop.state.algorithm.controller.state_dict().values()
        ],
        "baseline": search_loop.state.algorithm.baseline.value,
        "policy": search_loop.state.policy,
        "history": [
            (event["sample"], event["reward"], event["key"])
            for event in search_loop.log.read()
            if event["event"] == "evaluated"
        ],
    }


def assert_same(one: dict, other: dict) -> None:
    assert one["history"] == other["history"]
    assert (one["policy"], one["baseline"]) == (other["policy"], other["baseline"])
    assert all(map(torch.equal, one["weights"], other["weights"]))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    whole = loop(tmp_path_factory.mktemp("undisturbed"))
    whole.run()
    return final(whole)


def test_every_sample_gets_one_reward_and_every_batch_one_update(tmp_path):
    whole = loop(tmp_path)
    whole.run()
    counts = Counter(event["sample"] for event in events(tmp_path, "evaluated"))
    assert counts == Counter(range(20))
    assert [event["policy"] for event in events(tmp_path, "updated")] == list(range(1, 7))
    assert len(whole.state.algorithm.rewarded) == len(whole.state.learned) == 2
    assert not whole.state.open


def test_equal_rules_are_trained_once_and_the_controller_learns_from_each(tmp_path):
    launcher = Instant(slots=4)
    loop(tmp_path, launcher, tiny_search(samples=120)).run()
    assert len({key_of(Rule.parse(t.removeprefix("rule: ")))[0] for t in launcher.trained}) == len(
        launcher.trained
    )
    rewards: dict[str, set[float]] = {}
    for event in events(tmp_path, "evaluated"):
        rewards.setdefault(event["key"], set()).add(event["reward"])
    assert all(len(values) == 1 for values in rewards.values())
    statuses = Counter(event["status"] for event in events(tmp_path, "evaluated"))
    assert statuses["reused"] > 20
    assert sum(statuses.values()) == 120


def test_a_log_with_the_keys_of_an_older_version_goes_on(tmp_path):
    """Its fingerprints were others; a rule that it scored is not trained again."""
    loop(tmp_path, Instant(slots=4), tiny_search(samples=60)).run()
    lines = list(Log(tmp_path / "log.jsonl").read())
    older = [{**line, "key": line["key"][::-1]} if "key" in line else line for line in lines]
    (tmp_path / "log.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in older))
    launcher = Instant(slots=4)
    loop(tmp_path, launcher, tiny_search(samples=120)).run()
    scored = {line["rule"] for line in lines if line["event"] == "evaluated"}
    again = {str(Rule.parse(t.removeprefix("rule: ")).normal()) for t in launcher.trained}
    assert again
    assert not scored & again
    assert any(event["rule"] in scored for event in events(tmp_path, "evaluated")[60:])


def test_the_log_alone_reproduces_what_was_learned(tmp_path):
    whole = loop(tmp_path, Instant(slots=4, seed=3))
    whole.run()
    learned = final(whole)
    (tmp_path / "checkpoint.pt").unlink()
    again = loop(tmp_path)
    again.run()
    assert_same(final(again), learned)


class Crash(BaseException):
    """The end of the process, as far as the loop can tell."""


@pytest.mark.parametrize("moment", ["before", "torn", "after"])
def test_killed_at_any_event_a_search_ends_as_if_it_had_not_been_killed(
    moment, tmp_path, undisturbed, monkeypatch
):
    """The process dies at each event of the log in turn."""
    append, calls = Log.append, {"left": 0}

    def dying(self, given):
        calls["left"] -= 1
        if calls["left"] == 0:
            if moment == "after":
                append(self, given)
            if moment == "torn":
                with self.path.open("ab") as file:
                    file.write(json.dumps(given[0]).encode()[:-5])
            raise Crash
        append(self, given)

    monkeypatch.setattr(Log, "append", dying)
    kills = 0
    while True:
        kills += 1
        calls["left"] = 2 + kills % 3
        current = loop(tmp_path)
        try:
            current.run()
        except Crash:
            continue
        break
    assert kills > 15
    assert_same(final(current), undisturbed)


def test_an_answer_left_by_a_process_that_died_before_logging_it_is_used(tmp_path, undisturbed):
    first = loop(tmp_path)

    def die(*_):
        raise Crash

    first._answer = die
    with pytest.raises(Crash):
        first.run()
    (answer,) = (tmp_path / "answers").glob("*.json")
    launcher = Instant()
    second = loop(tmp_path, launcher)
    second.run()
    assert not answer.exists()
    rule = Rule.from_tokens(events(tmp_path, "proposed")[int(answer.stem)]["tokens"])
    assert f"rule: {rule}" not in launcher.trained
    assert_same(final(second), undisturbed)


def test_an_answer_to_another_question_is_ignored(tmp_path, undisturbed):
    (tmp_path / "answers").mkdir()
    for n in range(20):
        stray = {"key": "of another search", "evaluation": {"status": "healthy", "reward": 0.9}}
        (tmp_path / "answers" / f"{n}.json").write_text(json.dumps(stray))
    whole = loop(tmp_path)
    whole.run()
    assert_same(final(whole), undisturbed)


def test_a_damaged_checkpoint_is_rebuilt_from_the_log(tmp_path, undisturbed):
    first = loop(tmp_path, search=tiny_search(samples=10))
    first.run()
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:-100])
    second = loop(tmp_path)
    second.run()
    assert any("rebuilt from the log" in note for note in second.display.notes)
    assert_same(final(second), undisturbed)


def test_a_log_behind_its_checkpoint_is_replayed_in_full(tmp_path, undisturbed):
    """Half the log is restored from a backup: the search repeats the rest, with the same result."""
    loop(tmp_path).run()
    log = tmp_path / "log.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:15]))
    second = loop(tmp_path)
    second.run()
    assert any("belongs to another log" in note for note in second.display.notes)
    assert_same(final(second), undisturbed)


def test_more_samples_may_be_requested_afterwards(tmp_path, undisturbed):
    loop(tmp_path, search=tiny_search(samples=8)).run()
    more = loop(tmp_path)
    more.run()
    assert_same(final(more), undisturbed)


def test_other_settings_are_refused_with_the_difference(tmp_path):
    loop(tmp_path).run()
    other = tiny_search(algorithm={"name": "ppo", "lr": 0.02, "batch": 3, "passes": 2})
    with pytest.raises(ConfigError, match=r"algorithm\.lr: was 0\.01, is 0\.02"):
        loop(tmp_path, search=other).run()


def test_a_lost_evaluation_is_proposed_again_and_never_punished(tmp_path, undisturbed):
    launcher = Instant(fate=lambda n, job: "lost" if n % 3 else "recorded")
    whole = loop(tmp_path, launcher)
    whole.run()
    assert len(launcher.trained) > len(set(launcher.trained))
    assert_same(final(whole), undisturbed)


def test_a_rule_whose_worker_always_vanishes_is_withdrawn_and_nothing_is_learned(tmp_path):
    trained = Counter()

    def fate(n, job):
        trained[job.name] += 1
        return "lost" if len(trained) == 2 else "recorded"

    whole = loop(tmp_path, Instant(fate=fate))
    whole.run()
    assert sorted(trained.values())[-2:] == [1, MAX_LOST]
    withdrawn = {event["sample"] for event in events(tmp_path, "withdrawn")}
    rewarded = {event["sample"] for event in events(tmp_path, "evaluated")}
    assert len(withdrawn) == 1
    assert withdrawn | rewarded == set(range(20))
    assert not withdrawn & rewarded


def test_a_machine_that_loses_every_child_stops_the_search(tmp_path, undisturbed):
    with pytest.raises(LaunchError, match="repair the machine"):
        loop(tmp_path, Instant(fate=lambda n, job: "lost")).run()
    assert len(events(tmp_path, "withdrawn")) < MAX_WITHDRAWN
    loop(tmp_path).run()
    rewarded = {event["sample"] for event in events(tmp_path, "evaluated")}
    assert len(rewarded) > 20 - MAX_WITHDRAWN


def test_a_worker_that_was_told_to_stop_does_not_count_against_its_sample(tmp_path, undisturbed):
    whole = loop(tmp_path, Instant(fate=lambda n, job: "stopped" if n % 2 else "recorded"))
    whole.run()
    assert_same(final(whole), undisturbed)


def test_a_worker_that_dies_with_its_answer_on_disk_has_answered(tmp_path, undisturbed):
    class Dying(Instant):
        def wait(self, seconds):
            return [Report(report.job, "lost", "killed") for report in super().wait(seconds)]

    launcher = Dying()
    whole = loop(tmp_path, launcher)
    whole.run()
    assert len(launcher.trained) == len(set(launcher.trained))
    assert_same(final(whole), undisturbed)


def test_a_second_writer_stops_the_first_before_its_next_event(tmp_path):
    """A machine that sleeps for minutes loses its claim and wakes up next to its successor."""

    class Wakes(Instant):
        def wait(self, seconds):
            if len(self.trained) == 3 and not self.woken:
                self.woken = True
                (tmp_path / "claim.json").unlink()
                loop(tmp_path).run()
            return super().wait(seconds)

    first = Wakes()
    first.woken = False
    with pytest.raises(StoreError, match="another process has written to this file"):
        loop(tmp_path, first).run()
    counts = Counter(event["sample"] for event in events(tmp_path, "evaluated"))
    assert counts == Counter(range(20))


def test_a_search_whose_folder_is_moved_says_so_and_goes_on_there(tmp_path, undisturbed):
    here, there = tmp_path / "here", tmp_path / "there"

    class Moves(Instant):
        def wait(self, seconds):
            if len(self.trained) == 4 and here.exists():
                here.rename(there)
            return super().wait(seconds)

    with pytest.raises(StoreError, match=r"log\.jsonl was moved or removed while this search ran"):
        loop(here, Moves()).run()
    assert not (here / "log.jsonl").exists()
    resumed = loop(there)
    resumed.run()
    assert_same(final(resumed), undisturbed)


def test_a_log_written_by_two_searches_is_an_error_without_a_traceback(tmp_path):
    loop(tmp_path).run()
    log = tmp_path / "log.jsonl"
    lines = list(map(json_line, Log(log).read()))  # as an older version wrote them, without links
    twice = next(line for line in lines if '"evaluated"' in line)
    log.write_text("".join([*lines, twice]))
    (tmp_path / "checkpoint.pt").unlink()
    with pytest.raises(LogError, match="two searches wrote to one log"):
        loop(tmp_path, search=tiny_search(samples=30)).run()


def test_a_log_that_replaced_another_is_replayed_from_its_start(tmp_path, undisturbed):
    for name, seed in (("one", 0), ("other", 5)):
        loop(tmp_path / name, Instant(slots=4, seed=seed)).run()
    log = (tmp_path / "other" / "log.jsonl").read_text()
    (tmp_path / "one" / "log.jsonl").write_text(log)
    ours, theirs = loop(tmp_path / "one"), loop(tmp_path / "other")
    ours.run()
    theirs.run()
    assert any("belongs to another log" in note for note in ours.display.notes)
    assert_same(final(ours), final(theirs))


def test_children_that_have_ended_do_not_wait_for_draws_that_are_settled_at_once(tmp_path):
    space = {"operands": ["g", "m"], "unary": ["identity"], "binary": ["*"], "iterations": 1}

    class Slow(Instant):
        waits = 0

        def wait(self, seconds):
            self.waits += 1
            return super().wait(seconds)

    launcher = Slow(slots=4)
    loop(tmp_path, launcher, tiny_search(space=space, samples=10 * DRAWS)).run()
    assert launcher.waits >= 9


def test_a_hang_has_reward_0_and_its_reason(tmp_path):
    loop(tmp_path, Instant(fate=lambda n, job: "overran"), tiny_search(samples=4)).run()
    (first, *_) = [e for e in events(tmp_path, "evaluated") if e["status"] == "overran"]
    assert first["reward"] == 0
    assert "hung" in first["reason"]


def test_a_full_disk_stops_the_search_which_continues_later(tmp_path, undisturbed):
    blocked = Instant(fate=lambda n, job: "blocked" if n == 5 else "recorded")
    with pytest.raises(StoreError):
        loop(tmp_path, blocked).run()
    whole = loop(tmp_path)
    whole.run()
    assert_same(final(whole), undisturbed)


def test_a_full_disk_under_the_log_leaves_no_half_line(tmp_path, undisturbed, monkeypatch):
    left = 9

    def full(file, data):
        nonlocal left
        left -= 1
        file.write(data[: len(data) // 2] if left < 0 else data)
        if left < 0:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(log_module, "_write_all", full)
    with pytest.raises(StoreError, match="No space left"):
        loop(tmp_path).run()
    monkeypatch.undo()
    second = loop(tmp_path)
    second.run()
    assert not any("torn" in note for note in second.display.notes)
    assert_same(final(second), undisturbed)


def test_answers_are_removed_only_once_the_log_is_on_disk(tmp_path, monkeypatch):
    """If the machine dies, either the log has the reward or the answer is still there."""
    sync = Log.sync
    kept = []

    def looking(log):
        events_of = [json.loads(line) for line in log.path.read_text().splitlines()]
        trained = {e["sample"] for e in events_of if e.get("status") == "healthy"}
        kept.append({int(p.stem) for p in (tmp_path / "answers").glob("*.json")} & trained)
        sync(log)

    monkeypatch.setattr(Log, "sync", looking)
    loop(tmp_path, Instant(slots=3)).run()
    assert set().union(*kept) == {
        e["sample"] for e in events(tmp_path, "evaluated") if e["status"] == "healthy"
    }
    assert not list((tmp_path / "answers").glob("*.json"))


def test_a_torn_last_line_is_reported_and_dropped_and_other_damage_stops(tmp_path, undisturbed):
    loop(tmp_path, search=tiny_search(samples=10)).run()
    log = tmp_path / "log.jsonl"
    with log.open("ab") as file:
        file.write(b'{"event": "eval')
    again = loop(tmp_path)
    again.run()
    assert any("torn" in note and "dropped" in note for note in again.display.notes)
    assert_same(final(again), undisturbed)
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join([*lines[:4], "not JSON\n", *lines[4:]]))
    with pytest.raises(LogError, match=r"line 5"):
        loop(tmp_path).run()


def test_two_people_cannot_run_one_search_at_once(tmp_path):
    class Meanwhile(Instant):
        def wait(self, seconds):
            claim = json.loads((tmp_path / "claim.json").read_text())
            claim["pid"] = os.getppid()
            (tmp_path / "claim.json").write_text(json.dumps(claim))
            with pytest.raises(ConfigError, match="is working there"):
                loop(tmp_path).run()
            raise Crash

    with pytest.raises(Crash):
        loop(tmp_path, Meanwhile()).run()


def test_a_controller_that_repeats_itself_does_not_draw_without_end(tmp_path):
    """Eight workers, one rule: few samples wait for its reward, and then all are settled."""
    space = {"operands": ["g", "m"], "unary": ["identity"], "binary": ["*"], "iterations": 1}
    launcher = Instant(slots=8)
    whole = loop(tmp_path, launcher, tiny_search(space=space, samples=100))
    most = 0
    settle = whole.display.update

    def update(running):
        nonlocal most
        most = max(most, len(running.state.open))
        settle(running)

    whole.display.update = update
    whole.run()
    assert len(launcher.trained) == len(set(launcher.trained))
    assert most <= WAITING + 8
    assert len(events(tmp_path, "evaluated")) == 100


def test_samples_of_older_policies_are_learned_from_and_their_age_is_reported(tmp_path):
    loop(tmp_path, Instant(slots=8), tiny_search(samples=60)).run()
    ages = [event["staleness"] for event in events(tmp_path, "updated")]
    assert max(ages) > 0.5
    for event in events(tmp_path, "proposed"):
        assert len(event["log_probs"]) == len(event["tokens"])


def test_refusals_have_a_reason_and_can_be_switched_off(tmp_path):
    loop(tmp_path / "on").run()
    refused = [e for e in events(tmp_path / "on", "evaluated") if e["status"] == "refused"]
    assert refused
    assert all(e["reward"] == 0 and e["reason"] for e in refused)
    off = loop_module.Search.__dataclass_fields__["refuse"].default_factory
    switched = type(off())(constant=False, gradient_free=False, no_descent=False)
    loop(tmp_path / "off", search=tiny_search(refuse=switched)).run()
    assert not [e for e in events(tmp_path / "off", "evaluated") if e["status"] == "refused"]


def test_the_reward_that_is_learned_from_is_the_child_s(tmp_path):
    loop(tmp_path).run()
    drawn = {event["sample"]: event["tokens"] for event in events(tmp_path, "proposed")}
    for event in events(tmp_path, "evaluated"):
        if event["status"] == "healthy":
            text = f"rule: {Rule.from_tokens(drawn[event['sample']])}"
            assert event["reward"] == reward_of_text(text)


def test_scratch_of_the_dead_is_removed(tmp_path):
    tmp_path.mkdir(exist_ok=True)
    scratch = tmp_path / ".checkpoint.pt.dead.tmp"
    scratch.write_text("half")
    old = time.time() - 2 * files.SCRATCH_SECONDS
    os.utime(scratch, (old, old))
    loop(tmp_path, search=tiny_search(samples=2)).run()
    assert not scratch.exists()


def test_code_that_has_changed_since_is_noticed(tmp_path):
    loop(tmp_path, search=tiny_search(samples=10)).run()
    again = loop(tmp_path)
    again.run()
    assert not any("has changed" in note for note in again.display.notes)
    lines = [
        {**event, "code": "01d"} if event["event"] == "session" else event
        for event in Log(tmp_path / "log.jsonl").read()
    ]
    (tmp_path / "log.jsonl").write_text("".join(map(json_line, lines)))  # without links
    later = loop(tmp_path, search=tiny_search(samples=30))
    later.run()
    (noted,) = [note for note in later.display.notes if "has changed" in note]
    assert noted.startswith("the code that trains or learns has changed since this search last ran"
                            " (01d, now ")  # fmt: skip
