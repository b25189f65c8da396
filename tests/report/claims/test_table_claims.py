"""Claims that are judged by a table of rules, from tables whose truth is known."""

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from scipy import stats

from nos_repro.errors import ConfigError, RuleError
from nos_repro.report.claims.evidence import Finding
from nos_repro.report.claims.kinds.tables import TablePredictsTest, TableSharesTest
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


# ---- what the best rules are made of


SHARES = TableSharesTest("signs", "cifar10", "sign(g) * sign(m)", 0.1, "small")


def shared(folder: Path, reward: Callable[[int, bool], float], left: int = 0) -> Finding:
    """What follows from a table in which ``reward`` says what a rule earns, from its number and
    whether it is one of the 14 that hold the product."""
    packed = read_packed(ROOT / "results" / "nosbench" / "signs")
    assert packed is not None
    packed.settings["tasks"] = SETTINGS.identity()["tasks"]
    rules = [n for n, rule in enumerate(packed.rules) if not rule.refused]
    held = {n for n in rules if "sign(g) * sign(m)" in packed.rules[n].normal}
    assert (len(held), len(rules)) == (14, 1158)
    packed.rows = {"cifar10": [row(packed, "cifar10", n, reward(n, n in held)) for n in rules]}
    del packed.rows["cifar10"][:left]
    write_packed(folder / "nosbench" / "signs", packed)
    return SHARES.judge(Results(folder), "any")


def test_a_part_recurs_if_the_best_of_all_rules_hold_it(tmp_path: Path) -> None:
    found = shared(tmp_path, lambda number, held: 0.9 if held and number % 2 else number / 2000)
    assert (found.verdict, found.scale) == ("holds", "small")
    seen = int(found.reason.split()[1])
    assert found.reason == f"in {seen} of the best 116, in 14 of 1,158 healthy rules"
    oracle = stats.hypergeom(1158, 14, 116)
    assert found.effects[0].p_for == pytest.approx(oracle.sf(seen - 1))


def test_a_part_does_not_recur_if_none_of_the_best_hold_it(tmp_path: Path) -> None:
    found = shared(tmp_path, lambda number, held: 0.01 if held else 0.5 + number / 4000)
    assert found.reason == "in 0 of the best 116, in 14 of 1,158 healthy rules"
    oracle = stats.nchypergeom_fisher(1158, 14, 116, 2.0)
    assert found.effects[0].p_against == pytest.approx(oracle.cdf(0))


def test_a_table_that_lacks_a_rule_does_not_say_what_the_best_are(tmp_path: Path) -> None:
    found = shared(tmp_path, lambda number, held: 0.5, left=1)
    assert (found.verdict, found.reason) == ("not run", "1,157 of 1,158 rules of signs are trained")


def test_a_part_that_is_no_rule_is_refused() -> None:
    with pytest.raises(RuleError):
        dataclasses.replace(SHARES, part="sign(g *")
    with pytest.raises(ConfigError, match="the table signs has no task cifar11"):
        dataclasses.replace(SHARES, task="cifar11")
