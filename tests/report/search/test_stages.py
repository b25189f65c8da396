"""A cascade and a race in the report of a search."""

import random

import pytest
from scipy.stats import binomtest

from nos_repro.experiments.build import Conditions
from nos_repro.launch.progress import duration
from nos_repro.report.distributions import share_interval
from nos_repro.report.search.files import print_report, search_files, search_tables
from nos_repro.report.search.history import read_history
from nos_repro.report.search.made_by import stale_lines
from nos_repro.report.search.stages import cascade_tables, fates, race_tables
from nos_repro.report.search.status import search_status
from nos_repro.search.run import run_search
from nos_repro.search.settings import load_search
from nos_repro.tracking.metrics import search_point
from tests.search.test_cascade import Staged

FILE = """
search: staged
space:
  operands: [g, m, v, sign(g), sign(m), "1"]
  unary: [identity, exp, sqrt]
  binary: ["*", /, +]
  iterations: 2
algorithm: {name: random}
child: {task: {name: mlp}, rates: [0.01, 0.1], epochs: 1, seconds: 60}
cascade:
  cheap: {task: {name: mlp, hidden: 4}, rates: [0.1], epochs: 1}
  keep_sweep: 0.6
  window: 40
  first: 5
  anyway: 0.3
race: {best: 6, seeds: 4}
baselines: {SGD: sgd, Adam: adam}
samples: 150
"""


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("staged")
    path = folder / "staged.yaml"
    path.write_text(FILE)
    search = load_search(path, scale="default")
    run_search(search, folder, Staged(), Conditions(folder, device="cpu"), 1)
    return path, folder


def history(searched):
    path, folder = searched
    return read_history(path, folder, scale="default")


def cells(table):
    return [[cell.text for cell in row] for row in table.rows]


def test_every_rule_is_counted_where_it_was_stopped_and_every_second_where_it_was_spent(searched):
    found = history(searched)
    passed, _ = cascade_tables(found)
    cheap, sweep, rest, everything = cells(passed)
    assert [row[0] for row in cells(passed)] == [
        "cheap child", "sweep of the child", "rest of the child", "all",
    ]  # fmt: skip
    went, stopped, anyway = (int(cheap[n].split(" ")[0]) for n in (3, 4, 5))
    worst = sum(event["status"] == "diverged" for events in found.staged.values()
                for event in events)  # fmt: skip
    assert int(cheap[1]) - int(cheap[2]) == worst > 0
    assert went + stopped + anyway == int(cheap[1]) == int(everything[1])
    assert int(sweep[1]) == went + anyway
    judged = [fate for fate in fates(found) if fate.is_trained]
    assert int(rest[1]) == len(judged) == found.children == found.tally.children
    assert float(cheap[7]) == 1.0
    assert float(sweep[7]) == 3.0
    assert float(rest[7]) == 10.0
    spent = int(cheap[1]) + 3 * int(sweep[1]) + 10 * int(rest[1])
    assert found.seconds == spent
    assert [row[6] for row in cells(passed)] == [
        duration(seconds)
        for seconds in (int(cheap[1]), 3 * int(sweep[1]), 10 * int(rest[1]), spent)
    ]
    assert "without the cascade" in passed.notes[-1]
    assert len(found.of("cheap")) == 2
    assert "the baselines" in passed.notes[1]
    assert "Adam (" in passed.notes[1]


def test_what_is_lost_is_estimated_by_the_rules_trained_anyway(searched):
    found = history(searched)
    _, lost = cascade_tables(found)
    tried = [fate for fate in fates(found) if fate.caught("cheap") == "anyway" and fate.end]
    ends = sorted(f.end["reward"] for f in fates(found) if f.is_trained and f.passed)
    row = cells(lost)[0]
    assert int(row[2]) == len(tried) > 3
    good = sum(fate.end["reward"] >= ends[len(ends) // 2] for fate in tried)
    assert row[3].startswith(f"{good}\N{NO-BREAK SPACE}(")
    assert "Clopper and Pearson" in lost.notes[0]


def test_the_race_is_shown_and_its_order_is_that_of_the_hall(searched):
    found = history(searched)
    (race,) = race_tables(found)
    assert len(race.rows) == 6
    assert [row[0] for row in cells(race)] == list("123456")
    assert [rule.rule for rule in found.best(6)] == [row[1] for row in cells(race)]
    assert cells(race)[0][2].endswith("(4)")
    assert cells(race)[-1][2].endswith("(2)")
    assert sorted(int(row[4]) for row in cells(race)) == [1, 2, 3, 4, 5, 6]


def test_the_whole_report_says_so_in_every_form(searched):
    found = history(searched)
    text = print_report(found, "text")
    assert "in a cascade: the best 50% after a cheap child (MLP-4" in " ".join(text.split())
    assert "stopped" in text
    assert len(search_tables(found)) == 8
    assert {"hall_of_fame.md", "figure4.png"} <= set(search_files(found))


def test_progress_status_and_wandb_show_the_stages(searched):
    found = history(searched)
    cheap, sweep = (f"{stage} {found.tally.stages[stage]}" for stage in ("cheap", "sweep"))
    status = search_status(found)
    assert f"cascade: {cheap} (" in status
    assert f"{sweep} (" in status
    assert "in the race of the best, which is over" in status
    point = search_point(found.ends[min(found.ends)], found.tally)
    assert point["count_stopped"] == found.tally.statuses["stopped"] > 0
    assert point["stage_cheap"] == found.tally.stages["cheap"]
    assert point["stage_cheap_stopped"] == found.tally.stages["cheap stopped"]


def test_the_interval_of_a_share_is_scipy_s():
    draw = random.Random(0)
    for _ in range(30):
        of = draw.randrange(1, 60)
        count = draw.randrange(of + 1)
        low, high = binomtest(count, of).proportion_ci()
        assert share_interval(count, of) == pytest.approx((low, high), abs=1e-9)


def test_what_trained_a_cheap_child_of_another_task_is_not_stale(tmp_path):
    path = tmp_path / "staged.yaml"
    cheap = "{name: convnet, data: digits, train_images: 100}"
    text = FILE.replace("{name: mlp, hidden: 4}", cheap).replace("samples: 150", "samples: 5")
    path.write_text(text)
    search = load_search(path, scale="default")
    run_search(search, tmp_path, Staged(), Conditions(tmp_path, device="cpu"), 1)
    found = read_history(path, tmp_path, scale="default")
    assert len(found.made_beside) == 2, "the race and the baselines, and their cheap children"
    assert stale_lines(found) == []
