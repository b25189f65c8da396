"""One's own task from an empty folder to an optimizer in one's own loop, whatever it measures: a
fraction, a loss, a perplexity, a number below 0.

The task, the search and every command are those that the suite itself proposes.
"""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from nos_repro.cli import main
from nos_repro.experiments.load import load_study
from nos_repro.search.log import Log
from nos_repro.search.side_runs import race_order, read_side_runs
from nos_repro.tasks.registry import describe, find_metric

AT_HOME = ["--workers", "0"]
METRIC = 'Metric("accuracy", "max", "points", Tolerance(0.5), range=(0.0, 100.0))'
COUNTED = """        correct = (self.model(x).argmax(dim=1) == y).sum()
        return {"correct": correct, "count": torch.tensor(len(y))}"""
SUMMED = """        loss = F.cross_entropy(self.model(x), y, reduction="sum").detach()
        return {"loss": loss, "count": torch.tensor(len(y))}"""
MEAN = 'sums["loss"] / sums["count"]'
# fmt: off
MEASURES = {
    # name         direction, range and reward; its value; that of chance
    "share":      ('"max", "", Tolerance(0.01), range=(0.0, 1.0)',
                   'sums["correct"] / sums["count"]', "0.5"),
    "loss":       ('"min", "", Tolerance(0.01), range=(0.0, math.inf), to_reward=half_at(0.3)',
                   MEAN, "math.log(2)"),
    "perplexity": ('"min", "", Tolerance(0.1), range=(1.0, math.inf), to_reward=lambda v: 1 / v',
                   f"math.exp({MEAN})", "2.0"),
    "likelihood": ('"max", "", Tolerance(0.01), range=(-math.inf, 0.0), to_reward=half_at(0.3)',
                   f"-{MEAN}", "-math.log(2)"),
}
# fmt: on
CASCADE = """
cascade:
  cheap: {task: {name: NAME, width: 4}, rates: [0.01, 0.1], epochs: 1, seconds: 60}
  keep_sweep: 0.7
  first: 2
race: {best: 3, seeds: 2, everyone: 1}
"""


def write_task(name: str) -> str:
    """The template's task with another metric; returns its module."""
    module = f"walk_{name}"
    assert main(["new", "task", module]) == 0
    path = Path(f"{module}.py")
    measure, value, chance = MEASURES[name]
    text = path.read_text()
    for old, new in (
        (METRIC, f'Metric("{name}", {measure})'),
        (COUNTED, COUNTED if name == "share" else SUMMED),
        ('{"accuracy": 100 * sums["correct"] / sums["count"]}', f'{{"{name}": {value}}}'),
        ("return 50.0", f"return {chance}"),
        ("import Metric, Tolerance", "import Metric, Tolerance, half_at"),
        ("spirals(1024, 0)", "spirals(256, 0)"),
        ("import torch\n", "import math\n\nimport torch\n"),
    ):
        assert old in text
        text = text.replace(old, new, 1)
    path.write_text(text)
    return f"{module}.{module.title().replace('_', '')}"


def check_rewards(folder: Path, task: str) -> None:
    """Every reward is what the metric's own range makes of what was measured, and every rate the
    best in the metric's direction."""
    metric = find_metric(task)
    children = [found for _, found in read_side_runs(folder)]
    ended = [event for event in Log(folder / "log.jsonl").read() if event["event"] == "evaluated"]
    for event in ended:
        assert 0 <= event["reward"] <= 1
    values = [(c.reward, c.metrics, c.sweep, c.lr) for c in children if c.status == "healthy"]
    values += [(e["reward"], e["metrics"], [tuple(x) for x in e["sweep"]], e["lr"])
               for e in ended if e["status"] == "healthy"]  # fmt: skip
    assert len(values) > 5
    for reward, metrics, sweep, lr in values:
        assert reward == pytest.approx(metric.reward(metrics[f"val_{metric.name}"]))
        best = max(metric.sign * value for _, value in sweep if value is not None)
        assert metric.sign * dict(sweep)[lr] == best


@pytest.mark.parametrize("name", MEASURES)
def test_the_whole_walk_on_a_task_from_outside(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    task = write_task(name)
    assert main(["check", task]) == 0
    assert "0 failed" in capsys.readouterr().out

    assert main(["new", "search", f"find_{name}", "--task", task]) == 0
    path = Path(f"find_{name}.yaml")
    path.write_text(path.read_text() + CASCADE.replace("NAME", task))
    asked = [str(path), "samples=16", "child.epochs=3", "confirm={best: 2, seeds: 1}", *AT_HOME]
    assert main(["search", *asked, "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "in the cascade a rule takes" in told
    assert "the race at the end: 5 children" in told
    assert main(["search", *asked]) == 0
    assert "won the race" in capsys.readouterr().out
    folder = Path("results", f"find_{name}", "default")
    kinds = {event["event"] for event in Log(folder / "log.jsonl").read()}
    assert {"staged", "evaluated"} <= kinds
    assert race_order(folder)

    assert main(["search", *asked, "--confirm"]) == 0
    told = capsys.readouterr().err
    check_rewards(folder, task)
    chance = find_metric(task).reward(describe(task).chance(None))
    learned = {n.name: f.reward for n, f in read_side_runs(folder) if n.purpose == "baseline"}
    assert learned["Adam"] > chance

    best = ["--export-best", "2", "--output", "long.yaml", "filter.training.epochs=2"]
    assert main(["search", *asked, *best]) == 0
    study = load_study(Path("long.yaml"), scale="default")
    assert study.task["name"] == task
    assert list(study.rows)[:-3] == race_order(folder)[:2]
    assert main(["run", "long.yaml", *AT_HOME]) == 0
    capsys.readouterr()
    assert main(["report", str(path)]) == 0
    said = capsys.readouterr().out
    assert f"test {name}" in said
    assert "What the cascade loses" in said
    assert "The race" in said
    assert main(["report", "long.yaml"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "paper" not in said.lower()
    assert f"of {len(study.rows)} rows went to the end" in said

    rule = told.partition(" export '")[2].partition("'")[0]
    assert main(["export", rule, "--name", "Found"]) == 0
    found: dict[str, type[torch.optim.Optimizer]] = {}
    exec(compile(capsys.readouterr().out, "found.py", "exec"), found)
    ends = (event for event in Log(folder / "log.jsonl").read() if event["event"] == "evaluated")
    rate = next(event["lr"] for event in ends if event["rule"] == race_order(folder)[0])
    assert loss_with(found["Found"], rate) < math.log(2)


def loss_with(kind: type[torch.optim.Optimizer], lr: float) -> float:
    """The loss of a logistic regression after 50 steps of a plain loop; it begins at log 2."""
    torch.manual_seed(0)
    x = torch.randn(200, 2)
    y = (x[:, 0] > 0).long()
    net = torch.nn.Linear(2, 2)
    torch.nn.init.zeros_(net.weight)
    torch.nn.init.zeros_(net.bias)
    try:
        optimizer = kind(net.parameters(), lr=lr)
    except (TypeError, ValueError):  # a rule that reads a decay
        optimizer = kind(net.parameters(), lr=lr, total_steps=50)
    for _ in range(50):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
    return loss.item()
