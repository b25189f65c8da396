"""Claims that are judged by a table of rules, from tables whose truth is known."""

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from nos_repro.errors import ConfigError
from nos_repro.report.claims.evidence import Finding
from nos_repro.report.claims.kinds.tables import TablePredictsTest
from nos_repro.report.claims.results import Results
from nos_repro.search.table.files import Packed, read_packed, write_packed
from nos_repro.search.table.opening import chosen_rules
from nos_repro.search.table.rows import TableRow
from nos_repro.search.table.settings import load_table_settings
from tests.conftest import ROOT

TEST = TablePredictsTest("signs", "cifar10", "long", "small")
SETTINGS = load_table_settings(ROOT / "configs" / "nosbench" / "signs.yaml")
PART = SETTINGS.tasks["long"].parts[0]


def row(packed: Packed, task: str, rule: int, reward: float) -> TableRow:
    child = packed.child(task)
    nothing = tuple(0.5 for _ in child.rates), tuple(0.5 for _ in range(child.epochs))
    return TableRow(rule, 0, "healthy", reward, child.rates[0], *nothing, 1, 1.0, "code")


def judged(folder: Path, late: Callable[[int, float, bool], float], left: int = 0) -> Finding:
    """What follows from a table in which every rule earns something else in five epochs, and
    ``late`` says what it earns in thirty, from its number, that, and whether it is one of the best.
    ``left`` rules have not trained that long."""
    packed = read_packed(ROOT / "results" / "nosbench" / "signs")
    assert packed is not None
    packed.settings["tasks"] = SETTINGS.identity()["tasks"]
    source = random.Random(1)
    early = {
        number: source.random() for number, rule in enumerate(packed.rules) if not rule.refused
    }
    packed.rows = {"cifar10": [row(packed, "cifar10", n, early[n]) for n in early]}
    rows = {"cifar10": {(n, 0): one for n, one in zip(early, packed.rows["cifar10"], strict=True)}}
    chosen = chosen_rules(SETTINGS, packed, rows, "long", PART)
    assert (len(chosen.best), len(chosen.drawn)) == (20, 40)
    best = set(chosen.best)
    packed.rows["long"] = [
        row(packed, "long", n, late(n, early[n], n in best)) for n in chosen.rules[left:]
    ]
    write_packed(folder / "nosbench" / "signs", packed)
    return TEST.judge(Results(folder), "any")


def test_a_task_that_orders_rules_as_another_one_does_foretells_it(tmp_path: Path) -> None:
    found = judged(tmp_path, lambda number, early, best: early**2)
    assert (found.verdict, found.scale) == ("holds", "small")
    assert found.effects[0].value == pytest.approx(1.0)
    assert found.effects[0].n == 40


def test_rules_that_were_chosen_by_the_early_task_do_not_speak_for_it(tmp_path: Path) -> None:
    """The best are the best later, too; the other forty come in any order."""
    found = judged(
        tmp_path, lambda number, early, best: 0.9 + early / 100 if best else (number * 0.618) % 0.5
    )
    assert found.verdict != "holds"
    assert abs(found.effects[0].value) < 0.3
    assert "among the 20 best by cifar10: +1" in found.remarks[1]


def test_a_part_of_the_rules_decides_nothing(tmp_path: Path) -> None:
    found = judged(tmp_path, lambda number, early, best: early, left=3)
    assert found.verdict == "not run"
    assert "57 of 60 rules" in found.reason


def test_a_child_that_failed_is_neither_the_best_nor_counted(tmp_path: Path) -> None:
    judged(tmp_path, lambda number, early, best: early)
    folder = tmp_path / "nosbench" / "signs"
    packed = read_packed(folder)
    assert packed is not None
    first, *others = packed.rows["long"]
    packed.rows["long"] = [dataclasses.replace(first, status="failed", reward=0.0), *others]
    write_packed(folder, packed)
    found = TEST.judge(Results(tmp_path), "any")
    assert (found.verdict, found.effects) == ("not run", [])
    assert "59 of 60 rules" in found.reason


def test_children_of_other_code_are_said_beside_the_verdict(tmp_path: Path) -> None:
    found = judged(tmp_path, lambda number, early, best: early)
    stale = [line for line in found.remarks if line.startswith("Stale: ")]
    assert [line[:52] for line in stale] == [
        "Stale: of 60 children of cifar10 60 by code (today's",
        "Stale: of 60 children of long 60 by code (today's is",
    ]


def test_without_the_early_task_nothing_was_run(tmp_path: Path) -> None:
    assert TEST.judge(Results(tmp_path), "any").verdict == "not run"


def test_a_table_or_task_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="no table signz"):
        TablePredictsTest("signz", "cifar10", "long", "small")
    with pytest.raises(ConfigError, match="no task lon"):
        TablePredictsTest("signs", "cifar10", "lon", "small")
