"""What a metric knows about itself."""

import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nos_repro.errors import ConfigError
from nos_repro.experiments.digest import Sources
from nos_repro.tasks import TASKS
from nos_repro.tasks.metrics import (
    ACCURACY,
    BLEU,
    LOSS,
    PERPLEXITY,
    Metric,
    Tolerance,
    half_at,
    perplexity,
)
from nos_repro.tasks.registry import find_metric
from tests.conftest import ROOT

MM = Tolerance(0.5, why="mm")


def test_a_reward_is_the_value_s_place_between_the_worst_and_the_best() -> None:
    assert [ACCURACY.reward(value) for value in (0.0, 87.5, 100.0)] == [0.0, 0.875, 1.0]
    share = Metric("share", "max", "", MM, range=(0.0, 1.0))
    assert [share.reward(value) for value in (0.0, 0.95, 1.0)] == [0.0, 0.95, 1.0]
    correlation = Metric("r", "max", "", MM, range=(-1.0, 1.0))
    assert [correlation.reward(value) for value in (-1.0, 0.0, 0.5)] == [0.0, 0.5, 0.75]
    error = Metric("error", "min", "", MM, range=(0.0, 4.0))
    assert [error.reward(value) for value in (0.0, 1.0, 4.0)] == [1.0, 0.75, 0.0]


def test_a_metric_without_a_bound_says_itself_what_a_value_is_worth() -> None:
    error = Metric("error", "min", "mm", MM, range=(0.0, math.inf), to_reward=half_at(2.0))
    assert [error.reward(value) for value in (0.0, 2.0, 6.0)] == [1.0, 0.5, 0.25]
    score = Metric("negative_loss", "max", "", MM, range=(-math.inf, 0.0), to_reward=half_at(1.0))
    assert [score.reward(value) for value in (0.0, -1.0, -1e8)] == [1.0, 0.5, pytest.approx(1e-8)]
    assert [PERPLEXITY.reward(value) for value in (1.0, 4.0, math.inf)] == [1.0, 0.25, 0.0]


@pytest.mark.parametrize("bounds", [(-math.inf, math.inf), (0.0, math.inf), (-math.inf, 0.0)])
def test_a_metric_without_a_bound_that_says_nothing_has_no_reward(
    bounds: tuple[float, float],
) -> None:
    metric = Metric("error", "min", "mm", MM, range=bounds)
    with pytest.raises(ConfigError, match="no reward follows from error, whose declared range is"):
        metric.check_rewards()


@pytest.mark.parametrize(
    ("metric", "value"),
    [(ACCURACY, 100.1), (ACCURACY, -0.1), (PERPLEXITY, 0.5), (LOSS, -1.0)],
)
def test_a_value_outside_the_range_is_refused_and_not_clipped(metric: Metric, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{metric.name} is {value:g}, outside its declared"):
        metric.reward(value)


def test_a_value_outside_the_range_by_rounding_counts_as_its_end() -> None:
    assert BLEU.reward(100.00000000000004) == 1.0
    assert LOSS.reward(-1e-9) == 1.0


def test_what_turns_values_into_rewards_stays_between_0_and_1() -> None:
    with pytest.raises(ConfigError, match="to_reward of error makes -3 of 4"):
        Metric("error", "min", "", MM, to_reward=lambda value: 1 - value).reward(4.0)
    with pytest.raises(ConfigError, match="half_at takes a positive finite distance, got 0"):
        half_at(0.0)


def test_a_tolerance_is_a_size_or_a_share_of_the_value_compared_with() -> None:
    assert ACCURACY.tolerance.at(95.4) == 0.5
    assert PERPLEXITY.tolerance.at(50.0) == 1.0
    assert str(MM) == "±0.5 mm"
    assert str(Tolerance(0.02, relative=True)) == "±2%"


def test_an_axis_has_the_unit_unless_a_label_says_otherwise() -> None:
    assert Metric("path_error", "min", "mm", MM).axis == "path error (mm)"
    assert Metric("score", "max", "", MM).axis == "score"
    assert ACCURACY.axis == "accuracy (%)"


def test_metrics_that_follow_from_the_loss_are_known_for_the_training_part() -> None:
    assert PERPLEXITY.of_loss is perplexity
    assert LOSS.of_loss is not None
    assert LOSS.of_loss(3.0) == 3.0
    assert ACCURACY.of_loss is None
    assert perplexity(math.log(21)) == pytest.approx(21)
    assert perplexity(1000.0) == perplexity(math.inf) == math.inf
    assert math.isnan(perplexity(math.nan))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (("mean error", "min", "mm", MM), "a plain word, got 'mean error'"),
        (("error", "min", "mm", Tolerance(math.nan)), "the tolerance of error must be"),
        (("error", "min", "mm", MM, "", 2, (1.0, 1.0)), "the range of error must be"),
        (("error", "min", "mm", MM, "", 2, (0.0, math.nan)), "the range of error must be"),
    ],
)
def test_impossible_values_are_refused(values: tuple[object, ...], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Metric(*values)  # type: ignore[arg-type]


def test_a_task_without_the_metric_says_which_it_has() -> None:
    assert find_metric("gnmt", "loss") is LOSS
    with pytest.raises(ConfigError, match="unknown metric of gnmt 'blue'\n  did you mean 'bleu'"):
        find_metric("gnmt", "blue")


def test_the_metrics_need_neither_torch_nor_lightning() -> None:
    code = (
        "import sys, nos_repro.tasks.metrics;"
        "print([m for m in ('torch', 'pytorch_lightning') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


# fmt: off
SHOWN = [
    # module           what only a reader sees of a task   another text for it
    ("metrics",        "Tolerance(0.5, why",               "Tolerance(0.7, why"),
    ("metrics",        "accuracy (%)",                     "right answers (%)"),
    ("metrics",        "return share if",                  "return -share if"),
    ("facts/images", "(ACCURACY, LOSS)",                 "(LOSS, ACCURACY)"),
    ("facts/images", "return 100 / ",                    "return 10 / "),
    ("facts/convnet",        "small ConvNet",                    "ConvNet"),
    ("facts/gnmt",           "GNMT {layers}x{width}",            "GNMT"),
    ("facts/gnmt",           "Perplexity is per word piece",     "Perplexity is per piece"),
    ("facts/ptb_lstm",       "float(settings.words)",            "1.0"),
]
# fmt: on


def test_describing_a_metric_differently_makes_no_record_stale(tmp_path: Path) -> None:
    copy, kept = tmp_path / "nos_repro", tmp_path / "kept"
    shutil.copytree(ROOT / "nos_repro", copy, ignore=shutil.ignore_patterns("__pycache__"))

    def digests() -> dict[str, str]:
        engine = ("nos_repro.experiments.build:build", "nos_repro.experiments.training:train")
        sources = Sources({"nos_repro": copy}, kept=kept)
        shipped = [n for n in TASKS.names() if TASKS.entry(n).module.startswith("nos_repro.")]
        return {n: sources.digest([*engine, TASKS.entry(n).origin]) for n in shipped}

    def edit(module: str, old: str, new: str) -> None:
        path = copy / "tasks" / f"{module}.py"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    before = digests()
    for change in SHOWN:
        edit(*change)
    assert digests() == before
    edit("metrics", "LARGEST_EXPONENT = 700.0", "LARGEST_EXPONENT = 600.0")
    after = digests()
    assert {name for name in before if after[name] != before[name]} == {"gnmt", "ptb_lstm"}
