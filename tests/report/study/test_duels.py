"""The stored duels of a study."""

import json
from pathlib import Path
from typing import Any

import pytest

from nos_repro.report.study.duels import read_duels

SIDE: dict[str, Any] = {"row": "Adam", "settings": None}
DUEL: dict[str, Any] = {
    "kind": "duel", "rows": [SIDE, {**SIDE, "row": "SGD"}], "title": "Test", "unit": "points",
    "digits": 2, "verdict": "better", "difference": 1.0, "interval": [0.5, 1.5], "level": 0.98,
    "pairs": 8, "stale": False, "cost": {"unit": "CPU-hours", "tuning": 1.0, "pairs": 2.0},
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "duels").mkdir()
    (tmp_path / "duels" / "good.json").write_text(json.dumps(DUEL))
    return tmp_path


@pytest.mark.parametrize("damage", [
    {"digits": 10**9}, {"digits": -1}, {"digits": None}, {"interval": [1.0]}, {"rows": []},
    {"cost": {}}, {"kind": "rule"},
])  # fmt: skip
def test_a_duel_that_is_damaged_is_left_out_at_once(folder: Path, damage: dict[str, Any]) -> None:
    (folder / "duels" / "bad.json").write_text(json.dumps({**DUEL, **damage}))
    problems: list[str] = []
    assert list(read_duels(folder, problems)) == [DUEL]
    assert len(problems) == 1
    assert "bad.json: not a duel" in problems[0]


def test_a_folder_with_a_duels_name_loses_nothing_else(folder: Path) -> None:
    (folder / "duels" / "bad.json").mkdir()
    problems: list[str] = []
    assert list(read_duels(folder, problems)) == [DUEL]
    assert "bad.json: not a duel (a folder)" in problems[0]
