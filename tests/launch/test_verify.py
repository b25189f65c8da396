"""Records of older code: signed when training repeats them, left alone when it does not."""

import dataclasses
import multiprocessing
import pickle

import pytest

from nos_repro.experiments.build import Conditions
from nos_repro.experiments.code import trial_code
from nos_repro.experiments.schema import Row, Selection
from nos_repro.experiments.selection import is_stale, outcome
from nos_repro.experiments.store import Store
from nos_repro.launch.local import InProcess, LocalWorkers
from nos_repro.launch.run import run_study
from nos_repro.launch.slurm.ledger import Ledger
from nos_repro.launch.slurm.pack import Pack
from nos_repro.launch.verify import VerifyJob, verify
from tests.experiments.helpers import digits_study


@pytest.fixture
def recorded(tmp_path):
    """A study of two trials that have run, whose records are then marked as by older code."""
    study = digits_study({"SGD": Row("sgd")}, selection=Selection())
    store = Store(tmp_path, study.study, study.scale)
    conditions = Conditions(tmp_path)
    assert run_study(study, store, InProcess(), conditions) == 0
    for record in outcome(study, "SGD", store).records:
        store.replace(dataclasses.replace(record, code="0" * 12))
    return study, store, conditions


@pytest.mark.parametrize("whole", [False, True])
def test_a_stale_record_that_training_repeats_is_signed_with_todays_code(recorded, whole):
    study, store, conditions = recorded
    assert outcome(study, "SGD", store).stale
    assert {
        agreed for _, agreed in verify(study, store, conditions, LocalWorkers(1), whole=whole)
    } == {True}
    row = outcome(study, "SGD", store)
    assert not row.stale
    assert {tuple(record.verified) for record in row.records} == {("0" * 12,)}
    assert list(verify(study, store, conditions, LocalWorkers(1))) == []


def test_a_stale_record_that_training_does_not_repeat_stays_stale(recorded):
    study, store, conditions = recorded
    first, second = outcome(study, "SGD", store).records
    metrics = [{**first.metrics[0], "train_loss": first.metrics[0]["train_loss"] + 1e-12}]
    store.replace(dataclasses.replace(first, metrics=metrics))
    agreed = {trial.id: good for trial, good in verify(study, store, conditions, LocalWorkers(1))}
    assert agreed == {first.id: False, second.id: True}
    assert [is_stale(r) for r in outcome(study, "SGD", store).records] == [True, False]


def test_leaving_a_verification_early_leaves_no_worker_behind(recorded):
    study, store, conditions = recorded
    verification = verify(study, store, conditions, LocalWorkers(1))
    next(verification)
    verification.close()
    for process in multiprocessing.active_children():
        process.join(timeout=120)
    assert not multiprocessing.active_children()


def test_a_trial_that_todays_code_cannot_train_does_not_agree_and_stops_no_other(recorded):
    study, store, conditions = recorded
    nowhere = dataclasses.replace(conditions, device="no such device")
    assert {agreed for _, agreed in verify(study, store, nowhere, LocalWorkers(1))} == {False}


def test_what_a_cluster_verified_in_the_meantime_is_used_and_not_trained_again(recorded):
    study, store, conditions = recorded
    for trial in outcome(study, "SGD", store).trials:
        record = store.record(trial)
        code = trial_code(trial.to_json())
        job = VerifyJob(trial, code, store.root / "verify", conditions, record)
        assert job.run(lambda: False) == ("recorded", "")
    assert {agreed for _, agreed in verify(study, store, conditions, Nothing())} == {True}
    assert not outcome(study, "SGD", store).stale
    assert not (store.root / "verify").exists()


def test_a_slurm_job_verifies_like_any_other_launcher(recorded):
    """Without a cluster: the pack is what runs inside a SLURM job."""
    study, store, conditions = recorded
    (trial, *_) = outcome(study, "SGD", store).trials
    job = VerifyJob(trial, "1" * 12, store.root / "verify", conditions, store.record(trial))
    batch = Ledger(store.root / "slurm").new("tiny", [[job.identity]])
    batch.array = "71"
    batch.save()
    job = pickle.loads(pickle.dumps(job))
    Pack(batch.folder, 0, [job], threads=1, minutes=60, signal_seconds=60)()
    batch.look()
    assert batch.messages[0, 0].outcome == "recorded"
    assert job.answer() is True


class Nothing(InProcess):
    def submit(self, job):
        raise AssertionError(f"{job.label} is trained again")
