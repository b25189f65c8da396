"""Which columns a study may have: those of what its task measures."""

import re
from pathlib import Path

import pytest
import yaml

from nos_repro.errors import ConfigError
from nos_repro.experiments.columns import check_columns, metric_of
from nos_repro.experiments.load import load_study
from nos_repro.tasks.metrics import BLEU, LOSS, PERPLEXITY
from tests.launch.study import TINY


def test_a_column_shows_the_metric_that_it_names_or_else_the_one_that_chooses() -> None:
    assert metric_of("gnmt", "final_test_bleu") is BLEU
    assert metric_of("gnmt", "best_train_loss") is LOSS
    assert metric_of("gnmt", "best_test") is PERPLEXITY


def test_a_task_has_the_columns_of_its_own_metrics() -> None:
    check_columns("gnmt", ["best_val", "final_train_perplexity", "best_test_bleu_tokenised"])
    check_columns("ptb_lstm", ["final_val_perplexity", "optimizer_state"])


@pytest.mark.parametrize(
    ("task", "column", "nearest"),
    [
        ("gnmt", "final_test_blue", "final_test_bleu"),
        ("convnet", "final_test_bleu", "final_test_loss"),
        ("convnet", "final_train_accuracy", "final_test_accuracy"),
        ("nasnet", "final_test_top5_acuracy", "final_test_top5_accuracy"),
        ("nasnet", "best_tset", "best_test"),
    ],
)
def test_any_other_column_is_refused_with_the_nearest_and_the_choice(
    task: str, column: str, nearest: str
) -> None:
    words = f"unknown columns '{column}'\n  did you mean '{nearest}'?  one of: best_test best_val"
    with pytest.raises(ConfigError, match=re.escape(words)):
        check_columns(task, [column])


def test_a_misspelt_column_is_blamed_and_not_the_papers_cell(tmp_path: Path) -> None:
    rows = {"SGD": {"optimizer": "sgd", "paper": {"best_test": 1.0}}}
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({**TINY, "columns": {"bst_test": "Best"}, "rows": rows}))
    with pytest.raises(ConfigError, match=r"unknown columns 'bst_test'\n.*mean 'best_test'"):
        load_study(path, scale="smoke")
