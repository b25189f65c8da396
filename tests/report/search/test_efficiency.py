"""The comparison of the algorithms: its statistics, its table and figure."""

import itertools
import math
import random
import re
from pathlib import Path
from statistics import median

import matplotlib
import pytest

from nos_repro.experiments.files import json_line, write_atomically
from nos_repro.report.search.efficiency import draw, files, held, write_efficiency
from nos_repro.report.search.fewer_samples import compare_samples, interval, sign_flip_test
from nos_repro.search.efficiency import runs
from nos_repro.search.efficiency.runs import (
    CAP,
    FOLDER,
    SEEDS,
    RunRecord,
    all_runs,
    of,
    read_records,
    records_file,
)
from tests.search.made_up_runs import made_up


@pytest.fixture
def all_made_up() -> list[RunRecord]:
    records: list[RunRecord] = []
    for run in all_runs(records):
        records.append(made_up(run))
    return records


def test_the_sign_flip_test_counts_flips_at_least_as_extreme() -> None:
    assert sign_flip_test([1.0] * 10) == 2 / 1024
    assert sign_flip_test([1.0, -1.0]) == 1
    values = [0.3, -0.1, 0.7, 0.2]
    flipped = [sum(s * v for s, v in zip(signs, values, strict=True))
               for signs in itertools.product((1, -1), repeat=4)]  # fmt: skip
    assert sign_flip_test(values) == sum(abs(x) > 1.09 for x in flipped) / 16


def test_the_interval_of_a_ratio_holds_it_and_narrows_with_its_spread() -> None:
    source = random.Random(3)
    loud = [(source.randrange(500, 1500), source.randrange(1000, 3000)) for _ in range(10)]
    calm = [(1000 + n, 2000 + n) for n in range(10)]
    for pairs, width in ((loud, (0.1, 2)), (calm, (0, 0.01))):
        low, high = interval(pairs)
        ratio = median(a for a, _ in pairs) / median(b for _, b in pairs)
        assert low <= ratio <= high
        assert width[0] <= high - low <= width[1]


def test_a_verdict_is_in_words_either_way_and_only_if_due(all_made_up) -> None:
    ours = compare_samples(all_made_up, "ppo", "reinforce")
    assert ours.words == "PPO needs fewer samples than REINFORCE"
    assert ours.ratio == pytest.approx(214.5 / 614.5)
    theirs = compare_samples(all_made_up, "reinforce", "ppo")
    assert theirs.words == "REINFORCE needs more samples than PPO"
    assert theirs.p == ours.p == 2 / 1024
    assert math.log(theirs.factor) == pytest.approx(-math.log(ours.factor))
    assert (ours.arrived, ours.pairs) == ((10, 10), 10)
    for run in of(all_made_up, part="final", algorithm="ppo")[::2]:
        run["needed"] = None
    assert (
        compare_samples(all_made_up, "ppo", "reinforce").words
        == "PPO and REINFORCE are not told apart"
    )


def test_a_finished_run_keeps_its_last_mean_to_the_end_of_the_curve(all_made_up) -> None:
    curve = held(of(all_made_up, part="final", algorithm="ppo")[0])
    assert len(curve) == CAP // runs.BLOCK
    assert curve[:3].tolist() == [0.1, 0.9, 0.9]
    left, right = draw(all_made_up).axes
    assert [line.get_label() for line in left.get_lines()[:4]] == [
        "PPO", "TRPO", "REINFORCE", "random search",
    ]  # fmt: skip
    hollow = [line for line in right.get_lines() if line.get_markerfacecolor() == "none"]
    assert len(hollow) == len(SEEDS)


def test_table_and_figure_are_written_beside_the_records(tmp_path: Path, all_made_up) -> None:
    assert write_efficiency(tmp_path) == []
    path = records_file(tmp_path)
    write_atomically(path, "".join(map(json_line, all_made_up)).encode())
    written = write_efficiency(tmp_path)
    assert {each.name for each in written} == {"table.md", "figure.png", "figure.svg"}
    assert "PPO needs fewer samples than REINFORCE" in path.with_name("table.md").read_text()


AGAIN = "write it again:  python -m nos_repro report --all --write"


def test_the_committed_comparison_is_complete(committed: Path) -> None:
    records = read_records(committed / FOLDER / "runs.jsonl")
    missing = [run for run in all_runs(records) if not of(records, **vars(run))]
    assert not missing, AGAIN
    assert all(re.fullmatch("[0-9a-f]{12}", r["provenance"]["commit"]) for r in records)


def test_the_committed_table_and_figure_are_what_the_records_say(committed: Path) -> None:
    folder = committed / FOLDER
    now = files(read_records(folder / "runs.jsonl"))
    assert (folder / "table.md").read_bytes() == now["table.md"], AGAIN
    drawn = (folder / "figure.svg").read_text(encoding="utf-8")
    if f"Matplotlib v{matplotlib.__version__}," not in drawn:
        pytest.skip("drawn by another matplotlib")
    assert drawn.encode() == now["figure.svg"], AGAIN
