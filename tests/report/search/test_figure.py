"""Figure 4: its numbers against plain loops, and the same bytes for the same log."""

import itertools
import random
from pathlib import Path

import numpy as np
import pytest

from nos_repro.report.drawing import encode
from nos_repro.report.search.course import (
    QUANTILES,
    moving_average,
    moving_quantiles,
    window_of,
)
from nos_repro.report.search.figure import figure4, spread
from tests.report.searches import Folder


def made_up(source: random.Random, number: int, rule: str) -> tuple[str, float]:
    if source.random() < 0.3:
        return ("refused" if number % 2 else "diverged"), 0.0
    return "healthy", round(source.uniform(0.1, 0.5) + number / 1000, 4)


def test_the_moving_average_is_that_of_a_loop() -> None:
    values = [random.Random(0).random() for _ in range(57)]
    for window in (1, 10, 100):
        slow = []
        for n in range(len(values)):
            last = values[max(0, n - window + 1) : n + 1]
            slow.append(sum(last) / len(last))
        assert moving_average(np.array(values), window) == pytest.approx(slow)


def test_the_moving_quantiles_are_those_of_a_sorted_list() -> None:
    values = np.array([5.0, 1.0, 3.0, 2.0, 4.0, 0.0])
    first, full = moving_quantiles(values, 5, np.array([0, 4]))
    assert first == pytest.approx([5, 5, 5, 5])
    assert full == pytest.approx([1 + q * 4 for q in QUANTILES])  # of 1 2 3 4 5


def test_a_window_grows_with_the_search_within_limits() -> None:
    assert [window_of(n) for n in (1, 1000, 45_000)] == [10, 50, 500]


def test_names_are_moved_apart_in_their_order_and_below_the_top() -> None:
    source = random.Random(0)
    for _ in range(200):
        heights = sorted(source.uniform(0, 1) ** 0.2 for _ in range(source.randint(1, 8)))
        moved = spread(heights, 0.05, 1.0)
        assert all(b - a > 0.0499 for a, b in itertools.pairwise(moved))
        assert max(moved) <= 1.0001
    assert spread([0.1, 0.5, 0.9], 0.05, 1.0) == pytest.approx([0.1, 0.5, 0.9])
    assert spread([0.5, 0.5], 0.1, 1.0) == pytest.approx([0.45, 0.55])


def test_a_figure_has_the_same_bytes_for_the_same_log(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.fill(60, made_up)
    folder.named("baseline", "SGD", "sgd", reward=0.5)
    folder.named("baseline", r"$\frac{<b>", "adam", reward=0.501)
    first, second = (figure4(folder.history()) for _ in range(2))
    assert first is not None
    assert second is not None
    svg = encode(first, "svg")
    assert svg == encode(second, "svg")
    assert encode(first, "png") == encode(second, "png")
    text = svg.decode()
    for words in ("SGD 0.500", "scale smoke: small ConvNet, 400 training images, 3 rates, 2 epochs",
                  "mean of the last 10", "best so far", "Commit 0123456789ab"):  # fmt: skip
        assert words in text


def test_many_dots_are_an_image_in_the_svg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder(tmp_path)
    folder.fill(60, made_up)
    monkeypatch.setattr("nos_repro.report.search.figure.VECTOR_DOTS", 50)
    figure = figure4(folder.history())
    assert figure is not None
    assert b"<image" in encode(figure, "svg")


def test_a_figure_needs_at_least_one_rule(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.propose("g m identity identity *")
    assert figure4(folder.history()) is None
    folder.sample("g m identity identity *", "diverged")
    figure = figure4(folder.history())
    assert figure is not None
    encode(figure, "png")
