"""The arena: what a run costs and finds, how algorithms are tuned, and that nothing is lost."""

from __future__ import annotations

import dataclasses
import itertools
import json
import random
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nos_repro.errors import ConfigError
from nos_repro.experiments.record import RecordError
from nos_repro.rules.space import Space
from nos_repro.search.algorithms import ALGORITHMS
from nos_repro.search.algorithms.base import ControllerSettings
from nos_repro.search.arena import complete as completing
from nos_repro.search.arena.complete import Pool, complete
from nos_repro.search.arena.play import Ground, play
from nos_repro.search.arena.runs import (
    ArenaRun,
    Records,
    chosen,
    final_runs,
    read_records,
    records_file,
    together,
    tuning_runs,
)
from nos_repro.search.arena.settings import algorithm_section, load_arena, shipped_arenas
from nos_repro.search.arena.verify import verify_runs
from nos_repro.search.sample import Sample
from tests.processes import gone

SPACE = Space(("g", "m", "v", "1"), ("identity", "exp"), ("+", "*", "keep_left"), 1)
STRINGS = [
    words
    for words in itertools.product(*map(SPACE.choices, range(SPACE.length)))
    if SPACE.contains(words)
]


class MadeUp:
    """A table in which strings that differ by their last unary function alone write one rule, and
    a fifth of the rules is refused."""

    def __init__(self) -> None:
        self.space = SPACE
        self.places = {}
        for words in STRINGS:
            self.places.setdefault(self._rule(words), len(self.places))
        source = random.Random(0)
        self.rules = [
            SimpleNamespace(refused="constant" if source.random() < 0.2 else "")
            for _ in self.places
        ]
        self.values = {
            seed: np.array([0.0 if rule.refused else source.random() for rule in self.rules])
            for seed in (0, 1, 2)
        }

    def _rule(self, words: Any) -> tuple[str, ...]:
        return tuple(words[place] for place in (0, 1, 2, 4))

    def rule_of(self, tokens: Any) -> int:
        return self.places[self._rule(tokens)]

    def seeds(self, task: str) -> list[int]:
        return [0, 1, 2]

    def rewards(self, task: str, seed: int) -> Any:
        return self.values[seed]


@pytest.fixture(scope="module")
def table() -> Any:
    return MadeUp()


def run_of(name: str, seed: int = 0, **changes: Any) -> ArenaRun:
    given = {key: changes.pop(key) for key in list(changes) if key in ("lr", "batch", "tries")}
    values: dict[str, Any] = {
        "table": "made-up",
        "task": "any",
        "algorithm": algorithm_section({"name": name, **given}),
        "space": {},
        "controller": {"hidden": 8, "init": 0.08},
        "redraws": "always",
        "seed": seed,
        "children": 20,
        "draws": 400,
        "patience": 200,
        "top": (0.2, 0.05),
        "converged": 0.2,
    }
    return ArenaRun(**{**values, **changes})


def test_a_run_costs_distinct_rules_that_are_not_refused(table: Any) -> None:
    """Counted again from the strings that random search draws."""
    run = run_of("random", 5)
    (record,) = play([run], table)
    kind = ALGORITHMS.find("random")
    again = kind(SPACE, kind.Settings(), seed=5, controller=ControllerSettings())
    drawn = [tuple(again.propose(number, {}).tokens) for number in range(record["drawn"])]
    rules = [table.rule_of(tokens) for tokens in drawn]
    trained = [rule for rule in dict.fromkeys(rules) if not table.rules[rule].refused]
    assert len(trained) == record["children"] == 20
    assert len(set(rules)) == record["rules"]
    rewards, judges = table.values[2], (table.values[0] + table.values[1]) / 2  # 5 mod 3
    children, reward, judged, rule = record["best"][-1]
    assert reward == pytest.approx(max(rewards[trained]), abs=1e-6)
    assert rule == trained[children - 1]
    assert judged == pytest.approx(judges[rule], abs=1e-6)
    of_children = [rewards[rule] for rule in trained]
    of_strings = [0 if table.rules[rule].refused else rewards[rule] for rule in rules]
    for what, values in (("children", of_children), ("strings", of_strings)):
        quarter = len(values) // 4
        wanted = [np.mean(values[:quarter]), np.mean(values[-quarter:])]
        assert record["ends"][what] == pytest.approx(wanted, abs=1e-6)
    best_two = np.argsort(-np.array(of_children))[:2]
    assert record["place"] == pytest.approx((best_two.mean() + 0.5) / 20, abs=1e-6)
    for share, found in zip(run.top, record["found"], strict=True):
        top = set(np.argsort(-judges)[: max(1, round(share * len(judges)))])
        first = next((n for n, each in enumerate(trained, 1) if each in top), None)
        assert (found and found[0]) == first
        if first is not None:
            assert found[1] == 1 + rules.index(trained[first - 1])


def test_a_rule_that_only_some_seeds_have_is_judged_by_those(table: Any) -> None:
    other = MadeUp()
    other.values[1] = np.where(np.arange(len(other.rules)) % 2, np.nan, other.values[1])
    other.values[2] = np.full(len(other.rules), np.nan)
    ground = Ground(other, "any", 4)  # type: ignore[arg-type]
    assert ground.own == 0, "the only seed that has every rule"
    assert ground.judged[0] == other.values[1][0]
    assert ground.judged[1] == other.values[0][1]


@pytest.mark.parametrize("name", ["ppo", "reinforce", "trpo"])
def test_runs_side_by_side_are_those_played_alone(name: str, table: Any) -> None:
    runs = [run_of(name, seed) for seed in range(3)]
    alone = [play([run], table)[0] for run in runs]
    for one, other in zip(play(runs, table), alone, strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}


def test_groups_of_all_rows_begin_before_the_second_group_of_any() -> None:
    """So that what has been played at any moment compares the rows."""
    runs = [run_of(name, seed) for seed in range(5) for name in ("random", "evolution")]
    groups = together(runs, 2)
    assert [(g[0].algorithm["name"], [run.seed for run in g]) for g in groups] == [
        ("random", [0, 1]), ("evolution", [0, 1]), ("random", [2, 3]), ("evolution", [2, 3]),
        ("random", [4]), ("evolution", [4]),
    ]  # fmt: skip


@pytest.mark.parametrize(("redraws", "times"), [("always", 99), ("once", 2), ("never", 1)])
def test_a_policy_gradient_draws_what_a_search_would(redraws: str, times: int, table: Any) -> None:
    """The same strings as one by one through the contract of an algorithm."""
    run = run_of("ppo", 3, redraws=redraws, lr=0.01)
    (record,) = play([run], table)
    kind = ALGORITHMS.find("ppo")
    settings = {key: value for key, value in run.algorithm.items() if key != "name"}
    learner = kind(
        SPACE, kind.Settings(**settings), seed=3, controller=ControllerSettings(hidden=8)
    )
    known: Counter[int] = Counter()
    rewards = []
    for number in range(record["drawn"]):
        sample = Sample(number, 0, *learner.propose(number, {}))
        rule = table.rule_of(sample.tokens)
        rewards.append(table.values[0][rule])
        if known[rule] < times:
            learner.learn(sample, rewards[-1])
        known[rule] += 1
    assert record["rules"] == len(known)
    assert record["last"] == pytest.approx(np.mean(rewards[-100:]), abs=1e-5)


def test_a_policy_that_repeats_itself_ends_its_run(table: Any) -> None:
    (record,) = play([run_of("ppo", lr=0.3, children=60, draws=10_000, patience=50)], table)
    assert record["capped"]
    assert record["drawn"] < 2000


ARENA = """
arena: tiny
table: made-up
task: any
tuning: {table: made-up, task: any, configurations: 2, seeds: 2, children: 10}
budgets: [5, 20]
seeds: 4
top: [0.2, 0.05]
rows:
  random: {algorithm: random}
  evolution: {algorithm: evolution, grid: {population: [5, 10], tournament: [3]}}
"""


@pytest.fixture
def file(tmp_path: Path, table: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(completing, "open_table", lambda name, results: table)
    path = tmp_path / "tiny.yaml"
    path.write_text(ARENA)
    return path


def test_nothing_is_played_twice_whenever_it_was_killed(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arena = load_arena(file)
    path = records_file(tmp_path, "tiny")
    complete(arena, tmp_path, print)
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    assert len(lines) == 2 * 2 + 2 * 4
    played: list[ArenaRun] = []
    own = completing.play
    monkeypatch.setattr(completing, "play", lambda runs, t: [played.extend(runs), own(runs, t)][1])
    complete(arena, tmp_path, print)
    assert not played
    path.write_bytes(b"".join(lines[:7]) + lines[7][:40])
    complete(arena, tmp_path, print)
    assert len(played) == len(lines) - 7

    def timeless(data: bytes) -> set[str]:
        records = map(json.loads, data.splitlines())
        return {json.dumps({**r, "seconds": 0}, sort_keys=True) for r in records}

    assert timeless(path.read_bytes()) == timeless(whole)


def test_runs_by_other_code_are_kept_until_they_are_asked_for_again(
    file: Path, tmp_path: Path
) -> None:
    arena = load_arena(file)
    complete(arena, tmp_path, print)
    path = records_file(tmp_path, "tiny")
    old = [{**json.loads(line), "code": "older"} for line in path.read_text().splitlines()]
    path.write_text("".join(f"{json.dumps(record)}\n" for record in old))
    said: list[str] = []
    complete(arena, tmp_path, said.append)
    assert any("8 runs were played by other code and are kept" in line for line in said)
    records = complete(arena, tmp_path, print, again=True)
    assert {record["code"] for record in records.by_key.values()} != {"older"}


def test_runs_over_a_table_that_has_grown_since_are_said_and_played_again_when_asked_for(
    file: Path, tmp_path: Path, table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    arena = load_arena(file)
    complete(arena, tmp_path, print)
    grown = MadeUp()
    grown.values = {**table.values, 3: table.values[0][::-1].copy()}
    monkeypatch.setattr(grown, "seeds", lambda task: [0, 1, 2, 3])
    monkeypatch.setattr(completing, "open_table", lambda name, results: grown)
    said: list[str] = []
    kept = complete(arena, tmp_path, said.append)
    assert any("8 runs were played on the table before it got other rows" in line for line in said)
    records = complete(arena, tmp_path, said.append, again=True)
    assert {record["table_seed"] for record in records.by_key.values()} == {0, 1, 2, 3}
    assert {record["table_seed"] for record in kept.by_key.values()} == {0, 1, 2}
    said.clear()
    complete(arena, tmp_path, said.append)
    assert not any("before it got other rows" in line for line in said)


def _made_by_older_code(path: Path, change: Any = None) -> None:
    """Rewrites the records as if other code had played them; ``change`` spoils one."""
    old = [{**json.loads(line), "code": "older"} for line in path.read_text().splitlines()]
    if change is not None:
        change(old)
    path.write_text("".join(f"{json.dumps(record)}\n" for record in old))


def test_records_of_older_code_are_signed_if_todays_repeats_a_sample(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arena = load_arena(file)
    complete(arena, tmp_path, print)
    path = records_file(tmp_path, "tiny")
    made = [json.loads(line) for line in path.read_text().splitlines()]
    _made_by_older_code(path)
    played: list[ArenaRun] = []
    own = completing.play
    monkeypatch.setattr(completing, "play", lambda runs, t: [played.extend(runs), own(runs, t)][1])
    said: list[str] = []
    assert verify_runs(arena, tmp_path, 1, said.append)
    assert len(played) == 4, "one of each tuned configuration, and one of each row"
    assert len({dataclasses.replace(run, seed=0).key for run in played}) == 4
    signed = [json.loads(line) for line in path.read_text().splitlines()]
    assert signed == [{**record, "verified": ["older"]} for record in made]
    played.clear()
    assert verify_runs(arena, tmp_path, 1, said.append)
    assert not played, "nothing is stale any more"


def test_a_run_that_comes_out_otherwise_leaves_all_of_its_kind_unsigned(
    file: Path, tmp_path: Path
) -> None:
    arena = load_arena(file)
    complete(arena, tmp_path, print)
    path = records_file(tmp_path, "tiny")

    def spoil(records: list[dict[str, Any]]) -> None:
        for record in records:
            if record["run"]["algorithm"]["name"] == "random":
                record["drawn"] += 1

    _made_by_older_code(path, spoil)
    said: list[str] = []
    assert not verify_runs(arena, tmp_path, 2, said.append)
    assert any(re.search(r"random.*seed \d: drawn: .* now", line) for line in said), said
    for line in path.read_text().splitlines():
        record = json.loads(line)
        wrong = record["run"]["algorithm"]["name"] == "random"
        assert (record["code"] == "older") == wrong


def test_the_configuration_that_finds_the_top_soonest_is_chosen(file: Path) -> None:
    """A failure counts as ten budgets."""
    arena = load_arena(file)
    row = arena.contestants()["evolution"]
    runs = tuning_runs(arena, row)
    needed = {0: (3, 4), 1: (1, None)}  # 1 fails once: worse

    def record(run: ArenaRun, children: int | None) -> dict[str, Any]:
        plain = json.loads(json.dumps(dataclasses.asdict(run)))
        found = [None, None if children is None else [children, children]]
        return {"run": plain, "found": found, "best": [[1, 0.5, 0.5, 0]], "children": 10}

    made = [
        record(run, n)
        for number, tried in runs.items()
        for run, n in zip(tried, needed[number], strict=True)
    ]
    section = chosen(arena, row, Records(made))
    assert section is not None
    assert section["population"] == 5
    assert chosen(arena, row, Records(made[:-1])) is None, "a run is missing"
    assert [run.seed for run in final_runs(arena, row, section)] == [0, 1, 2, 3]
    fresh = dataclasses.replace(arena, first_seed=7)
    assert [run.seed for run in final_runs(fresh, row, section)] == [7, 8, 9, 10]
    assert {run.seed for tried in runs.values() for run in tried}.isdisjoint({0, 1, 2, 3})


# fmt: off
WRONG = [
    ("seeds: 4",             "seeds: 0",               r"seeds must be at least 1, got 0"),
    ("seeds: 4",             "seeds: 4\nfirst_seed: -1", r"first_seed must not be negative"),
    ("configurations: 2",    "configurations: 3",      r"rows.evolution.grid has 2 .* 3"),
    ("population: [5, 10]",  "populatoin: [5, 10]",    r"rows.evolution: .*populatoin"),
    ("algorithm: random",    "algorithm: rondom",      r"rows.random: unknown algorithm 'rondom'"),
    ("budgets: [5, 20]",     "budgets: [20, 5]",       r"budgets must be children, fewest first"),
    ("top: [0.2, 0.05]",     "top: [2.0]",             r"top must be shares between 0 and 1"),
    ("task: any\nt",         "task: any\nrefrence: x\nt", r"unknown key 'refrence'"),
    ("top: [0.2, 0.05]",     "top: []",                r"top must name at least one share"),
    ("{algorithm: random}",  "{algorithm: random, space: {operands: [g]}}",
     r"rows.random: space.operands: unknown constraint"),
    ("{algorithm: random}",  "{algorithm: random, space: {reuse_computed: 3}}",
     r"rows.random: space.reuse_computed must be true or false, got 3"),
    ("arena: tiny",          "study: tiny",            r"not an arena"),
]
# fmt: on


@pytest.mark.parametrize(("old", "new", "error"), WRONG)
def test_a_mistake_in_an_arenas_file_is_one_error(
    old: str, new: str, error: str, file: Path
) -> None:
    file.write_text(ARENA.replace(old, new, 1))
    with pytest.raises(ConfigError, match=error):
        load_arena(file)


@pytest.mark.parametrize("path", shipped_arenas().values(), ids=lambda path: path.stem)
def test_the_arenas_that_ship_load(path: Path) -> None:
    arena = load_arena(path)
    assert arena.arena == path.stem
    for row in arena.contestants().values():
        for section in row.configurations():
            algorithm_section(section)


def test_a_damaged_record_is_named(file: Path, tmp_path: Path) -> None:
    complete(load_arena(file), tmp_path, print)
    path = records_file(tmp_path, "tiny")
    path.write_bytes(b'{"run": 1}\n' + path.read_bytes())
    with pytest.raises(Exception, match=r"runs.jsonl, line 1: not a record of a run"):
        list(read_records(path))


# fmt: off
SPOILT = [
    ("converged", ...), ("converged", "soon"), ("ends", ...), ("ends", {}), ("place", "late"),
    ("found", None), ("found", [[1], None]), ("best", [[1, 0.5]]), ("best", 3), ("seconds", None),
    ("children", -1), ("capped", ...), ("run", 1),
]
# fmt: on


@pytest.mark.parametrize(("key", "value"), SPOILT)
def test_a_record_without_what_tables_and_claims_read_is_named(
    key: str, value: Any, table: Any, tmp_path: Path
) -> None:
    (record,) = play([run_of("random")], table)
    whole = {**json.loads(json.dumps(record)), "code": "c", "provenance": {}}
    path = tmp_path / "runs.jsonl"
    path.write_text(f"{json.dumps(whole)}\n")
    assert list(read_records(path)) == [whole]
    spoilt = {**whole, key: value}
    if value is ...:
        del spoilt[key]
    path.write_text(f"{json.dumps(whole)}\n{json.dumps(spoilt)}\n")
    with pytest.raises(RecordError, match=rf"line 2: not a record of a run \('{key}'"):
        list(read_records(path))


def test_a_task_that_the_table_lacks_or_has_not_trained_is_one_error(
    file: Path, tmp_path: Path, table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    arena = load_arena(file)

    def lacking(task: str) -> list[int]:
        raise KeyError("the table made-up: unknown task 'any'")

    with monkeypatch.context() as patched:
        patched.setattr(table, "seeds", lacking)
        with pytest.raises(ConfigError, match=r"^task: the table made-up: unknown"):
            complete(arena, tmp_path, print)
    unfinished = {seed: np.append(rewards, np.nan) for seed, rewards in table.values.items()}
    monkeypatch.setattr(table, "values", unfinished)
    with pytest.raises(ConfigError, match=r"no seed of any has trained every rule of .* made-up"):
        complete(arena, tmp_path, print)


LEFT = """
import os, signal
from pathlib import Path
from nos_repro.search.arena.complete import Pool

if __name__ == "__main__":
    with Pool(2, Path()) as pool:
        pids = {future.result() for future in [pool._pool.submit(os.getpid) for _ in range(8)]}
        print(*pids, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_workers_of_an_arena_that_is_killed_end_too(tmp_path: Path) -> None:
    script = tmp_path / "left.py"
    script.write_text(LEFT)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    workers = list(map(int, done.stdout.split()))
    assert workers, done.stderr
    assert gone(workers)


def work_on(started: Path, ended: Path) -> None:
    """Begins a long run, and ends it if nobody minds."""
    started.touch()
    time.sleep(20)
    ended.touch()


def test_an_arena_that_is_stopped_does_not_wait_for_the_runs_under_way(tmp_path: Path) -> None:
    started, ended = tmp_path / "started", tmp_path / "ended"
    with pytest.raises(KeyboardInterrupt), Pool(2, tmp_path) as pool:  # noqa: PT012 the wait is part
        pool._pool.submit(work_on, started, ended)
        while not started.exists():
            time.sleep(0.1)
        raise KeyboardInterrupt
    assert not ended.exists()
