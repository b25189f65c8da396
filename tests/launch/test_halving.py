"""A study that halves its rows: run whole, interrupted, and from a clone's files."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from nos_repro.experiments.build import Conditions
from nos_repro.experiments.schema import Halving, Row, Selection, Training
from nos_repro.experiments.selection import outcomes
from nos_repro.experiments.store import Store
from nos_repro.experiments.training import Stopped
from nos_repro.launch.dry_run import dry_run
from nos_repro.launch.local import InProcess, LocalWorkers
from nos_repro.launch.run import run_study
from nos_repro.launch.verify import agrees
from nos_repro.report.figures.base import draw
from nos_repro.report.study.status import study_status
from nos_repro.report.study.table import study_table
from tests.experiments.helpers import digits_study, filled

HERE = Conditions(Path("unused"))
ROWS = {
    "SGD": Row("sgd", sweep={"lr": [0.001, 0.01]}),
    "PowerSign": Row("powersign-ld", sweep={"lr": [0.05, 0.2]}, schedule="noisy_linear_cosine"),
    "drops": Row("rule: drop(g, 0.3) + noise*g", sweep={"lr": [0.02, 0.1]}),
    "slow": Row("sgd", sweep={"lr": [1e-5, 1e-4]}),
    "explodes": Row("sgd", sweep={"lr": [1e30]}),
}
TASK = filled(head="stride", train_images=40, batch_size=10, validation_images=40)
STUDY = digits_study(
    ROWS,
    task={"name": "convnet", **TASK},
    training=Training(epochs=4),
    selection=Selection(),
    halving=Halving(rungs=[1, 2]),
)


def run(results, study=STUDY, launcher=None):
    store = Store(results, study.study, study.scale)
    return run_study(study, store, launcher or InProcess(), HERE)


def files(results, name):
    found = sorted((results / "tiny/smoke/trials").glob(f"*/{name}"))
    return {file.parent.name: file.read_bytes() for file in found}


def rows_of(results, study=STUDY):
    return {row.name: row for row in outcomes(study, Store(results, study.study, study.scale))}


def table(results, study=STUDY):
    return study_table(study, list(rows_of(results, study).values())).text()


class Watched(InProcess):
    """Remembers from which epoch each of its jobs continues."""

    def __init__(self):
        super().__init__()
        self.starts = []

    def submit(self, job):
        record = job.folder / "record.json"
        self.starts.append(json.loads(record.read_bytes())["steps"] // 4 if record.exists() else 0)
        super().submit(job)


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    folder, launcher = tmp_path_factory.mktemp("halved"), Watched()
    assert run(folder, launcher=launcher) == 0
    return folder, launcher


@pytest.fixture(scope="module")
def halved(watched):
    return watched[0]


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """Every trial of the study at full length, by trial: the undisturbed curves."""
    folder = tmp_path_factory.mktemp("full")
    assert run(folder, dataclasses.replace(STUDY, halving=None)) == 0
    return files(folder, "metrics.jsonl")


def best_so_far(curve, epoch):
    lines = [json.loads(line) for line in curve.splitlines()]
    values = [line["val_accuracy"] for line in lines if line["epoch"] <= epoch]
    return max(values, default=-1.0)


def test_the_best_continue_as_the_undisturbed_curves_say(halved, full):
    rows = rows_of(halved)
    for rung, going in ((1, 3), (2, 2)):
        scores = {
            name: max(best_so_far(full[scored.trial.id], rung) for scored in row.sweep)
            for name, row in rows.items()
        }
        rows = {name: rows[name] for name in sorted(scores, key=scores.get, reverse=True)[:going]}
    survivors = {
        name
        for name, row in rows_of(halved).items()
        if row.chosen is not None and row.chosen.record.status == "finished"
    }
    assert survivors == set(rows)
    assert len(survivors) == 2


def test_a_survivor_equals_the_undisturbed_run_and_a_stopped_trial_its_beginning(halved, full):
    ends = {"finished": 0, "stopped": 0, "diverged": 0}
    for id_, curve in files(halved, "metrics.jsonl").items():
        status = json.loads((halved / f"tiny/smoke/trials/{id_}/record.json").read_text())["status"]
        ends[status] += 1
        assert full[id_].startswith(curve)
        assert (curve == full[id_]) == (status != "stopped")
    assert ends == {"finished": 2, "stopped": 6, "diverged": 1}


def test_what_is_trained_is_trained_once(watched):
    """Nine trials to epoch 1, from there three to epoch 2, from there two to the end."""
    assert watched[1].starts == [0] * 9 + [1] * 3 + [2] * 2


class Interrupted(InProcess):
    """Stops its second job in the middle, after ``steps`` steps, as Ctrl-C does."""

    def __init__(self, steps):
        super().__init__()
        self.steps, self.jobs = steps, 0

    def submit(self, job):
        self.jobs += 1
        if self.jobs < 2:
            return super().submit(job)
        left = iter(range(self.steps))
        try:
            job.run(lambda: next(left, None) is None)
        except Stopped:
            raise KeyboardInterrupt from None
        raise KeyboardInterrupt


def test_interrupting_every_other_trial_changes_no_byte(halved, tmp_path):
    for n in range(40):
        try:
            run(tmp_path, launcher=Interrupted(steps=n % 6))
            break
        except KeyboardInterrupt:
            table(tmp_path)
    assert n > 5
    assert files(tmp_path, "metrics.jsonl") == files(halved, "metrics.jsonl")
    assert table(tmp_path) == table(halved)
    assert reasons(tmp_path) == reasons(halved)


def reasons(results):
    lines = (results / "tiny/smoke/records.jsonl").read_text().splitlines()
    return [(r["id"], r["status"], r["reason"], r["steps"]) for r in map(json.loads, lines)]


def test_a_decision_that_was_not_saved_is_made_again(halved, tmp_path):
    """Killed between a rung and its records, so that only paused records exist."""
    shutil.copytree(halved, tmp_path, dirs_exist_ok=True)
    (tmp_path / "tiny/smoke/records.jsonl").unlink()
    for path in tmp_path.glob("tiny/smoke/trials/*/record.json"):
        values = json.loads(path.read_text())
        if values["status"] == "stopped":
            path.write_text(json.dumps({**values, "status": "paused", "reason": "paused"}))
    assert table(tmp_path) == table(halved)
    run(tmp_path, launcher=Nothing())
    assert reasons(tmp_path) == reasons(halved)


class Nothing(InProcess):
    def submit(self, job):
        raise AssertionError(f"{job.label} is trained again")


def test_a_clone_with_only_the_records_trains_nothing_and_reports_the_same(halved, tmp_path):
    (tmp_path / "tiny/smoke").mkdir(parents=True)
    shutil.copy(halved / "tiny/smoke/records.jsonl", tmp_path / "tiny/smoke")
    before = (tmp_path / "tiny/smoke/records.jsonl").read_bytes()
    assert run(tmp_path, launcher=Nothing()) == 0
    assert table(tmp_path) == table(halved)
    assert (tmp_path / "tiny/smoke/records.jsonl").read_bytes() == before
    assert [p.name for p in (tmp_path / "tiny/smoke").iterdir()] == ["records.jsonl"]


def test_a_larger_share_continues_trials_that_were_stopped(halved, full, tmp_path):
    shutil.copytree(halved, tmp_path, dirs_exist_ok=True)
    wider = dataclasses.replace(STUDY, halving=Halving(rungs=[1, 2], keep=1.0))
    assert run(tmp_path, wider) == 0
    finished = [r for r in reasons(tmp_path) if r[1] == "finished"]
    assert len(finished) == 4
    for id_, *_ in finished:
        assert files(tmp_path, "metrics.jsonl")[id_] == full[id_]
    narrow = {name: row.number("best_test") for name, row in rows_of(tmp_path).items()}
    assert sum(number is not None for number in narrow.values()) == 2, "the study decides, not them"
    assert table(tmp_path) == table(halved)


def test_a_stopped_record_says_why_and_carries_its_curve(halved):
    slow = rows_of(halved)["slow"].chosen
    stored = Store(halved, "tiny", "smoke").record(slow.trial)
    assert stored == slow.record
    assert stored.reason == "stopped at epoch 1: rank 4 of 5, 3 went on"
    assert [point["epoch"] for point in stored.metrics] == [1]
    assert stored.steps == 4
    assert stored.rungs == [1, 2]


def test_the_table_and_status_say_how_far_each_row_came(halved):
    text = " ".join(table(halved).split())
    assert "stopped at epoch 1 (rank 4 of 5)" in text
    assert "stopped at epoch 2 (rank 3 of 3)" in text
    assert "to the end (rank 1 of 3)" in text
    assert "explodes - diverged - -" in text
    assert "2 of 5 rows went to the end:" in text
    assert "the best 50% by best validation value so far go on" in text
    status = study_status(STUDY, Store(halved, "tiny", "smoke"))
    assert "9 of 9 trials have ended: 2 finished, 1 diverged, 6 stopped, 0 running" in status
    assert "(stopped at epoch 1 (rank 4 of 5))" in status


def test_a_figure_draws_a_stopped_row_up_to_where_it_was_stopped(halved):
    study = dataclasses.replace(STUDY, figure={"metric": "val_accuracy"})
    figure = draw(study, list(rows_of(halved).values()))
    drawn = {line.get_xdata()[-1] for line in figure.axes[0].get_lines() if len(line.get_xdata())}
    assert drawn == {1, 2, 4}
    names = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert "slow: stopped at epoch 1 (rank 4 of 5)" in names
    assert "explodes: diverged" in names


def test_a_race_in_progress_counts_the_trials_waiting_at_the_rung(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, launcher=Interrupted(steps=1))
    store = Store(tmp_path, "tiny", "smoke")
    status = study_status(STUDY, store)
    assert "0 of 9 trials have ended: 0 running, 1 paused at a rung, 1 interrupted" in status
    assert "SGD" in table(tmp_path)
    assert "1/2 at epoch 1" in table(tmp_path)


def test_a_dry_run_shows_what_halving_saves(tmp_path):
    text = dry_run(STUDY, Store(tmp_path, "tiny", "smoke"), HERE, workers=1, threads=1)
    assert text.count(" to epoch 1]") == 9
    assert "after epoch 1 the best 3 of 5 rows continue to epoch 2" in text
    assert "after epoch 2 the best 2 of 3 rows continue to epoch 4" in text
    assert "halving trains 16 epochs in total, 56% less than the 36 for every trial" in text


def test_a_stopped_record_is_verified_up_to_where_it_was_stopped(halved):
    scored = rows_of(halved)["slow"].chosen
    assert agrees(scored.trial, scored.record, HERE, whole=True)
    odd = [{**point, "val_loss": 0.0} for point in scored.record.metrics]
    changed = dataclasses.replace(scored.record, metrics=odd)
    assert not agrees(scored.trial, changed, HERE, whole=True)


def test_a_pause_of_this_machine_gives_way_to_what_a_clone_brought_further(halved, tmp_path):
    shutil.copytree(halved, tmp_path, dirs_exist_ok=True)
    store = Store(tmp_path, "tiny", "smoke")
    best = next(r for r in rows_of(tmp_path).values() if r.number("best_test")).chosen
    path = store.folder(best.trial) / "record.json"
    early = dataclasses.replace(best.record, status="paused", metrics=best.record.metrics[:1])
    path.write_text(json.dumps(early.to_json()))
    store.compact([best.trial])
    assert store.record(best.trial).status == "finished"
    assert table(tmp_path) == table(halved)
    other = {**best.trial.to_json(), "schedule_options": {"changed": "since"}}
    store.replace(dataclasses.replace(best.record, trial=other))
    path.write_text(json.dumps(early.to_json()))
    assert store.record(best.trial).status == "paused", "the committed one is of other settings"


@pytest.mark.slow
def test_worker_processes_decide_the_same(halved, tmp_path):
    assert run(tmp_path, launcher=LocalWorkers(2)) == 0
    assert files(tmp_path, "metrics.jsonl") == files(halved, "metrics.jsonl")
    assert reasons(tmp_path) == reasons(halved)
