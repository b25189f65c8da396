"""A task from outside with its own metric, for which smaller is better, through the whole suite:
columns, table, verdicts, figure, page, claims, races, searches and W&B."""

import json
import math
import re
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nos_repro.cli import main
from nos_repro.experiments.build import Conditions
from nos_repro.experiments.grid import points, sweep_trial
from nos_repro.experiments.load import load_study
from nos_repro.experiments.runner import run_trial
from nos_repro.experiments.selection import outcomes
from nos_repro.experiments.store import Store
from nos_repro.report.claims.judge import judge_claims, own_claims
from nos_repro.report.claims.results import Results
from nos_repro.report.search.history import read_history
from nos_repro.report.search.tables import chance_reward
from nos_repro.tracking.dashboard import Dashboard
from nos_repro.tracking.wandb_runs import WandbRuns
from tests.tracking.reading import parts

TASK = '''
"""A line through points that lie about y = 2 x + 1, off by 0.1 mm; what is measured is in mm."""

import math
from dataclasses import dataclass

import torch

from nos_repro.tasks import TASKS
from nos_repro.tasks.base import Task, TaskData
from nos_repro.tasks.metrics import Metric, Tolerance, half_at

MSE = Metric(
    "mse", "min", "mm²", Tolerance(0.002, why="mm², a fifth of the noise"),
    digits=4, range=(0.0, math.inf), to_reward=half_at(0.01), of_loss=lambda loss: loss,
)
WITHIN = Metric("share_within", "max", "", Tolerance(0.05), digits=3, range=(0.0, 1.0))


@dataclass(frozen=True)
class Settings:
    batch_size: int = 8
    batches: int = 8


class Points(TaskData):
    def __init__(self, settings, seed):
        super().__init__()
        self.settings, self.seed = settings, seed

    @property
    def steps_per_epoch(self):
        return self.settings.batches

    def draw(self, count, *seeds):
        generator = torch.Generator().manual_seed(hash(seeds) % 2**31)
        x = torch.rand(count, generator=generator)
        return x, 2 * x + 1 + 0.1 * torch.randn(count, generator=generator)

    def train_batches(self, epoch, start=0):
        for k in range(start, self.settings.batches):
            yield self.draw(self.settings.batch_size, self.seed, epoch, k)

    def val_batches(self):
        yield self.draw(400, 1)

    def test_batches(self):
        yield self.draw(400, 2)


@TASKS.register("own_line")
class Line(Task):
    Settings = Settings
    measures = (MSE, WITHIN)
    label = "a line, {batches} batches"

    def __init__(self, settings, make_optimizer=None):
        super().__init__(settings, make_optimizer)
        self.line = torch.nn.Parameter(torch.zeros(2))

    @classmethod
    def make_data(cls, settings, *, data_dir, seed):
        return Points(settings, seed)

    @classmethod
    def chance(cls, settings):
        """That of the line y = 0: the mean of (2 x + 1)² and of the noise."""
        return 13 / 3 + 0.01

    def errors(self, batch):
        x, y = batch
        return self.line[0] * x + self.line[1] - y

    def training_step(self, batch, batch_idx=0):
        return (self.errors(batch) ** 2).mean()

    def evaluation_sums(self, batch):
        errors = self.errors(batch).detach()
        near = (errors.abs() < 0.1).sum()
        return {"mse": (errors**2).sum(), "within": near, "count": torch.tensor(len(errors))}

    @staticmethod
    def metrics(sums):
        count = sums["count"]
        return {"mse": sums["mse"] / count, "share_within": sums["within"] / count}
'''
STUDY = """
study: lines
source: 002 Table 9
claim: Momentum finds the line in less time than gradient descent.
task: {name: own_lab.lines}
training: {epochs: 6}
selection: {by: best_val, repeats: 3}
sweep: {lr: [0.003, 0.03, 0.1]}
columns: {best_test: MSE, final_test_share_within: Within, final_train_mse: Train MSE}
rows:
  Momentum: {optimizer: momentum, paper: {best_test: 0.0105, final_test_share_within: 0.5}}
  SGD: {optimizer: sgd, sweep: {lr: [0.001, 0.003]}, paper: {best_test: 1.0e-05}}
figure: {kind: curves}
scales:
  paper: {}
  race: {selection: {repeats: 0}, halving: {rungs: [2], keep: 0.5}}
"""
SEARCH = """
search: line_search
source: none
claim: The reward rises.
space: {operands: [g, m, "1"], unary: [identity], binary: ["*", keep_left], iterations: 1}
algorithm: {name: random}
child:
  task: {name: own_lab.lines}
  sweep: {}
  rates: [0.001, 0.01, 0.1]
  epochs: 2
  seconds: 60
samples: 6
baselines: {SGD: sgd, Momentum: momentum}
confirm: {best: 1, seeds: 2}
scales:
  paper: {}
"""
AT_HOME = ["--workers", "0"]
"""In this process: no worker has to be started."""
CLAIM = """
- id: momentum-fits
  says: Momentum fits the line better than gradient descent.
  test: {kind: rows, study: lines, column: best_test, ours: [Momentum], theirs: [SGD]}
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the package, the files, and the results of the study at scale paper."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "own_lab").mkdir()
    (folder / "own_lab" / "lines.py").write_text(TASK)
    (folder / "lines.yaml").write_text(STUDY)
    (folder / "line_search.yaml").write_text(SEARCH)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        said = ["--results", str(folder / "results"), "--data", str(folder), *AT_HOME]
        assert main(["run", str(folder / "lines.yaml"), *said]) == 0
        yield folder


def verb(lab: Path, *words: str) -> int:
    name, file, *more = words
    return main([name, str(lab / file), "--results", str(lab / "results"), *more])


def records(lab: Path, scale: str = "paper") -> list[dict[str, Any]]:
    files = (lab / "results" / "lines" / scale / "trials").glob("*/record.json")
    return [json.loads(file.read_bytes()) for file in files]


def of(lab: Path, optimizer: str, *, sweep: bool) -> list[dict[str, Any]]:
    found = [r for r in records(lab) if r["trial"]["optimizer"] == optimizer]
    return [r for r in found if (r["trial"]["seed"] == 0) == sweep]


def best(record: dict[str, Any]) -> dict[str, float]:
    return min(record["metrics"], key=lambda point: point["val_mse"])


def test_a_column_of_another_metric_is_refused_with_the_nearest(
    lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slips = {"final_test_msee": "mse", "final_train_share_within": "share_within"}
    for slip, metric in slips.items():
        assert verb(lab, "report", "lines.yaml", f"columns.{slip}=X") == 2
        said = capsys.readouterr().err
        assert f"unknown columns '{slip}'" in said
        assert f"did you mean 'final_test_{metric}'?" in said
    assert verb(lab, "report", "lines.yaml", "columns.final_test_accuracy=X") == 2
    assert "final_test_mse" in capsys.readouterr().err


def test_the_rate_with_the_smallest_error_is_chosen_and_the_smaller_mean_is_marked(
    lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verb(lab, "report", "lines.yaml", "--write") == 0
    assert "a line, 8 batches" in capsys.readouterr().out
    means = {}
    for optimizer in ("momentum", "sgd"):
        chosen = min(of(lab, optimizer, sweep=True), key=lambda r: best(r)["val_mse"])
        repeats = of(lab, optimizer, sweep=False)
        assert {r["trial"]["lr"] for r in repeats} == {chosen["trial"]["lr"]}
        means[optimizer] = statistics.fmean(best(r)["test_mse"] for r in repeats)
    assert means["momentum"] < means["sgd"]
    table = (lab / "results/lines/paper/table.md").read_text("utf-8")
    (momentum,) = [line for line in table.splitlines() if line.startswith("| Momentum")]
    assert f"**{means['momentum']:.3g} ±" in momentum
    assert "1e-05" in table
    tex = (lab / "results/lines/paper/table.tex").read_text("utf-8")
    assert rf"\textbf{{{means['momentum']:.3g}" in tex
    train = statistics.fmean(r["metrics"][-1]["train_loss"] for r in of(lab, "sgd", sweep=False))
    assert f"{train:.3g} ±" in table


def test_a_verdict_has_the_metric_s_tolerance_unit_and_digits(
    lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verb(lab, "verdicts", "lines.yaml") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Tolerance of mse: ±0.002 mm², a fifth of the noise." in said
    assert "Tolerance of share_within: ±0.05." in said
    assert "above the paper's by more than 0.0020" in said
    test = statistics.fmean(best(r)["test_mse"] for r in of(lab, "momentum", sweep=False))
    assert f"{test - 0.0105:+.4f} [" in said


def test_its_figure_and_its_page_name_the_metric_and_its_unit(lab: Path) -> None:
    assert verb(lab, "report", "lines.yaml", "--write", "--html", str(lab / "page.html")) == 0
    assert "test mse (mm²)" in (lab / "results/lines/paper/figure.svg").read_text("utf-8")
    page = (lab / "page.html").read_text("utf-8")
    for axis in ("test mse (mm²)", "val share within", "best validation (mse)"):
        assert axis in page or json.dumps(axis)[1:-1] in page, axis


def test_why_shows_the_value_as_it_was_measured(
    lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["why", f"{lab / 'lines.yaml'}:SGD", "--results", str(lab / "results")]) == 0
    chosen = min(of(lab, "sgd", sweep=True), key=lambda r: best(r)["val_mse"])
    assert f"{best(chosen)['val_mse']:.6g}" in capsys.readouterr().out


def test_a_claim_is_judged_by_which_error_is_smaller_in_the_metric_s_unit(
    lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (lab / "claims.yaml").write_text(CLAIM)
    file = ["--file", str(lab / "claims.yaml")]
    assert main(["claims", str(lab / "lines.yaml"), "--results", str(lab / "results"), *file]) == 0
    assert "mm²" in capsys.readouterr().out
    found = Results(lab / "results", {"lines": lab / "lines.yaml"})
    (judged,) = judge_claims(found, only=own_claims(lab / "claims.yaml", found))
    (finding,) = judged.findings
    assert finding.verdict == "holds"
    (effect,) = finding.effects
    assert effect.unit == "mm²"
    ours, theirs = (
        {r["trial"]["seed"]: best(r)["test_mse"] for r in of(lab, name, sweep=False)}
        for name in ("momentum", "sgd")
    )
    gains = [theirs[seed] - ours[seed] for seed in ours]
    assert effect.value == pytest.approx(statistics.fmean(gains))


def test_a_declared_metric_that_is_never_measured_is_reported_after_the_first_evaluation(
    lab: Path,
) -> None:
    slip = TASK.replace('register("own_line")', 'register("own_slip")').replace(
        '{"mse": sums', '{"msee": sums'
    )
    (lab / "own_lab" / "slip.py").write_text(slip)
    words = ["task.name=own_lab.slip", "study=slips", "--rows", "SGD", "--data", str(lab)]
    verb(lab, "run", "lines.yaml", *words, *AT_HOME)
    found = [json.loads(path.read_bytes()) for path in lab.glob("results/slips/**/record.json")]
    assert found
    for record in found:
        assert record["status"] == "failed"
        assert "measures declares 'mse', and metrics returned msee share_within" in record["reason"]
        assert len(record["metrics"]) == 1


def test_in_a_race_the_smaller_errors_continue(lab: Path) -> None:
    assert verb(lab, "run", "lines.yaml", "--scale", "race", "--data", str(lab), *AT_HOME) == 0
    study = load_study(lab / "lines.yaml", scale="race")
    rows = outcomes(study, Store(lab / "results", "lines", "race"))
    ended = {row.name: row.chosen.record for row in rows if row.chosen is not None}
    assert {name: record.status for name, record in ended.items() if record} == {
        "Momentum": "finished",
        "SGD": "stopped",
    }


def test_a_search_rewards_small_errors(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for more in ([], ["--confirm"]):
        assert verb(lab, "search", "line_search.yaml", "--data", str(lab), *more) == 0
    capsys.readouterr()
    assert verb(lab, "report", "line_search.yaml") == 0
    said = capsys.readouterr().out
    assert "validation mse" in said
    history = read_history(lab / "line_search.yaml", lab / "results", scale="paper")
    assert chance_reward(history) == pytest.approx(1 / (1 + (13 / 3 + 0.01) / 0.01))
    trained = [found for _, found in history.of("confirm") if found.status == "healthy"]
    assert trained
    for found in trained:
        assert found.reward == pytest.approx(1 / (1 + found.metrics["val_mse"] / 0.01))
        values = [math.inf if value is None else value for _, value in found.sweep]
        assert found.lr == found.sweep[values.index(min(values))][0]


def test_a_search_on_a_metric_without_rewards_is_refused_before_anything_trains(
    lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unbounded = TASK.replace('register("own_line")', 'register("own_unbounded")').replace(
        "range=(0.0, math.inf), to_reward=half_at(0.01), ", ""
    )
    (lab / "own_lab" / "unbounded.py").write_text(unbounded)
    words = ["child.task.name=own_lab.unbounded", "search=unbounded", "--data", str(lab)]
    assert verb(lab, "search", "line_search.yaml", *words) == 2
    said = capsys.readouterr().err
    assert "own_lab.unbounded: no reward follows from mse" in said
    assert "Traceback" not in said
    assert not (lab / "results" / "unbounded").exists()


def test_the_metric_is_logged_to_wandb_and_its_dashboard_shows_it(
    lab: Path, tmp_path: Path
) -> None:
    study = load_study(lab / "lines.yaml")
    row = study.rows["Momentum"]
    trial = sweep_trial(study, row, points(study, row)[-1])
    run_trial(trial, tmp_path / "trial", Conditions(lab), tracker=WandbRuns(study, tmp_path))
    (part,) = parts(tmp_path)
    curve = part.history
    least = min(curve, key=lambda point: point["val_mse"])
    assert part.summary["best_test"] == pytest.approx(least["test_mse"])
    assert part.summary["final_train_mse"] == pytest.approx(curve[-1]["train_loss"])
    assert part.summary["final_test_share_within"] == pytest.approx(curve[-1]["test_share_within"])
    shown = set(re.findall(r"\b(?:val|test)_mse\b", Dashboard(study).text()))
    assert shown == {"val_mse", "test_mse"}
