"""A board: times to a target, scores and intervals from records whose truth is known."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from jsonschema import Draft202012Validator
from scipy import stats

from nos_repro.cli import main
from nos_repro.errors import ConfigError
from nos_repro.experiments.load import load_study
from nos_repro.experiments.settings_file import find_config
from nos_repro.experiments.trial import Trial
from nos_repro.report.board import table
from nos_repro.report.board.files import board_files
from nos_repro.report.board.measures import (
    NEVER,
    Runs,
    all_runs,
    bounded,
    drawn_runs,
    mean_spread,
    spread_of,
    times_to,
)
from nos_repro.report.board.standing import (
    BoardStanding,
    begun_boards,
    board_standing,
    siblings,
)
from nos_repro.report.claims.results import Results
from nos_repro.report.collection import read_collection, summary, write_collection
from nos_repro.report.documents.base import schema
from nos_repro.report.pages.write import pages
from tests.conftest import ROOT
from tests.report.records import filled_store
from tests.test_quick_verbs import HEAVY, WATCHED

EPOCHS = 10
TASKS = ("one", "one_two", "one_three")
Height = Callable[[Trial, int], float]
"""What a run's validation accuracy is after an epoch."""

BASE: dict[str, Any] = {
    "study": "one",
    "claim": "a board of made-up runs",
    "task": {"name": "convnet", "data": "digits"},
    "training": {"epochs": EPOCHS},
    "sweep": {"lr": [0.01, 0.1, 1.0]},
    "selection": {"by": "final_val", "repeats": 3, "sweep_epochs": 1},
    "columns": {"final_test": "Test", "final_val": "Val"},
    "rows": {
        "AdamW": {"optimizer": "torch.optim.AdamW"},
        "Fast": {"optimizer": "sgd"},
        "Slow": {"optimizer": "momentum"},
    },
}


def declare(folder: Path, names: Sequence[str] = TASKS) -> dict[str, Path]:
    """Studies, all based on the first one, which differ in their batches alone."""
    for number, name in enumerate(names):
        own = {**BASE, "study": name} if not number else {"base": f"{names[0]}.yaml", "study": name}
        own = {**own, "task": {**BASE["task"], "batch_size": 10 * (number + 1)}}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(own, sort_keys=False))
    return {name: folder / f"{name}.yaml" for name in names}


def fill(
    folder: Path, height: Height, names: Sequence[str] = TASKS, less: Sequence[str] = ()
) -> Results:
    """Their records: the middle rate is the best, and the runs have this height. There are none of
    the studies ``less``."""
    files = declare(folder, names)

    def ending(trial: Trial) -> dict[str, Any]:
        if trial.seed == 0:
            value = -abs(math.log10(trial.lr) + 1)
            return {"metrics": [{"epoch": 1, "val_accuracy": value, "test_accuracy": value}]}
        values = [height(trial, epoch) for epoch in range(1, EPOCHS + 1)]
        if math.nan in values:
            return {"status": "diverged", "metrics": []}
        return {"metrics": [{"epoch": n, "val_accuracy": v, "test_accuracy": v - 1}
                            for n, v in enumerate(values, 1)]}  # fmt: skip

    for name in (name for name in names if name not in less):
        filled_store(load_study(files[name], scale="default"), folder / "results", ending)
    return Results(folder / "results", files)


def board(results: Results, **changes: Any) -> BoardStanding:
    return board_standing(results, list(TASKS), "default", **changes)


PACES = {"torch.optim.AdamW": 10.0, "sgd": 20.0, "momentum": 4.0}


def straight(trial: Trial, epoch: int) -> float:
    """A line whose slope depends on the optimizer: the times to any height are known."""
    return PACES[trial.optimizer] * epoch


def rows_of(found: BoardStanding) -> dict[str, Any]:
    return {row.name: row for row in found.rows}


def test_times_and_scores_are_those_of_straight_lines(tmp_path: Path) -> None:
    """AdamW is at 80 after 8 of 10 epochs, twice as steep a line after 4, a flat one never."""
    found = board(fill(tmp_path, straight))
    assert [task.target for task in found.tasks] == pytest.approx([80.0] * 3)
    rows = rows_of(found)
    times = {name: [each.time for each in row.placed.values()] for name, row in rows.items()}
    assert times["AdamW"] == pytest.approx([0.8] * 3)
    assert times["Fast"] == pytest.approx([0.4] * 3)
    assert times["Slow"] == [math.inf] * 3
    assert rows["AdamW"].score.value == pytest.approx(1)
    assert rows["Fast"].score.value == pytest.approx(2)
    assert rows["Slow"].score.value == pytest.approx(0.8 / NEVER)
    assert [row.name for row in found.rows] == ["Fast", "AdamW", "Slow"]
    assert rows["Slow"].reached == 0


def test_ends_that_differ_more_than_they_vary_are_better_or_worse(tmp_path: Path) -> None:
    def varied(trial: Trial, epoch: int) -> float:
        return straight(trial, epoch) * (1 + trial.seed / 100)

    rows = rows_of(board(fill(tmp_path, varied)))
    assert rows["Fast"].tasks("better") == ["convnet", "two", "three"]
    assert rows["Slow"].tasks("worse") == ["convnet", "two", "three"]


def test_ends_that_differ_by_the_same_on_all_seeds_decide_nothing(tmp_path: Path) -> None:
    rows = rows_of(board(fill(tmp_path, straight)))
    assert rows["Fast"].tasks("undecided") == ["convnet", "two", "three"]


def test_a_time_lies_between_evaluations(tmp_path: Path) -> None:
    """`numpy.interp` finds the same, for curves that rise."""

    def bent(trial: Trial, epoch: int) -> float:
        return 100 * (1 - math.exp(-epoch * PACES[trial.optimizer] / 40))

    found = board(fill(tmp_path, bent), share=0.55)
    epochs = np.arange(1, EPOCHS + 1)
    heights = 100 * (1 - np.exp(-epochs * 10 / 40))
    target = np.interp(5.5, epochs, heights)
    assert found.tasks[0].target == pytest.approx(target)
    other = 100 * (1 - np.exp(-epochs * 20 / 40))
    want = np.interp(target, other, epochs) / EPOCHS
    assert rows_of(found)["Fast"].placed["convnet"].time == pytest.approx(want)


def test_the_score_is_the_geometric_mean_over_different_tasks(tmp_path: Path) -> None:
    def height(trial: Trial, epoch: int) -> float:
        faster = trial.task_settings["batch_size"] / 10 if trial.optimizer == "sgd" else 1.0
        return 10 * faster * epoch

    found = rows_of(board(fill(tmp_path, height)))["Fast"]
    speedups = [each.speedup.value for each in found.placed.values()]
    assert speedups == pytest.approx([1.0, 2.0, 3.0])
    assert found.score.value == pytest.approx(stats.gmean(speedups))


def test_a_profile_is_the_share_of_tasks_within_a_factor(tmp_path: Path) -> None:
    """Fast is twice as fast on two of three tasks; on the third AdamW is, and Slow never is."""

    def height(trial: Trial, epoch: int) -> float:
        third = trial.task_settings["batch_size"] == 30
        pace = {"torch.optim.AdamW": 10.0, "sgd": 5.0 if third else 20.0, "momentum": 1.0}[
            trial.optimizer
        ]
        return pace * epoch

    rows = rows_of(board(fill(tmp_path, height), share=0.5))
    assert rows["Fast"].profile.taus == rows["AdamW"].profile.taus == pytest.approx([1, 2])
    assert rows["Fast"].profile.shares == pytest.approx([2 / 3, 1])
    assert rows["AdamW"].profile.shares == pytest.approx([1 / 3, 1])
    assert rows["Slow"].profile.shares == [0]


def noisy(trial: Trial, epoch: int) -> float:
    """The seed lifts a whole run, the same for all rows of a task."""
    source = np.random.default_rng([trial.seed, trial.task_settings["batch_size"]])
    own = np.random.default_rng([trial.seed, len(trial.optimizer)])
    lift = source.normal(0, 5) + own.normal(0, 0.5)
    return PACES[trial.optimizer] * epoch + lift


def test_the_end_is_compared_seed_by_seed_as_students_test_does(tmp_path: Path) -> None:
    found = board(fill(tmp_path, noisy))
    end = rows_of(found)["Fast"].placed["two"].end
    runs = {
        optimizer: [noisy(trial_of(found, "two", optimizer, seed), EPOCHS) for seed in (1, 2, 3)]
        for optimizer in ("sgd", "torch.optim.AdamW")
    }
    known = stats.ttest_rel(runs["sgd"], runs["torch.optim.AdamW"]).confidence_interval(0.95)
    assert (end.mean - end.half, end.mean + end.half) == pytest.approx((known.low, known.high))


def trial_of(found: BoardStanding, task: str, optimizer: str, seed: int) -> Trial:
    (study,) = (each.study for each in found.tasks if each.name == task)
    settings = {key: value for key, value in study.task.items() if key != "name"}
    return Trial("convnet", settings, optimizer, 0.1, seed=seed)


def test_resamples_have_the_variance_of_a_mean() -> None:
    """s^2 / n, and not the smaller one of n draws of n."""
    values = np.array([1.0, 4.0, 9.0])
    means = values[drawn_runs(3, 0)].mean(axis=1)
    assert means.var() == pytest.approx(values.var(ddof=1) / 3, rel=0.1)
    assert np.array_equal(drawn_runs(3, 0), drawn_runs(3, 0))
    assert not np.array_equal(drawn_runs(3, 0), drawn_runs(3, 1))


@pytest.mark.parametrize("n", [2, 3, 5])
def test_of_intervals_of_few_seeds_95_percent_hold_the_truth(n: int) -> None:
    """2,000 times n speed-ups whose logarithms are normal with mean 0."""
    logs = np.random.default_rng(n).normal(size=(2000, n))
    draws = np.exp(logs[:, drawn_runs(n, 0)].mean(axis=2))
    found = [
        bounded(float(np.exp(own.mean())), spread_of(each, n))
        for own, each in zip(logs, draws, strict=True)
    ]
    inside = [each.low <= 1 <= each.high for each in found]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize("noise", [(1, 1, 1, 1, 1, 1), (1, 0.1, 0.1, 0.1, 0.1, 0.1)])
def test_of_intervals_of_a_score_95_percent_hold_the_truth(noise: Sequence[float]) -> None:
    """1,000 boards of six tasks with three seeds, equally noisy or not."""
    source, inside = np.random.default_rng(1), 0
    resamples = [drawn_runs(3, task) for task in range(6)]
    for _ in range(1000):
        logs = [source.normal(0, sigma, size=3) for sigma in noise]
        spreads = [
            spread_of(np.exp(own[draws].mean(axis=1)), 3)
            for own, draws in zip(logs, resamples, strict=True)
        ]
        found = bounded(float(np.exp(np.mean(logs))), mean_spread(spreads))
        inside += found.low <= 1 <= found.high
    assert 0.93 <= inside / 1000 <= 0.985


def test_a_board_says_how_many_of_its_verdicts_would_be_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = board(fill(tmp_path, noisy))
    monkeypatch.setattr(table, "MANY", 3)
    notes = " ".join(table.score_table(found).notes)
    assert "6 numbers at the end are compared, each by itself" in notes
    assert "were all rows equal, about 2 of them would be called better or worse" in notes


def test_the_interval_of_a_score_holds_times_of_new_seeds() -> None:
    """Six tasks, three seeds, a known mean: of 200 boards, about 95 % have it inside."""
    source = np.random.default_rng(0)
    epochs = np.arange(1.0, 21.0)
    inside = 0
    for _ in range(200):
        values, spreads = [], []
        for task in range(6):
            slopes = 5.0 * np.exp(source.normal(0, 0.1, size=3))
            runs = Runs(epochs, slopes[:, None] * epochs, np.zeros(3, dtype=bool))
            whole = times_to(runs, runs.curves(all_runs(3)), np.full(1, 50.0), 20.0)
            draws = drawn_runs(3, task)[:400]
            times = times_to(runs, runs.curves(draws), np.full(len(draws), 50.0), 20.0)
            values.append(float(whole[0]))
            spreads.append(spread_of(times, 3))
        found = bounded(float(np.exp(np.mean(np.log(values)))), mean_spread(spreads))
        inside += found.low <= 0.5 <= found.high
    assert 0.91 <= inside / 200 <= 0.99


def test_a_diverged_run_is_a_loss_and_no_time(tmp_path: Path) -> None:
    def height(trial: Trial, epoch: int) -> float:
        return math.nan if (trial.optimizer, trial.seed) == ("sgd", 2) else straight(trial, epoch)

    found = rows_of(board(fill(tmp_path, height)))["Fast"].placed["convnet"]
    assert (found.time, found.verdict, found.end.lost) == (math.inf, "worse", 1)
    assert found.speedup.value == pytest.approx(0.8 / NEVER)
    assert found.speedup.high > 2, "resamples without it are as fast as the others"


def test_where_the_reference_diverges_there_is_no_target(tmp_path: Path) -> None:
    def height(trial: Trial, epoch: int) -> float:
        lost = (trial.optimizer, trial.seed) == ("torch.optim.AdamW", 2)
        return math.nan if lost and trial.task_settings["batch_size"] == 20 else 10.0 * epoch

    found = board(fill(tmp_path, height))
    assert [task.name for task in found.counted] == ["convnet", "three"]
    assert found.tasks[1].why == "AdamW: a run diverged"
    assert all(row.score is not None for row in found.rows), "of the other two tasks"


def test_what_is_missing_is_named_and_not_made_up(tmp_path: Path) -> None:
    results = fill(tmp_path, straight, less=("one_three",))
    (tmp_path / "one_two.yaml").write_text(
        (tmp_path / "one_two.yaml").read_text() + "rows: {Slow: null, New: {optimizer: addsign}}\n"
    )
    found = board(results)
    assert [task.why for task in found.tasks] == ["", "", "AdamW: not run yet"]
    rows = rows_of(found)
    assert rows["Slow"].score is None
    assert rows["Slow"].missing == ["two"]
    assert rows["New"].score is None
    assert rows["Fast"].score.value == pytest.approx(2)
    assert [row.name for row in found.rows[:2]] == ["Fast", "AdamW"], "those with a score"
    text = board_files(found)["board.md"].decode()
    assert "2 of 3 tasks so far" in text
    assert "two: not there: Slow (the study has no such row); New (not run yet)" in text


def test_another_row_may_set_the_targets(tmp_path: Path) -> None:
    results = fill(tmp_path, straight)
    rows = rows_of(board(results, reference="Fast", share=1.0))
    assert rows["Fast"].score.value == 1
    assert rows["AdamW"].score.value == pytest.approx(1 / NEVER)
    with pytest.raises(ConfigError, match=r"--target: unknown row 'Fats'\n  did you mean 'Fast'"):
        board(results, reference="Fats")
    with pytest.raises(ConfigError, match="--share must be above 0 and at most 1, got 0"):
        board(results, share=0)


def test_an_empty_folder_has_no_board_and_no_files(tmp_path: Path) -> None:
    found = board(Results(tmp_path / "results", declare(tmp_path)))
    assert not found.counted
    assert board_files(found) == {}


def test_a_grid_whose_edge_is_best_is_said_to_be(tmp_path: Path) -> None:
    files = declare(tmp_path)
    for name in TASKS:
        study = load_study(files[name], scale="default")
        filled_store(study, tmp_path / "results", lambda trial: {
            "metrics": [{"epoch": n, "val_accuracy": n * trial.lr, "test_accuracy": 1.0}
                        for n in range(1, trial.training.epochs + 1)]})  # fmt: skip
    text = board_files(board(Results(tmp_path / "results", files)))["board.md"].decode()
    assert "at the edge of its grid" in text


def test_the_siblings_of_a_study_are_the_files_based_on_it(tmp_path: Path) -> None:
    files = {**declare(tmp_path), "strange": tmp_path / "strange.yaml"}
    files["strange"].write_text("base: nowhere.yaml\n")
    assert siblings(files, "one") == list(TASKS)


def test_the_verb_prints_tables_documents_and_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = fill(tmp_path, noisy)
    words = ["board", *map(str, results.files.values()), "--results", str(results.root)]
    assert main([*words, "--html", str(tmp_path / "board.html")]) == 0
    text = capsys.readouterr().out
    assert "The board one, scale default: 3 optimizers on 3 tasks" in text
    assert main([*words, "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    Draft202012Validator(schema()).validate(document)
    assert document["rows"][0]["name"] == "Fast"
    page = (tmp_path / "board.html").read_text()
    assert "Performance profile" in page or "performance profile" in page
    assert main([*words, "--short", "--format", "markdown"]) == 0
    short = capsys.readouterr().out
    assert "| Fast |" in short
    assert "| convnet, two, three |" in short
    assert main([*words, "--write"]) == 2
    assert "--write is for the board that ships" in capsys.readouterr().err
    assert main(["board", str(results.files["one"]), "--results", str(results.root)]) == 2
    assert "a board compares two studies or more" in capsys.readouterr().err


def test_a_board_is_read_without_torch_though_its_rows_are_torchs(tmp_path: Path) -> None:
    results = fill(tmp_path, straight)
    words = ["board", *map(str, results.files.values()), "--results", str(results.root)]
    watched = [sys.executable, "-c", f"HEAVY = {HEAVY}\n{WATCHED}", *words]
    done = subprocess.run(watched, capture_output=True, encoding="utf-8", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "3 optimizers on 3 tasks" in done.stdout
    assert "other code" not in done.stdout


def test_figures_and_files_are_the_same_each_time(tmp_path: Path) -> None:
    results = fill(tmp_path, noisy)
    first, again = (board_files(board(Results(results.root, results.files))) for _ in range(2))
    assert set(first) == {"board.md", "board.json", "board.png", "board.svg"}
    assert first == again


def test_the_board_of_modern_is_written_and_has_a_page_and_a_line_of_the_index(
    tmp_path: Path,
) -> None:
    results = fill(tmp_path, noisy, ("modern", "modern_two", "modern_three"), ["modern_three"])
    collection = read_collection(results)
    assert [(each.lead, each.scale) for each in collection.boards] == [("modern", "default")]
    assert any("2 of 3 tasks have a target, 3 of 3 rows a score" in s for s in summary(collection))
    folder = results.root / "modern/default"
    written = {path.name for path in write_collection(collection) if path.parent == folder}
    assert {"board.md", "board.json", "board.png", "board.svg", "table.md"} <= written
    own = dict(pages(collection))
    assert b'href="board-modern-default.html"' in own["index.html"]
    assert b"data:image/svg+xml" in own["board-modern-default.html"]
    assert not [line for line in collection.left_out if "board" in line]


def test_one_task_or_none_is_no_board(tmp_path: Path) -> None:
    names = ("modern", "modern_two")
    assert not begun_boards(fill(tmp_path, straight, names, less=names[1:]))
    assert not begun_boards(Results(tmp_path / "nothing", declare(tmp_path, names)))


@pytest.mark.slow
def test_two_studies_of_modern_are_run_and_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of each kind: torch's, a split, one with train and eval, a rule."""
    shown = ("AdamW", "Muon + AdamW", "Schedule-free AdamW", "Cautious AdamW")
    for name in ("modern", "modern_numbers"):
        study = load_study(find_config(name), scale="smoke", trying=False)
        rows = {row: {"sweep": {"lr": [0.003]}} if row in shown else None
                for row in study.rows}  # fmt: skip
        own = {"base": name, "study": f"my_{name}", "rows": rows}
        (tmp_path / f"my_{name}.yaml").write_text(yaml.safe_dump(own, sort_keys=False))
    monkeypatch.chdir(tmp_path)
    words = ["--scale", "smoke"]
    for name in ("my_modern", "my_modern_numbers"):
        assert main(["run", f"{name}.yaml", *words, "--workers", "0"]) == 0
    capsys.readouterr()
    assert main(["board", "my_modern.yaml", "my_modern_numbers.yaml", *words, "--short"]) == 0
    text = capsys.readouterr().out
    assert "4 optimizers on 2 tasks" in text
    assert all(row in text for row in shown)
    assert main(["report", "my_modern.yaml", *words]) == 0


def test_a_draw_of_all_runs_is_their_mean() -> None:
    values = np.array([[1.0, 2.0], [3.0, 6.0]])
    runs = Runs(np.array([1.0, 2.0]), values, np.zeros(2, dtype=bool))
    assert runs.curves(all_runs(2)).tolist() == [[2.0, 4.0]]
