"""A child that fails by a bug is not a child that diverged: nothing is learned from it, the search
stops where every child would fail, and `--retry` trains it again."""

import os
import re

import pytest
import torch

from nos_repro.cli import main
from nos_repro.experiments.build import Conditions
from nos_repro.experiments.files import write_json
from nos_repro.search.child import broken
from nos_repro.search.failure import ChildError
from nos_repro.search.folder import hold
from nos_repro.search.log import Log
from nos_repro.search.loop import MAX_FAILED
from nos_repro.search.run import confirm, run_search
from nos_repro.search.settings import load_search
from nos_repro.search.side_runs import SideRun, read_side_runs
from nos_repro.search.summary import closing_lines
from tests.conftest import ROOT
from tests.search.helpers import Instant, loop, tiny_search

SEARCH = """
search: bugs
source: none
claim: The reward rises.
space: {operands: [g, m, "1"], unary: [identity], binary: ["*", keep_left], iterations: 1}
algorithm: {name: random}
child:
  task: {name: buggy_lab.line, points: 64}
  rates: [0.01, 0.1]
  epochs: 1
  seconds: 60
samples: 4
baselines: {SGD: sgd, Momentum: momentum}
confirm: {best: 1, seeds: 2}
scales:
  paper: {}
"""
BUGS = {
    # in the task's own code     a bug            the words of the error
    "training_step": ("torch.ones(2, 3) @ torch.ones(2, 3)", "RuntimeError: mat1 and mat2 shapes"),
    "metrics": ("sums['eror']", "KeyError: 'eror'"),
}


def events(folder, kind):
    return [event for event in Log(folder / "log.jsonl").read() if event["event"] == kind]


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A folder with the example package's task, which has a bug while a file `bug` is there, and a
    search on it."""
    example = ROOT / "tests" / "example_package" / "my_package"
    package = f"lab_{tmp_path.name}"
    (tmp_path / package).mkdir()
    for name in ("line", "drawing"):
        text = (example / f"{name}.py").read_text().replace("my_package", package)
        text = text.replace('register("line")', f'register("{package}")')
        for place, (bug, _) in BUGS.items():
            head, tail = text.split(f"def {place}(") if f"def {place}(" in text else (text, "")
            first, rest = tail.split(":\n", 1) if tail else ("", "")
            check = f"if Path({str(tmp_path / place)!r}).exists():\n            {bug}"
            text = f"{head}def {place}({first}:\n        {check}\n{rest}" if tail else head
        (tmp_path / package / f"{name}.py").write_text(text)
    (tmp_path / "bugs.yaml").write_text(SEARCH.replace("buggy_lab", package))
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.fixture
def search(lab, capsys):
    """Runs the search in this process; returns its status and what it said."""

    def run(*words):
        given = ["search", str(lab / "bugs.yaml"), "--results", str(lab / "results")]
        status = main([*given, "--workers", "0", *words])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


@pytest.mark.parametrize("place", BUGS)
def test_a_bug_in_the_task_stops_the_search_at_its_first_baseline_with_one_traceback(
    lab, search, place
):
    (lab / place).touch()
    status, _, said = search()
    assert status == 1
    assert said.count("Traceback (most recent call last)") == 1
    assert f"error: the child of SGD (baseline) failed: {BUGS[place][1]}" in said
    assert "--retry" in said
    folder = lab / "results" / "bugs" / "paper"
    assert not (folder / "log.jsonl").exists(), "no rule was drawn"
    assert [found.status for _, found in read_side_runs(folder)] == ["failed"]
    assert str(lab) not in (folder / "named.jsonl").read_text()

    (lab / place).unlink()
    status, _, said = search()
    assert status == 1, "what failed stays until it is to be tried again"
    assert said.count("Traceback (most recent call last)") == 1

    _leave_failed_answers(folder)
    status, said, _ = search("--retry")
    assert status == 0
    assert "bugs at scale paper: finished, 4/4 draws" in said
    assert {found.status for _, found in read_side_runs(folder)} == {"healthy"}


def _leave_failed_answers(folder):
    """As the workers of a search do that ends while they are at work."""
    search = load_search(folder.parents[2] / "bugs.yaml")
    found = broken(ValueError("of the time before")).to_json()
    for name, optimizer in search.baselines.items():
        child = SideRun("baseline", name, optimizer)
        answer = {"key": child.key, "evaluation": found}
        write_json(folder / "answers" / f"{child.job_name}.json", answer)


def test_a_value_outside_the_declared_range_stops_the_search_without_a_traceback(lab, search):
    (module,) = lab.glob("*/line.py")
    module.write_text(module.read_text().replace("range=(0.0, math.inf)", "range=(5.0, math.inf)"))
    status, _, said = search()
    assert status == 2
    assert re.search(r"task lab_\S+: mse is \S+, outside its declared range, 5 to inf", said)
    assert "Traceback" not in said.split("error: ")[1]


def test_a_finished_search_says_so_and_what_to_do_next(lab, search):
    assert search()[0] == 0
    again, said, advice = search()
    assert again == 0
    assert "bugs at scale paper: finished, 4/4 draws" in said
    assert "baselines: " in said
    for command in ("report", "search"):
        assert f"python -m nos_repro {command} {lab / 'bugs.yaml'} --scale paper" in advice
    for flag in ("--confirm", "--export-best 12"):
        assert flag in advice


def test_a_failure_beside_the_search_is_counted_and_what_retries_it_is_named(tmp_path):
    searching = tiny_search(samples=3, baselines={"SGD": "sgd"})
    conditions, folder = Conditions(tmp_path), tmp_path / "tiny" / "smoke"
    run_search(searching, tmp_path, Instant(), conditions, 1)
    assert closing_lines(searching, folder, "tiny.yaml")[2] == 0
    confirm(
        searching, tmp_path, Instant(fate=lambda n, _: "failed" if n else "recorded"), conditions
    )
    lines, commands, failed = closing_lines(searching, folder, "tiny.yaml")
    assert failed > 0
    assert f"{failed} failed by a bug" in "\n".join(lines)
    assert "search tiny.yaml --confirm --retry" in commands
    confirm(searching, tmp_path, Instant(), conditions, retry=True)
    assert closing_lines(searching, folder, "tiny.yaml")[2] == 0


def test_status_names_the_process_that_trains_the_baselines(lab, capsys):
    words = ["status", str(lab / "bugs.yaml"), "--results", str(lab / "results")]
    with hold(lab / "results" / "bugs" / "paper" / "answers"):
        assert main(words) == 0
    assert f"running now on children beside the search: process {os.getpid()}" in (
        capsys.readouterr().out
    )


def test_status_knows_a_finished_search_and_one_that_has_not_begun(lab, search, capsys):
    words = ["status", str(lab / "bugs.yaml"), "--results", str(lab / "results")]
    assert main(words) == 0
    assert "not running; `search` starts it" in capsys.readouterr().out
    assert search()[0] == 0
    assert main(words) == 0
    assert "finished: every rule has its reward" in capsys.readouterr().out


def test_nothing_is_learned_from_a_child_that_failed_and_retry_trains_it_again(tmp_path):
    launcher = Instant(fate=lambda n, job: "failed" if n == 1 else "recorded")
    first = loop(tmp_path, launcher)
    first.run()
    (given_up,) = {e["sample"] for e in events(tmp_path, "withdrawn") if "equal" not in e["reason"]}
    failed = {event["sample"] for event in events(tmp_path, "withdrawn")}
    rewarded = {event["sample"] for event in events(tmp_path, "evaluated")}
    assert given_up in failed
    assert failed | rewarded == set(range(20))
    assert not failed & rewarded
    assert first.tally.statuses["failed"] == len(failed)
    learned = {n for event in events(tmp_path, "updated") for n in event["samples"]}
    assert not failed & learned
    assert "ValueError: a wrong size" in (tmp_path / "failures" / f"{given_up}.txt").read_text()

    loop(tmp_path).run()
    assert {e["sample"] for e in events(tmp_path, "withdrawn")} == failed, "not without --retry"
    again = loop(tmp_path, retry=True)
    again.run()
    assert {event["sample"] for event in events(tmp_path, "evaluated")} == set(range(20))
    assert (again.tally.withdrawn, again.tally.statuses["failed"]) == (0, 0)

    (tmp_path / "checkpoint.pt").unlink()
    replayed = loop(tmp_path)
    replayed.run()
    ours, theirs = (each.state.algorithm.controller.state_dict() for each in (again, replayed))
    assert all(ours[key].equal(theirs[key]) for key in theirs)


def test_children_that_fail_one_after_the_other_stop_the_search(tmp_path):
    with pytest.raises(ChildError, match=r"as did those of the rules before it: ValueError"):
        loop(tmp_path, Instant(fate=lambda n, job: "failed")).run()
    assert not events(tmp_path, "evaluated") or not events(tmp_path, "updated")
    trained = [e for e in events(tmp_path, "withdrawn") if "equal" not in e["reason"]]
    assert len(trained) == MAX_FAILED - 1
    loop(tmp_path, retry=True).run()
    assert {event["sample"] for event in events(tmp_path, "evaluated")} == set(range(20))


def test_an_exception_is_the_optimizer_s_fault_if_it_went_through_an_optimizer():
    class Odd(torch.optim.SGD):
        def step(self, closure=None):
            raise ValueError("odd")

    with pytest.raises(ValueError, match="odd") as raised:
        Odd([torch.nn.Parameter(torch.ones(1))], lr=0.1).step()
    assert broken(raised.value).fault == "optimizer"
    assert broken(ValueError("elsewhere")).fault == "task"
