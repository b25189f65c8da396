"""Two searches in two environments: what is trained where, and what the report says."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from nos_repro.errors import ConfigError
from nos_repro.experiments.build import Conditions
from nos_repro.experiments.environment import Environment
from nos_repro.report.claims.evidence import Finding
from nos_repro.report.claims.judge import judge_claim
from nos_repro.report.claims.listed import find_claim
from nos_repro.report.claims.results import Results
from nos_repro.report.search.crossed import crossed_tables
from nos_repro.report.search.history import History, read_history
from nos_repro.search.crossed import crossed_runs, described
from nos_repro.search.run import confirm
from nos_repro.search.settings import Search, load_search
from nos_repro.search.side_runs import read_side_runs
from tests.report.searches import Folder
from tests.search.helpers import Instant

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
FOUR_BITS = CONFIGS / "search_4bit.yaml"


class FourBits(Folder):
    """The folder of the search with gradients of 4 bits, beside that of the plain one."""

    def __init__(self, results: Path) -> None:
        super().__init__(results)
        self.search = load_search(FOUR_BITS, scale="smoke")
        self.path = results / self.search.search / "smoke"
        self.path.mkdir(parents=True)
        (self.path / "settings.json").write_text(json.dumps(self.search.identity()))
        self.write({**json.loads((results / "search/smoke/log.jsonl").read_text())})

    def history(self) -> History:
        return read_history(FOUR_BITS, self.results, scale="smoke")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two searches that share a rule; the other's best is a rule that this one never met."""
    four = FourBits(tmp_path)
    plain = Folder.__new__(Folder)
    plain.results, plain.path, plain.numbers = tmp_path, tmp_path / "search" / "smoke", 0
    plain.search = load_search(CONFIGS / "search.yaml", scale="smoke")
    plain.sample("g m identity identity *", "healthy", 0.9)
    plain.sample("g 1 identity identity *", "healthy", 0.8)
    four.sample("sign(g) 1 identity identity *", "healthy", 0.7)
    four.sample("g 1 identity identity *", "healthy", 0.6)
    return tmp_path


def _search() -> Search:
    return load_search(FOUR_BITS, scale="smoke")


def test_every_rule_of_both_searches_and_every_baseline_trains_in_both_environments(
    results: Path,
) -> None:
    search = _search()
    folder = results / "search_4bit" / "smoke"
    trained: dict[str, set[Environment | None]] = {}

    class Watched(Instant):
        def submit(self, job):
            trained.setdefault(job.optimizer, set()).add(job.child.environment)
            super().submit(job)

    confirm(search, results, Watched(), Conditions(results))
    optimizers = {*search.baselines.values()}
    assert optimizers < trained.keys()
    assert len(trained) == len(optimizers) + 3
    assert all(places == {None, Environment(bits=4)} for places in trained.values())
    runs = [run for run, _ in read_side_runs(folder)]
    assert len({run.key for run in runs}) == len(runs) == len(trained) * 2 * search.confirm.seeds
    again = Instant()
    confirm(search, results, again, Conditions(results))
    assert not again.trained


def test_no_seed_that_chose_the_rules_of_either_search_compares_them(results: Path) -> None:
    search, folder = _search(), results / "search_4bit" / "smoke"
    settings = results / "search" / "smoke" / "settings.json"
    values = {**json.loads(settings.read_text()), "seed": search.seed + 1}
    settings.write_text(json.dumps(values))
    confirm(search, results, Instant(), Conditions(results))
    seeds = {run.seed for run, _ in read_side_runs(folder) if run.purpose != "baseline"}
    assert seeds == {search.seed + 2 + number for number in range(search.confirm.seeds)}


def test_a_child_that_differs_in_more_than_its_environment_is_refused(results: Path) -> None:
    search, folder = _search(), results / "search_4bit" / "smoke"
    other = dataclasses.replace(search, child=dataclasses.replace(search.child, epochs=9))
    with pytest.raises(ConfigError, match=r"child\.epochs: was 2, is 9"):
        crossed_runs(other, folder, {}, [1])
    same = dataclasses.replace(search, child=dataclasses.replace(search.child, environment=None))
    with pytest.raises(ConfigError, match=r"the same child\.environment"):
        crossed_runs(same, folder, {}, [1])


def test_a_search_that_is_not_there_or_is_this_one_is_refused(results: Path) -> None:
    search, folder = _search(), results / "search_4bit" / "smoke"
    nowhere = dataclasses.replace(search.confirm, against="nobody")
    with pytest.raises(ConfigError, match="nobody/smoke does not exist; run that search at scale"):
        crossed_runs(dataclasses.replace(search, confirm=nowhere), folder, {}, [1])
    itself = dataclasses.replace(search.confirm, against="search_4bit")
    with pytest.raises(ConfigError, match="name another search than search_4bit itself"):
        dataclasses.replace(search, confirm=itself)


SCORES = {
    "sign(g)": (60.0, 50.0),
    "g": (55.0, 55.0),
    "g * m": (40.0, 70.0),
    "SGD": (50.0, 51.0),
}
"""Test accuracies with 4 bits, and without."""


def confirmed(results: Path, scores: dict[str, tuple[float, float]]) -> None:
    """Writes what `--confirm` would find."""
    folder = results / "search_4bit" / "smoke"
    four = Folder.__new__(Folder)
    four.path = folder
    for name, (here, there) in scores.items():
        optimizer = "sgd" if name == "SGD" else f"rule: {name}"
        for seed in (1, 2, 3):
            purpose = "crossed" if name == "g * m" else "confirm"
            four.named(purpose, name, optimizer, seed, test_accuracy=here * (1 + (seed - 2) / 100))
            four.named(
                "crossed", name, optimizer, seed, test_accuracy=there * (1 + (seed - 2) / 70)
            )
            events = (folder / "named.jsonl").read_text().splitlines()
            last = {**json.loads(events[-1]), "where": "search"}
            (folder / "named.jsonl").write_text("\n".join([*events[:-1], json.dumps(last), ""]))


def test_the_report_says_who_found_a_rule_and_whose_best_wins_where(results: Path) -> None:
    confirmed(results, SCORES)
    history = read_history(FOUR_BITS, results, scale="smoke")
    (table,) = crossed_tables(history)
    assert [column.title for column in table.columns] == [
        "", "found by", "test, gradients of 4 bits", "test, plain gradients",
    ]  # fmt: skip
    found = {row[0].text: row[1].text for row in table.rows}
    assert found == {"sign(g)": "search_4bit", "g": "search_4bit, search", "SGD": "(baseline)",
                     "g * m": "search"}  # fmt: skip
    notes = " ".join(table.notes)
    assert (
        "With gradients of 4 bits, the best rule of search_4bit, sign(g), beats the best of"
        in notes
    )
    assert "With plain gradients, the best rule of search_4bit, sign(g), is worse than" in notes
    assert "The 2 best rules of each search have 1 in common." in notes


def judged(results: Path) -> Finding:
    (finding,) = judge_claim(find_claim("four-bit-rules"), Results(results), "smoke")
    return finding


def test_the_claim_of_four_bits_is_not_run_before_both_environments_are_trained(
    results: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert judged(results).reason.startswith("not trained in both environments yet")
    assert judged(tmp_path_factory.mktemp("nothing")).verdict == "not run"


# fmt: off
CLAIMED = [
    # sign(g), found with 4 bits   g * m, found without   verdict
    ((60.0, 50.0),                 (40.0, 70.0),          "holds"),
    ((40.0, 70.0),                 (60.0, 50.0),          "does not hold"),
    ((60.0, 50.0),                 (60.1, 50.0),          "does not hold"),
]
# fmt: on


@pytest.mark.parametrize(("ours", "theirs", "verdict"), CLAIMED)
def test_rules_found_with_four_bits_must_beat_the_others_there(
    results: Path, ours: tuple[float, float], theirs: tuple[float, float], verdict: str
) -> None:
    confirmed(results, {**SCORES, "sign(g)": ours, "g * m": theirs})
    finding = judged(results)
    assert finding.verdict == verdict
    differs, beats = finding.effects
    assert (differs.what, differs.size) == ("sign(g) is not the best rule of search", "yes")
    assert beats.value == pytest.approx(ours[0] - theirs[0])
    said = " ".join(finding.remarks)
    assert "The 2 best rules of each search have 1 in common." in said
    assert f"with plain gradients: sign(g) less g * m {ours[1] - theirs[1]:+.2f}" in said


def test_a_search_that_finds_the_same_best_rule_finds_no_other(results: Path) -> None:
    plain = Folder.__new__(Folder)
    plain.path, plain.numbers = results / "search" / "smoke", 2
    plain.sample("sign(g) 1 identity identity *", "healthy", 0.95)
    confirmed(results, SCORES)
    finding = judged(results)
    assert finding.verdict == "does not hold"
    assert finding.reason == "sign(g) is not the best rule of search: no"


def test_environments_are_described_in_a_few_words() -> None:
    assert described(None) == described({}) == "plain gradients"
    everything = Environment(bits=1, workers=4, error_feedback=True, noise=0.5)
    assert described(everything) == "scaled signs, 4 workers, error feedback, noise 0.5"
