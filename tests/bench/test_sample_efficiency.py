"""The comparison of the algorithms: its reward, its runs, its statistics, its files."""

import itertools
import math
import random
import re
from pathlib import Path
from statistics import median

import matplotlib
import pytest

from nos_repro.bench.sample_efficiency import runs
from nos_repro.bench.sample_efficiency.__main__ import main
from nos_repro.bench.sample_efficiency.claim import FOLDER
from nos_repro.bench.sample_efficiency.report import draw, files, held
from nos_repro.bench.sample_efficiency.runs import (
    CAP,
    SEEDS,
    STEPS,
    TUNING_SEEDS,
    EfficiencyRun,
    all_runs,
    chosen_step,
    complete,
    of,
    read_records,
    train,
)
from nos_repro.bench.sample_efficiency.task import BEST, SPACE, grade, reward
from nos_repro.bench.sample_efficiency.verdict import compare, interval, sign_flip_test
from nos_repro.rules.rule import Rule

ROOT = Path(__file__).resolve().parents[2]
COMMITTED = ROOT / "results" / FOLDER

# fmt: off
GRADES = [
    ("exp(sign(g) * sign(m)) * g",     1.0),   # PowerSign
    ("g / exp(-sign(m) * sign(g))",    0.3),   # nearly PowerSign: a delta apart, so another rule
    ("exp(sign(g) + sign(m)) * g",     0.75),  ("exp(sign(g)) * g",       0.6),
    ("sign(g) * sign(m) * g",          0.6),   ("exp(m) * g",             0.45),
    ("(1 + sign(g) * sign(m)) * g",    0.6),   # AddSign
    ("g",                              0.3),   ("g * m",                  0.3),
    ("-exp(sign(g) * sign(m)) * g",    0.1),   ("sign(g) * sign(m)",      0.1),
    ("adam",                           0.1),   ("exp(1) + v",             0.0),
]
# fmt: on


@pytest.mark.parametrize(("text", "expected"), GRADES)
def test_a_rule_has_the_grade_that_its_description_gives_it(text: str, expected: float) -> None:
    assert grade(Rule.parse(text).normal().expr) == expected


def test_the_space_is_of_the_papers_size_and_holds_the_best_rule() -> None:
    assert SPACE.size == 2_752_512
    tokens = Rule.parse("exp(sign(g) * sign(m)) * g").tokens()
    assert tokens is not None
    SPACE.check(tokens)
    assert reward(tuple(tokens)) == 1
    other = ["sign(m)", "sign(g)", "neg", "identity", "*", "g", "#1", "identity", "exp", "/"]
    assert reward(tuple(other)) < 1


def test_nothing_but_the_best_rule_is_near_the_target() -> None:
    source = random.Random(0)
    for _ in range(500):
        tokens = tuple(SPACE.sample(source))
        best = Rule.from_tokens(tokens).normal() == BEST
        assert best or reward(tokens) <= 0.75


@pytest.mark.parametrize("algorithm", ["ppo", "reinforce", "trpo", "random"])
def test_a_run_is_a_record_and_the_same_record_again(algorithm: str) -> None:
    step = STEPS[algorithm][1][0] if algorithm in STEPS else None
    record = train(EfficiencyRun("final", algorithm, step, 7), cap=60)
    again = train(EfficiencyRun("final", algorithm, step, 7), cap=60)
    assert record["needed"] is None
    assert len(record["curve"]) == 2
    assert 0 < record["last"] <= record["best"] <= 1
    same = record.keys() - {"seconds"}
    assert {key: record[key] for key in same} == {key: again[key] for key in same}


def test_a_run_ends_at_the_first_batch_that_makes_the_target(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rewards 0 for 40 samples and 1 after them: 90 of the last 100 are 1 at sample 130."""
    given = iter([0.0] * 40 + [1.0] * 1000)
    monkeypatch.setattr(runs, "reward", lambda tokens: next(given))
    record = train(EfficiencyRun("final", "random", None, 0), cap=1000)
    assert record["needed"] == 130
    assert record["last"] == 0.9
    assert record["curve"] == [0.2, 1.0, 1.0]


def made_up(run: EfficiencyRun) -> runs.Record:
    """A record without the work: the middle step is best, and PPO needs the fewest samples."""
    steps = STEPS[run.algorithm][1] if run.algorithm in STEPS else (None,)
    order = {"ppo": 1, "trpo": 2, "reinforce": 3, "random": 40}[run.algorithm]
    samples = order * 200 + 500 * abs(steps.index(run.step) - 2 if run.step in steps else 2)
    censored = run.part == "paper" or samples >= CAP
    return {
        **vars(run),
        "needed": None if censored else samples + run.seed,
        "last": 0.2 if censored else 0.9,
        "best": 1.0,
        "curve": [0.1] * 20 if censored else [0.1, 0.9],
        "seconds": 1.0,
        "protocol": runs.PROTOCOL,
        "provenance": {"commit": "abc", "device": "a processor", "threads": 1, "python": "3",
                       "libraries": {"torch": "2"}},
    }  # fmt: skip


def test_a_comparison_that_was_killed_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, made = tmp_path / "runs.jsonl", list[EfficiencyRun]()

    def killed_at_the_thirtieth(run: EfficiencyRun) -> runs.Record:
        if len(made) == 29:
            raise KeyboardInterrupt
        made.append(run)
        return made_up(run)

    monkeypatch.setattr(runs, "train", killed_at_the_thirtieth)
    with pytest.raises(KeyboardInterrupt):
        complete(path)
    assert len(read_records(path)) == 29
    monkeypatch.setattr(runs, "train", lambda run: made.append(run) or made_up(run))
    records = complete(path)
    assert records == complete(path), "nothing is done twice"
    assert len(made) == len(set(made)) == len(records) == 12 * len(TUNING_SEEDS) + 40 + 6
    assert {run["seed"] for run in of(records, part="final")} == set(SEEDS)


def test_a_record_of_another_protocol_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "runs.jsonl"
    monkeypatch.setattr(runs, "train", made_up)
    complete(path)
    monkeypatch.setattr(runs, "PROTOCOL", {**runs.PROTOCOL, "cap": 10})
    assert read_records(path) == []


def test_tuning_and_final_seeds_are_apart_and_every_grid_is_as_long() -> None:
    assert not set(TUNING_SEEDS) & set(SEEDS)
    assert len({len(steps) for _, steps in STEPS.values()}) == 1


def test_the_step_is_chosen_by_the_tuning_seeds_alone() -> None:
    records = [
        made_up(EfficiencyRun(part, "ppo", step, seed))
        for part, seeds in (("tuning", TUNING_SEEDS), ("final", SEEDS))
        for step in STEPS["ppo"][1]
        for seed in seeds
    ]
    assert chosen_step(records, "ppo") == STEPS["ppo"][1][2]
    for record in of(records, part="tuning", step=STEPS["ppo"][1][2]):
        record["needed"] = None
    assert chosen_step(records, "ppo") in STEPS["ppo"][1][1::2]


@pytest.fixture
def all_made_up() -> list[runs.Record]:
    records: list[runs.Record] = []
    for run in all_runs(records):
        records.append(made_up(run))
    return records


def test_the_sign_flip_test_counts_what_lies_as_far_out() -> None:
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


def test_a_verdict_is_in_words_both_ways_and_none_where_none_is_due(all_made_up) -> None:
    ours = compare(all_made_up, "ppo", "reinforce")
    assert ours.words == "PPO needs fewer samples than REINFORCE"
    assert ours.ratio == pytest.approx(214.5 / 614.5)
    theirs = compare(all_made_up, "reinforce", "ppo")
    assert theirs.words == "REINFORCE needs more samples than PPO"
    assert theirs.p == ours.p == 2 / 1024
    assert math.log(theirs.factor) == pytest.approx(-math.log(ours.factor))
    assert (ours.arrived, ours.pairs) == ((10, 10), 10)
    for run in of(all_made_up, part="final", algorithm="ppo")[::2]:
        run["needed"] = None
    assert compare(all_made_up, "ppo", "reinforce").words == "PPO and REINFORCE are not told apart"


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


def test_one_command_completes_the_records_and_writes_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "train", made_up)
    monkeypatch.setattr("sys.argv", ["sample_efficiency", "--results", str(tmp_path)])
    main()
    folder = tmp_path / FOLDER
    written = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert written.keys() == {"runs.jsonl", "table.md", "figure.png", "figure.svg"}
    assert "PPO needs fewer samples than REINFORCE" in written["table.md"].decode()
    main()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == written


AGAIN = "write it anew:  python -m nos_repro.bench.sample_efficiency"


def test_the_committed_comparison_is_complete() -> None:
    records = read_records(COMMITTED / "runs.jsonl")
    missing = [run for run in all_runs(records) if not of(records, **vars(run))]
    assert not missing, AGAIN
    assert all(re.fullmatch("[0-9a-f]{12}", r["provenance"]["commit"]) for r in records)


def test_the_committed_table_and_figure_are_what_the_records_say() -> None:
    now = files(read_records(COMMITTED / "runs.jsonl"))
    assert (COMMITTED / "table.md").read_bytes() == now["table.md"], AGAIN
    drawn = (COMMITTED / "figure.svg").read_text()
    if f"Matplotlib v{matplotlib.__version__}," not in drawn:
        pytest.skip("drawn by another matplotlib")
    assert drawn.encode() == now["figure.svg"], AGAIN
