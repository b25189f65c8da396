"""What an arena's records are said to show: intervals, ranks, verdicts, the files and the page."""

from __future__ import annotations

import dataclasses
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from scipy import stats

from nos_repro.cli import main
from nos_repro.report.arena.files import arena_of, write_arena
from nos_repro.report.arena.standing import (
    judged_at,
    mean_of,
    median_of,
    ratio_of_medians,
    share_of,
)
from nos_repro.report.claims.kinds.arena import ArenaRisesTest, ArenaTest
from nos_repro.report.claims.results import Results
from nos_repro.search.arena.runs import (
    ArenaRun,
    Records,
    chosen,
    code_of,
    final_runs,
    records_file,
    tuning_runs,
)
from nos_repro.search.arena.settings import find_arena, load_arena

Needed = Callable[[ArenaRun], int | None]


def record_of(run: ArenaRun, needed: int | None) -> dict[str, Any]:
    """As if a run had found the tops, and converged, at this child."""
    found = None if needed is None else [needed, needed]
    return {
        "run": json.loads(json.dumps(dataclasses.asdict(run))),
        "table_seed": 0,
        "children": run.children,
        "drawn": 2 * run.children,
        "rules": run.children,
        "capped": False,
        "best": [[1, 0.5, 0.4, 7], *([] if needed is None else [[needed, 0.9, 0.8, 8]])],
        "found": [found, found],
        "converged": needed,
        "ends": {"children": [0.4, 0.4], "strings": [0.4, 0.4]},
        "place": 0.5,
        "last": 0.5,
        "seconds": 1.0,
        "code": code_of(run),
        "provenance": {"libraries": {"torch": "2"}, "device": "a processor", "python": "3",
                       "threads": 1, "commit": "abc"},
    }  # fmt: skip


def fill(results: Path, needed: Needed, *, rows: tuple[str, ...] = (), less: int = 0) -> None:
    """The records of the arena that ships, or of some rows of it."""
    arena = load_arena(find_arena("arena"))
    records = []
    for name, row in arena.contestants().items():
        if rows and name not in rows:
            continue
        tuning = [run for tried in tuning_runs(arena, row).values() for run in tried]
        records += [record_of(run, 10) for run in tuning]
        section = chosen(arena, row, Records(records))
        assert section is not None
        runs = final_runs(arena, row, section)
        records += [record_of(run, needed(run)) for run in runs[: len(runs) - less]]
    path = records_file(results, "arena")
    path.parent.mkdir(parents=True)
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))


def times(**medians: int) -> Needed:
    """About so many children for each algorithm."""

    def needed(run: ArenaRun) -> int | None:
        median = medians.get(run.algorithm["name"], 100)
        source = random.Random(f"{run.seed} {run.algorithm['name']}")
        return max(1, round(median * source.lognormvariate(0, 0.3)))

    return needed


@pytest.mark.parametrize("n", [6, 7, 10, 50, 100, 1000, 3000])
def test_the_interval_of_a_median_is_the_binomials(n: int) -> None:
    """The narrowest pair of order statistics, alike from both ends, that covers 95 %."""
    found = median_of([float(place) for place in range(1, n + 1)])
    place = int(found.low)
    assert found.high == n + 1 - place
    outside = 2 * stats.binom.cdf(place - 1, n, 0.5)
    assert outside <= 0.05 < outside + 2 * stats.binom.pmf(place, n, 0.5)


def test_a_run_that_never_arrived_comes_last() -> None:
    never = math.inf
    assert median_of([3.0, never, 1.0, 2.0, never]).value == 3.0
    assert median_of([3.0, never, 1.0, never]).value == never
    assert median_of([1.0] * 60 + [never] * 40).high == never
    assert ratio_of_medians([1.0, never, never], [1.0, 2.0, 3.0]) is None


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (3, 10), (90, 100), (100, 100)])
def test_the_interval_of_a_share_is_wilsons(hits: int, n: int) -> None:
    found = share_of(hits, n)
    known = stats.binomtest(hits, n).proportion_ci(0.95, method="wilson")
    assert (found.low, found.high) == pytest.approx((known.low, known.high), abs=1e-4)


def test_the_interval_of_a_mean_is_near_students() -> None:
    source = random.Random(0)
    values = [source.gauss(1, 0.2) for _ in range(100)]
    found = mean_of(values)
    error = stats.sem(values)
    assert (found.low, found.high) == pytest.approx(
        stats.t.interval(0.95, 99, found.value, error), abs=0.2 * error
    )


def test_the_best_so_far_is_the_rule_that_the_search_would_choose() -> None:
    record = {"best": [[1, 0.1, 0.3, 0], [5, 0.2, 0.2, 1]]}
    assert [judged_at(record, n) for n in (0, 1, 4, 5, 99)] == [0.0, 0.3, 0.3, 0.2, 0.2]


# fmt: off
CASES = [
    # what is needed                    less  verdict           and says
    (times(ppo=100, reinforce=300),     0,    "holds",          "doublings"),
    (times(ppo=300, reinforce=100),     0,    "does not hold",  "doublings"),
    (times(ppo=100, reinforce=100),     0,    "does not hold",  "doublings"),
    (lambda run: None,                  0,    "undecided",      ""),
    (times(ppo=100, reinforce=300),     1,    "not run",        "99 of 100 seeds are on record"),
]
# fmt: on


@pytest.mark.parametrize(("needed", "less", "verdict", "says"), CASES)
def test_a_claim_is_decided_by_what_the_runs_needed(
    needed: Needed, less: int, verdict: str, says: str, tmp_path: Path
) -> None:
    fill(tmp_path, needed, rows=("ppo", "reinforce"), less=less)
    found = ArenaTest("arena", "ppo", "reinforce").judge(Results(tmp_path), "any")
    assert found.verdict == verdict, found
    assert says in found.reason + "".join(map(str, found.effects))
    if found.effects:
        assert any("tuned over 12 configurations x 10 seeds" in line for line in found.remarks)


def test_a_claim_says_what_is_left_of_a_difference_without_the_runs_that_never_arrived(
    tmp_path: Path,
) -> None:
    """Half of one row's runs never get there; where both do, both need the same."""

    def needed(run: ArenaRun) -> int | None:
        fails = run.algorithm["name"] == "reinforce" and run.seed % 2
        return None if fails else 50 + run.seed % 3 * (run.algorithm["name"] == "ppo")

    fill(tmp_path, needed, rows=("ppo", "reinforce"))
    found = ArenaTest("arena", "ppo", "reinforce").judge(Results(tmp_path), "any")
    assert found.verdict == "holds"
    left = [line for line in found.remarks if "with which both got there" in line]
    assert len(left) == 2
    assert all("doublings (n = 50)" in line and ": -0.0" in line for line in left), left


def test_a_rise_is_said_beside_that_of_the_reference(tmp_path: Path) -> None:
    fill(tmp_path, times(), rows=("ppo", "random"))
    remarks = ArenaRisesTest("arena", "ppo", "mean").judge(Results(tmp_path), "any").remarks
    (beside,) = [line for line in remarks if line.startswith("beside it random")]
    assert beside.count("less the first's: +0 ") == 2
    own = ArenaRisesTest("arena", "random", "best").judge(Results(tmp_path), "any").remarks
    assert not any(line.startswith("beside it") for line in own)


# fmt: off
RISES = [
    # what    children   strings   place   verdict
    ("mean",   0.10,      0.10,    0.5,    "holds"),
    ("mean",   0.00,      0.10,    0.5,    "undecided"),  # it repeats the good ones
    ("mean",   0.00,      0.00,    0.5,    "undecided"),
    ("mean",  -0.10,     -0.10,    0.5,    "does not hold"),
    ("best",   0.10,      0.10,    0.5,    "undecided"),
    ("best",  -0.10,     -0.10,    0.6,    "holds"),
    ("best",   0.10,      0.10,    0.4,    "does not hold"),
]
# fmt: on


@pytest.mark.parametrize(("what", "children", "strings", "place", "verdict"), RISES)
def test_whether_rewards_rise_is_decided_by_all_seeds(
    what: Literal["mean", "best"], children: float, strings: float, place: float, verdict: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    fill(tmp_path, times(), rows=("ppo",))
    path = records_file(tmp_path, "arena")
    source = random.Random(0)
    lines = []
    for line in path.read_text().splitlines():
        record = json.loads(line)
        luck = source.gauss(0, 0.05)
        rises = {"children": children, "strings": strings}
        record["ends"] = {name: [0.4, 0.4 + rise + luck] for name, rise in rises.items()}
        record["place"] = place + luck
        lines.append(f"{json.dumps(record)}\n")
    path.write_text("".join(lines))
    found = ArenaRisesTest("arena", "ppo", what).judge(Results(tmp_path), "any")
    assert found.verdict == verdict, found
    assert {effect.n for effect in found.effects} == {100}
    missing = ArenaRisesTest("arena", "trpo", what).judge(Results(tmp_path), "any")
    assert (missing.verdict, missing.reason) == ("not run", "0 of 100 seeds are on record")


def test_table_document_figure_and_page_say_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, times(random=800, evolution=100))
    found = arena_of("arena", tmp_path)
    paths = {path.name: path for path in write_arena(found)}
    assert set(paths) == {"table.md", "arena.json", "figure.png", "figure.svg"}
    document = json.loads(paths["arena.json"].read_text())
    rows = {row["name"]: row for row in document["rows"]}
    assert set(rows) == set(found.arena.rows)
    assert rows["evolution"]["times_the_reference"]["value"] < 0.2
    assert rows["evolution"]["found"][1]["runs"] == 100
    assert "2048" not in rows["optuna"]["best"], "it has a smaller budget"
    text = paths["table.md"].read_text()
    assert "at the edge of its grid" in text
    assert "100 of 100" in text
    pages = tmp_path / "pages"
    words = ["report", "--all", "--results", str(tmp_path), "--html", str(pages)]
    assert main(words) == 0
    assert "arena/arena" in capsys.readouterr().out
    assert 'href="arena-arena.html"' in (pages / "index.html").read_text()
    page = (pages / "arena-arena.html").read_text()
    assert 'id="algorithms.optuna' in page
    assert "found the top 0.1%" in page
    assert main(["arena", "--show", "--results", str(tmp_path)]) == 0
    assert "evolution" in capsys.readouterr().out


def test_runs_by_other_code_are_said_to_be(tmp_path: Path) -> None:
    fill(tmp_path, times(), rows=("random",))
    path = records_file(tmp_path, "arena")
    path.write_text(path.read_text().replace('"code": "', '"code": "0'))
    assert arena_of("arena", tmp_path).problems == [
        "random: 100 of 100 runs were played by other code"
    ]
