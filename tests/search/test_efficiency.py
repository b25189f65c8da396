"""The comparison of the algorithms: its reward, its runs and their records."""

import random
from pathlib import Path

import pytest

from nos_repro.rules.rule import Rule
from nos_repro.search.efficiency import learn, runs
from nos_repro.search.efficiency.__main__ import main
from nos_repro.search.efficiency.learn import complete, train
from nos_repro.search.efficiency.runs import (
    SEEDS,
    STEPS,
    TUNING_SEEDS,
    EfficiencyRun,
    RunRecord,
    chosen_step,
    of,
    read_records,
    records_file,
)
from nos_repro.search.efficiency.task import BEST, SPACE, grade, reward
from tests.search.made_up_runs import made_up

# fmt: off
GRADES = [
    ("exp(sign(g) * sign(m)) * g",     1.0),   # PowerSign
    ("g / exp(-sign(m) * sign(g))",    0.3),   # almost PowerSign: a delta apart, so another rule
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
def test_a_run_gives_the_same_record_again(algorithm: str) -> None:
    step = STEPS[algorithm][1][0] if algorithm in STEPS else None
    record = train(EfficiencyRun("final", algorithm, step, 7), cap=60)
    again = train(EfficiencyRun("final", algorithm, step, 7), cap=60)
    assert record["needed"] is None
    assert len(record["curve"]) == 2
    assert 0 < record["last"] <= record["best"] <= 1
    same = record.keys() - {"seconds"}
    assert {key: record[key] for key in same} == {key: again[key] for key in same}


def test_a_run_ends_at_the_first_batch_that_reaches_the_target(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rewards 0 for 40 samples and 1 after them: 90 of the last 100 are 1 at sample 130."""
    given = iter([0.0] * 40 + [1.0] * 1000)
    monkeypatch.setattr(learn, "reward", lambda tokens: next(given))
    record = train(EfficiencyRun("final", "random", None, 0), cap=1000)
    assert record["needed"] == 130
    assert record["last"] == 0.9
    assert record["curve"] == [0.2, 1.0, 1.0]


def test_a_comparison_that_was_killed_continues_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, made = tmp_path / "runs.jsonl", list[EfficiencyRun]()

    def killed_at_the_thirtieth(run: EfficiencyRun) -> RunRecord:
        if len(made) == 29:
            raise KeyboardInterrupt
        made.append(run)
        return made_up(run)

    monkeypatch.setattr(learn, "train", killed_at_the_thirtieth)
    with pytest.raises(KeyboardInterrupt):
        complete(path)
    assert len(read_records(path)) == 29
    monkeypatch.setattr(learn, "train", lambda run: made.append(run) or made_up(run))
    records = complete(path)
    assert records == complete(path), "nothing is done twice"
    assert len(made) == len(set(made)) == len(records) == 12 * len(TUNING_SEEDS) + 40 + 6
    assert {run["seed"] for run in of(records, part="final")} == set(SEEDS)


def test_a_record_of_another_protocol_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "runs.jsonl"
    monkeypatch.setattr(learn, "train", made_up)
    complete(path)
    monkeypatch.setattr(runs, "PROTOCOL", {**runs.PROTOCOL, "cap": 10})
    assert read_records(path) == []


def test_tuning_and_final_seeds_differ_and_all_grids_have_the_same_length() -> None:
    assert not set(TUNING_SEEDS) & set(SEEDS)
    assert len({len(steps) for _, steps in STEPS.values()}) == 1


def test_the_step_is_chosen_with_the_tuning_seeds_alone() -> None:
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


def test_the_command_makes_every_run_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(learn, "train", made_up)
    monkeypatch.setattr("sys.argv", ["efficiency", "--results", str(tmp_path)])
    main()
    path = records_file(tmp_path)
    written = path.read_bytes()
    assert len(read_records(path)) == 12 * len(TUNING_SEEDS) + 40 + 6
    assert capsys.readouterr().out.endswith(
        "`report --all --write` writes their table and figure\n"
    )
    main()
    assert path.read_bytes() == written
