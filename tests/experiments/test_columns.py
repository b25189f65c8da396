"""Which columns a study may have: those of what its task measures."""

import re

import pytest

from nos_repro.errors import ConfigError
from nos_repro.experiments.columns import check_columns, metric_of
from nos_repro.tasks.metrics import BLEU, LOSS, PERPLEXITY


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
