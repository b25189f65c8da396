"""The ledger of queued jobs, and how SLURM's answers are read."""

import builtins
import errno
import json
import os
import subprocess
import time

import pytest

from nos_repro.errors import LaunchError
from nos_repro.experiments import files
from nos_repro.experiments.files import StoreError
from nos_repro.experiments.heartbeat import STALE_SECONDS, Witness
from nos_repro.launch.settings import LauncherSettings
from nos_repro.launch.slurm import cluster, recovery
from nos_repro.launch.slurm.launcher import Slurm
from nos_repro.launch.slurm.ledger import Ledger, Message
from nos_repro.launch.slurm.throttle import Throttle
from tests.racing import race

RUNNING, PENDING = cluster.TaskState("RUNNING", "None"), cluster.TaskState("PENDING", "Priority")


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "slurm")


def queued(ledger, packs=(("a", "b"), ("c",))):
    batch = ledger.new("tiny", packs)
    batch.array = "71"
    batch.save()
    return batch


def test_another_process_reads_what_was_queued_and_where(ledger):
    queued(ledger)
    found = Ledger(ledger.folder).queued()
    assert {identity: at.task for identity, at in found.items()} == {
        "a": "71_0", "b": "71_0", "c": "71_1",
    }  # fmt: skip


def test_a_batch_of_one_job_is_not_an_array(ledger):
    queued(ledger, [("a", "b")])
    assert {at.task for at in ledger.queued().values()} == {"71"}


def test_a_job_that_has_reported_is_no_longer_queued_for_any_process(ledger):
    batch = queued(ledger)
    other = Ledger(ledger.folder)
    assert len(other.queued()) == 3
    batch.say(0, 0, Message("recorded"))
    assert set(other.queued()) == {"b", "c"}
    (seen,) = other.batches.values()
    assert seen.messages[0, 0].outcome == "recorded"


def test_a_closed_pack_belongs_to_no_process(ledger):
    batch = queued(ledger)
    batch.close(0, "gone")
    assert set(Ledger(ledger.folder).queued()) == {"c"}
    assert batch.is_closed(0)
    assert not batch.is_closed(1)


def test_a_report_that_is_not_whole_yet_is_read_later(ledger):
    batch = queued(ledger)
    path = batch.reports / "1-0.json"
    path.write_text('{"outcome": "reco')
    assert batch.look() == []
    path.write_text('{"outcome": "recorded", "message": "", "detail": ""}')
    assert batch.look() == [(1, 0)]
    assert batch.look() == []


def test_a_batch_without_a_number_is_recognised(ledger):
    ledger.new("tiny", [("a",)])
    (at,) = Ledger(ledger.folder).queued().values()
    assert at.task == "not yet numbered"


def test_a_damaged_batch_is_one_error_that_names_the_file_and_the_job(ledger):
    batch = queued(ledger)
    (batch.folder / "batch.json").write_text("{")
    with pytest.raises(LaunchError, match=rf"{batch.name}/batch.json: damaged.*squeue"):
        Ledger(ledger.folder).queued()


def test_one_process_at_a_time_submits(ledger, tmp_path):
    ledger.folder.mkdir()
    claim = {"host": "elsewhere", "pid": 1, "updated": time.time()}
    (ledger.folder / "claim.json").write_text(json.dumps(claim))
    with ledger.submitting() as ours:
        assert not ours
    seconds = iter([0.0, STALE_SECONDS + 1])
    later = Ledger(ledger.folder, Witness(lambda: next(seconds)))
    with later.submitting() as ours:
        assert not ours
    with later.submitting() as ours:
        assert ours
    assert not (ledger.folder / "claim.json").exists()


JOBS = [f"trial-{n}" for n in range(12)]


def detaches(folder, number, turn):
    """What `run --detach` does, without SLURM: it queues what is not queued."""
    ledger = Ledger(folder / str(turn))
    while True:
        with ledger.submitting() as ours:
            if ours:
                known = ledger.queued()
                fresh = [job for job in JOBS if job not in known]
                if fresh:
                    ledger.new("tiny", [[job] for job in fresh])
                return len(fresh)


@pytest.mark.parametrize("count", [2, 4])
def test_however_many_submit_at_once_each_trial_is_queued_once(tmp_path, count):
    counts = race(detaches, tmp_path, count=count, rounds=30)
    assert [sorted(turn) for turn in counts] == [[0] * (count - 1) + [len(JOBS)]] * 30
    for turn in range(30):
        assert sorted(Ledger(tmp_path / str(turn)).queued()) == sorted(JOBS)
        assert len(list((tmp_path / str(turn)).glob("*/batch.json"))) == 1


@pytest.mark.parametrize("name", ["notes.txt", "x.begun", "1.2.closed", "7", ".nfs01", "1-2.json~"])
def test_an_odd_file_among_the_reports_is_left_alone(ledger, name):
    batch = queued(ledger)
    (batch.reports / name).write_text("?")
    (ledger.folder / name).write_text("?")
    assert batch.look() == []
    assert set(Ledger(ledger.folder).queued()) == {"a", "b", "c"}
    assert (batch.begun, batch.closed) == (set(), set())


@pytest.mark.parametrize("content", ["[]", "{}", '{"outcome": 3}', '{"outcome": "x", "y": 1}'])
def test_a_report_of_the_wrong_kind_is_no_report(ledger, content):
    batch = queued(ledger)
    (batch.reports / "1-0.json").write_text(content)
    assert batch.look() == []


@pytest.mark.parametrize("name", ["slurm", "batch.json", "reports", "1-0.json"])
def test_what_cannot_be_read_for_a_moment_is_never_taken_for_not_queued(ledger, monkeypatch, name):
    queued(ledger).say(1, 0, Message("recorded"))

    def refusing(call):
        def refused(path, *words):
            if str(path).endswith(name):
                raise OSError(errno.EIO, "refused")
            return call(path, *words)

        return refused

    monkeypatch.setattr(files, "open", refusing(builtins.open), raising=False)
    monkeypatch.setattr(os, "listdir", refusing(os.listdir))
    with pytest.raises(StoreError, match=rf"cannot read .*{name}: "):
        Ledger(ledger.folder).queued()


def test_only_batches_that_ended_well_a_while_ago_are_removed(ledger):
    well, lost, fresh = (queued(ledger, [("a",)]) for _ in range(3))
    for batch in (well, fresh):
        batch.say(0, 0, Message("recorded"))
    lost.say(0, 0, Message("lost", "its node failed"))
    for batch in (well, lost):
        os.utime(batch.reports, (0, 0))
    ledger.queued()
    ledger.prune()
    assert not well.folder.exists()
    assert lost.folder.exists()
    assert fresh.folder.exists()


# fmt: off
ENDINGS = [
    ("OUT_OF_MEMORY", "",                                "lost",      "raise launcher.memory_gb"),
    ("FAILED",        "Detected 1 oom_kill event",       "lost",      "out of memory (2 GB"),
    ("FAILED",        "exceeded memory limit (63 > 26)", "lost",      "out of memory (2 GB"),
    ("FAILED",        "srun: error: task 0: Killed",     "lost",      "(SLURM says FAILED)"),
    ("TIMEOUT",       "",                                "lost",      "time limit (4 h)"),
    ("CANCELLED",     "Out Of Memory",                   "cancelled", "it was cancelled"),
    ("NODE_FAIL",     "",                                "lost",      "its node failed"),
    ("PREEMPTED",     "",                                "lost",      "preempted"),
    ("UNKNOWN",       "",                                "lost",      "SLURM says UNKNOWN"),
]
REFUSALS = [
    ("Batch job submission failed: Unable to contact slurm controller (connect failure)", True),
    ("Batch job submission failed: Socket timed out on send/recv operation",              True),
    ("AssocMaxSubmitJobLimit: Job violates accounting/QOS policy (job submit limit)",     False),
    ("invalid partition specified: nowhere",                                              False),
    ("Invalid account or account/partition combination specified",                        False),
]
LIMITS = [
    ("sbatch: error: AssocMaxSubmitJobLimit\n{policy}",       "AssocMaxSubmitJobLimit"),
    ("sbatch: error: QOSMaxSubmitJobPerUserLimit\n{policy}",  "QOSMaxSubmitJobPerUserLimit"),
    ("sbatch: error: QOSGrpSubmitJobsLimit\n{policy}",        "QOSGrpSubmitJobsLimit"),
    ("sbatch: error: MaxSubmitJobsPerAccount\n{policy}",      "MaxSubmitJobsPerAccount"),
    ("sbatch: error: QOSMaxWallDurationPerJobLimit\n{policy}", ""),
    ("{policy}",                                              "the submit limit"),
    ("sbatch: error: invalid partition specified: nowhere",   ""),
]
# fmt: on


@pytest.mark.parametrize(("state", "log", "outcome", "said"), ENDINGS)
def test_each_way_to_end_without_a_report_is_told_apart(state, log, outcome, said):
    message = cluster.judge(state, log, memory_gb=2, hours=4)
    assert message.outcome == outcome
    assert said in message.message
    assert message.detail == log


@pytest.mark.parametrize(("error", "passing"), REFUSALS)
def test_only_errors_that_pass_are_waited_out(error, passing):
    assert cluster.passing(error) is passing


@pytest.mark.parametrize(("error", "limit"), LIMITS)
def test_a_limit_on_the_number_of_jobs_is_told_from_one_on_their_size(error, limit):
    """All of them end with one and the same line."""
    policy = (
        "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy"
        " (job submit limit, user's size and/or time limits)"
    )
    assert cluster.limit(error.format(policy=policy)) == limit


def test_the_first_message_about_a_job_is_kept(ledger):
    batch = queued(ledger)
    batch.say(0, 0, Message("recorded"))
    batch.say(0, 0, Message("lost"))
    batch.look()
    assert batch.messages[0, 0].outcome == "recorded"


def test_a_batch_that_is_removed_while_it_is_read_is_not_damage(ledger, monkeypatch):
    batch = queued(ledger)
    path = batch.folder / "batch.json"
    monkeypatch.setattr(type(path), "glob", lambda *_: [path])
    path.unlink()
    assert Ledger(ledger.folder).queued() == {}


def answering(monkeypatch, text, status=0, error=""):
    """Makes every SLURM command print this."""
    done = subprocess.CompletedProcess([], status, text, error)
    monkeypatch.setattr(cluster.subprocess, "run", lambda *_, **__: done)


def test_jobs_are_known_by_number_and_name(ledger, monkeypatch):
    batch, lost = queued(ledger), ledger.new("tiny", [["d"]])
    text = f"71_0|RUNNING|None|{batch.name}\n71_1|PENDING|Priority|somebody else's\n"
    answering(monkeypatch, text)
    assert cluster.standings([batch, lost]) == {(batch.name, 0): ("RUNNING", "None")}
    assert cluster.standings([lost]) == {}


def test_batches_whose_number_came_again_are_told_apart_and_cancelled(ledger, monkeypatch):
    """A controller that has lost its state counts from where it began."""
    old, new = queued(ledger, [["a"], ["b"]]), queued(ledger, [["c"], ["d"], ["e"]])
    text = "".join(f"71_{pack}|PENDING|Priority|{new.name}\n" for pack in range(3))
    for batches in ([old, new], [new, old]):
        answering(monkeypatch, text)
        found = cluster.standings(batches)
        assert set(found) == {(new.name, pack) for pack in range(3)}
    assert recovery.cancel_all(Ledger(ledger.folder)) == ["71_0", "71_1", "71_2"]


def test_an_unknown_array_is_an_answer_and_a_failed_command_is_not(ledger, monkeypatch):
    batch = queued(ledger)
    answering(monkeypatch, "", 1, "slurm_load_jobs error: Invalid job id specified")
    assert cluster.standings([batch]) == {}
    answering(monkeypatch, "", 1, "slurm_load_jobs error: Unable to contact slurm controller")
    assert cluster.standings([batch]) is None


def test_a_job_knows_its_own_state_and_how_long_it_has(monkeypatch):
    for left, seconds in {"1-02:03:04": 93784, "03:04": 184, "UNLIMITED": None}.items():
        answering(monkeypatch, f"RUNNING|{left}\n")
        assert cluster.own_state("71_0") == ("RUNNING", seconds)
    answering(monkeypatch, "RUNNING|5:00\nRUNNING|5:00\n")  # an array's number, not a job's
    assert cluster.own_state("71") == ("", None)


def test_places_go_to_the_oldest_array_and_then_to_the_next(ledger, monkeypatch):
    throttled = []
    monkeypatch.setattr(cluster, "throttle", lambda array, tasks: throttled.append((array, tasks)))
    first, second = queued(ledger, [["a"], ["b"], ["c"]]), queued(ledger, [["d"], ["e"]])
    first.array, second.array = "1", "2"
    places = Throttle(2)
    places.give(first, 2)
    assert places.room == 0
    places.update({(first.name, 1): RUNNING, (first.name, 2): PENDING})
    assert places.room == 0
    places.update({(first.name, 2): cluster.TaskState("COMPLETING")})
    assert places.room == 1
    places.give(second, 1)
    assert throttled == []
    places.update({(second.name, 0): RUNNING, (second.name, 1): PENDING})
    assert throttled == [("2", 2)]
    assert [batch.array for batch in places.batches] == ["2"]


def test_an_array_of_another_process_is_counted_and_given_its_share(ledger, monkeypatch):
    throttled = []
    monkeypatch.setattr(cluster, "throttle", lambda array, tasks: throttled.append((array, tasks)))
    batch = queued(ledger, [["a"], ["b"], ["c"]])
    places = Throttle(2)
    places.adopt(batch)
    assert places.room == 0
    states = [RUNNING, RUNNING, PENDING]
    places.update({(batch.name, pack): state for pack, state in enumerate(states)})
    assert throttled == [("71", 2)]


def test_a_batch_without_a_number_is_found_by_its_name_or_closed(ledger, monkeypatch):
    batch = ledger.new("tiny", [["a"], ["b"]])
    (batch.folder / "submitit").mkdir()
    (batch.folder / "submitit/99_0_submitted.pkl").touch()
    answering(monkeypatch, "99\n")
    assert recovery.number(ledger)
    assert batch.array == "99"
    assert batch.closed == {1}  # its pickle is missing: it would wait in vain
    other = ledger.new("tiny", [["c"]])
    answering(monkeypatch, "")
    assert recovery.number(ledger)
    assert other.open == []
    ledger.new("tiny", [["d"]])
    answering(monkeypatch, "", 1, "Unable to contact slurm controller")
    assert not recovery.number(ledger)


def test_a_cancellation_that_fails_forgets_nothing(ledger, monkeypatch):
    batch = queued(ledger)
    states = "".join(f"71_{pack}|RUNNING|None|{batch.name}\n" for pack in range(2))

    def refusing(command, **_):
        failed = command[0] == "scancel"
        return subprocess.CompletedProcess(command, failed, states, "Access denied")

    monkeypatch.setattr(cluster.subprocess, "run", refusing)
    with pytest.raises(LaunchError, match="scancel: Access denied"):
        recovery.cancel_all(ledger)
    assert set(Ledger(ledger.folder).queued()) == {"a", "b", "c"}


def test_a_slurm_that_does_not_respond_gives_no_answer(ledger, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cluster.standings([queued(ledger)]) is None
    assert cluster.find_by_name("tiny") is None
    assert cluster.own_state("1") == ("", None)
    with pytest.raises(LaunchError, match="does not answer"):
        cluster.cancel(["1"])


def test_the_tail_comes_from_the_first_log_that_is_not_empty(tmp_path):
    (tmp_path / "err").write_text("\n\n")
    (tmp_path / "out").write_text("".join(f"line {n}\n" for n in range(40)))
    text = cluster.tail(tmp_path / name for name in ("missing", "err", "out"))
    assert text.splitlines() == [f"line {n}" for n in range(28, 40)]


class Ended:
    """A job that another process has queued, and whose result is on disk by now."""

    identity = label = "a"
    limit_seconds = None

    def run(self, stop):
        raise AssertionError

    def is_done(self):
        return True


def test_what_has_ended_in_the_meantime_is_not_queued_again(ledger, monkeypatch):
    answering(monkeypatch, "")
    slurm = Slurm(LauncherSettings(), ledger.folder, "tiny")
    slurm.submit(Ended())
    assert slurm.queue() == ""
    assert (slurm.queued, slurm.ended) == ({}, 1)
    assert [report.outcome for report in slurm.wait(1.0)] == ["recorded"]
    assert list(ledger.folder.glob("*/batch.json")) == []
