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
    LOSS,
    PERPLEXITY,
    Metric,
    Tolerance,
    perplexity,
)
from nos_repro.tasks.registry import find_metric
from tests.conftest import ROOT

MM = Tolerance(0.5, why="mm")


def test_a_share_of_right_answers_is_the_reward_of_a_child_and_a_small_error_nearly_one() -> None:
    assert [ACCURACY.reward(value) for value in (0.0, 87.5, 100.0)] == [0.0, 0.875, 1.0]
    error = Metric("error", "min", "mm", MM, scale=2.0)
    assert [error.reward(value) for value in (0.0, 2.0, 6.0)] == [1.0, 0.5, 0.25]
    fit = Metric("r2", "max", "", MM)
    assert [fit.reward(value) for value in (-3.0, 0.25, 1.0, 1.5)] == [0.0, 0.25, 1.0, 1.0]


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
        (("error", "min", "mm", MM, "", 2, 0.0), "the scale of error must be"),
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
    ("metrics",        "min(share, 1.0)",                  "min(share, 2.0)"),
    ("classification", "(ACCURACY, LOSS)",                 "(LOSS, ACCURACY)"),
    ("classification", "return 100 / ",                    "return 10 / "),
    ("convnet",        "small ConvNet",                    "ConvNet"),
    ("gnmt",           "GNMT {layers}x{width}",            "GNMT"),
    ("gnmt",           "Perplexity is per word piece",     "Perplexity is per piece"),
    ("ptb_lstm",       "float(settings.words)",            "1.0"),
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
