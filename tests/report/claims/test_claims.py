"""What is claimed, and how it is tested: made-up records of known truth, scipy for the p's."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from nos_repro.errors import ConfigError
from nos_repro.experiments.schema import Row, Selection, Study
from nos_repro.experiments.selection import outcomes
from nos_repro.experiments.settings_file import find_config, read_values
from nos_repro.experiments.trial import Trial
from nos_repro.report.claims.evidence import (
    Bounds,
    Effect,
    Finding,
    every,
    paired,
    single,
    some,
)
from nos_repro.report.claims.hypergeometric import enrichment
from nos_repro.report.claims.judge import Judged, judge_claim, judge_claims
from nos_repro.report.claims.kinds.agree import AgreeTest
from nos_repro.report.claims.kinds.rows import RowsTest
from nos_repro.report.claims.kinds.search import BeatsTest, RisesTest, SharesTest
from nos_repro.report.claims.kinds.study import MemoryTest, RatesTest
from nos_repro.report.claims.listed import Claim, Place, beyond, claims, find_claim, read_claim
from nos_repro.report.claims.page import claim_tables, claims_file, claims_tables, claims_text
from nos_repro.report.claims.ranks import predicts
from nos_repro.report.claims.results import Results, Rows
from nos_repro.report.claims.scores import near_peak
from tests.experiments.helpers import digits_study
from tests.report.records import accuracy, filled_store
from tests.report.searches import Folder

Value = Callable[[Trial], "dict[str, Any] | None"]
NAMES = {"ours": "powersign", "theirs": "sgd", "third": "adam"}
BETTER = Bounds("better", tolerance=0.5)


# ---- the list


def test_every_claim_has_a_name_a_place_and_a_test_or_a_reason() -> None:
    listed = (*claims(), *beyond())
    assert len({claim.id for claim in listed}) == len(listed)
    assert len(claims()) == 49
    for claim in listed:
        assert claim.says.endswith(".")
        assert claim.where
        assert (claim.test is None) == bool(claim.untested)
        for place in claim.where:
            assert place.paper in ("000", "002")
            assert (place.page is not None) == (place.paper == "000"), claim.id


@pytest.mark.parametrize("claim", [*claims(), *beyond()], ids=lambda claim: claim.id)
def test_a_claim_names_only_studies_and_rows_that_exist(claim: Claim) -> None:
    if claim.test is None:
        return
    if claim.test.source:
        assert find_config(claim.test.source).is_file()
    for study, row in claim.test.named():
        assert row in read_values(find_config(study))["rows"], (study, row)
    column = getattr(claim.test, "column", "")
    if column:
        assert column in read_values(find_config(claim.test.source))["columns"]


def test_a_typing_error_in_the_list_is_an_error_with_the_nearest_spelling() -> None:
    entry: dict[str, Any] = {"id": "x", "says": "y.", "where": [{"paper": "002", "section": "1"}]}
    with pytest.raises(ConfigError, match="did you mean 'rows'"):
        read_claim({**entry, "test": {"kind": "row"}})
    with pytest.raises(ConfigError, match="did you mean 'column'"):
        read_claim({**entry, "test": {"kind": "rows", "study": "table1", "colum": "best_test"}})
    with pytest.raises(ConfigError, match="either a test or the reason"):
        read_claim(entry)
    with pytest.raises(ConfigError, match="did you mean 'rosenbrock-better'"):
        find_claim("rosenbrok-better")


# ---- the arithmetic


def test_p_values_are_those_of_paired_t_tests() -> None:
    source = np.random.default_rng(3)
    ours, theirs = source.normal(60.4, 1, 6), source.normal(60, 1, 6)
    effect = paired("", dict(enumerate(ours)), dict(enumerate(theirs)), BETTER, "")
    assert effect.p_for == pytest.approx(
        stats.ttest_rel(ours, theirs, alternative="greater").pvalue
    )
    less = stats.ttest_rel(ours, theirs + BETTER.tolerance, alternative="less")
    assert effect.p_against == pytest.approx(less.pvalue)
    interval = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    assert (effect.low, effect.high) == pytest.approx((interval.low, interval.high))


@pytest.mark.parametrize(("combine", "pairs"), [(every, 1), (every, 3), (some, 3)])
@pytest.mark.parametrize("n", [2, 5])
def test_at_most_one_verdict_in_forty_is_wrong(combine: Any, pairs: int, n: int) -> None:
    draws = 1500
    noise = 4 * np.sqrt(0.025 * 0.975 / draws)

    def share(verdict: str, *gaps: float) -> float:
        source = np.random.default_rng(7)
        said = 0
        for _ in range(draws):
            theirs = dict(enumerate(source.normal(60, 0.3, n)))
            parts = [
                single(paired("", dict(enumerate(source.normal(60 + gap, 0.3, n))), theirs,
                              BETTER, ""))
                for gap in gaps
            ]  # fmt: skip
            said += combine(parts).verdict == verdict
        return said / draws

    others = [9.0] * (pairs - 1) if combine is every else [0.0] * (pairs - 1)
    assert share("holds", 0.0, *others) <= 0.025 + noise
    at_tolerance = [BETTER.tolerance] * pairs
    assert share("does not hold", *at_tolerance) <= 0.025 + noise


def test_what_is_expected_decides_what_a_difference_means() -> None:
    level, not_worse = Bounds("level", 0.5), Bounds("not worse", 0.5)
    much = Bounds("better", 0.5, margin=2.0)

    def verdict(bounds: Bounds, *differences: float) -> str:
        scores = dict(enumerate(differences))
        return single(paired("", scores, dict.fromkeys(scores, 0.0), bounds, "")).verdict

    assert verdict(level, 0.1, -0.1, 0.05) == "holds"
    assert verdict(level, 1.1, 1.2, 1.15) == "does not hold"
    assert verdict(level, 1.0, -1.0, 0.4) == "undecided"
    assert verdict(not_worse, 5.0, 5.1, 4.9) == "holds"
    assert verdict(not_worse, -5.0, -5.1, -4.9) == "does not hold"
    assert verdict(BETTER, 0.2, 0.21, 0.2) == "holds"
    assert verdict(BETTER, 0.0, 0.01, -0.01) == "does not hold"
    assert verdict(much, 1.0, 1.1, 1.05) == "does not hold"
    assert verdict(much, 3.0, 3.1, 3.05) == "holds"


def test_runs_without_a_result_are_losses_and_equal_runs_prove_nothing() -> None:
    def effect(ours: list[float | None], theirs: list[float | None]) -> Effect:
        return paired("", dict(enumerate(ours)), dict(enumerate(theirs)), BETTER, "")

    assert single(effect([None, None], [1.0, 2.0])).verdict == "does not hold"
    assert single(effect([1.0, 2.0], [None, None])).verdict == "holds"
    assert single(effect([90.0, 90.1, None], [1.0, 1.1, 1.2])).verdict == "undecided"
    assert single(effect([60.0, 60.0], [50.0, 50.0])).verdict == "undecided"
    assert single(effect([60.0], [50.0])).verdict == "undecided"


def test_a_rank_correlation_is_spearmans_and_its_p_a_permutations() -> None:
    early = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    late = [10.0, 30.0, 20.0, 40.0, 60.0, 50.0]
    effect = predicts("", early, late)
    assert effect.value == pytest.approx(stats.spearmanr(early, late).statistic)

    def statistic(x: Any) -> Any:
        return stats.spearmanr(x, late).statistic

    exact = stats.permutation_test(
        (early,), statistic, permutation_type="pairings", alternative="greater", n_resamples=np.inf
    )
    assert effect.p_for == pytest.approx(exact.pvalue)
    backwards = predicts("", list(range(12)), list(range(12, 0, -1)))
    assert single(backwards).verdict == "does not hold"
    assert predicts("", [1.0, 1.0, 2.0, 3.0], [5.0, 6.0, 7.0, 8.0]).value == pytest.approx(
        stats.spearmanr([1.0, 1.0, 2.0, 3.0], [5.0, 6.0, 7.0, 8.0]).statistic
    )


def test_enrichment_is_the_hypergeometric_tail() -> None:
    for seen, best, have, total in ((3, 10, 8, 120), (0, 5, 5, 50), (5, 5, 6, 40)):
        expected = stats.hypergeom.sf(seen - 1, total, have, best)
        assert enrichment(seen, best, have, total) == pytest.approx(expected)


# ---- rows of a study


class Made(Results):
    """One study with made-up records, under any requested name."""

    def __init__(self, study: Study, results: Path, value: Value) -> None:
        super().__init__(results)
        self.made = (
            study,
            {row.name: row for row in outcomes(study, filled_store(study, results, value))},
        )

    def study(self, name: str, scale: str) -> tuple[Study, Rows]:
        return self.made

    def declared(self, name: str) -> Study:
        return self.made[0]


def small(repeats: int = 5, **rates: list[float]) -> Study:
    """Three rows with a grid each, [0.01, 0.03, 0.1] where nothing else is given."""
    rows = {
        name: Row(optimizer, sweep={"lr": rates.get(name, [0.01, 0.03, 0.1])},
                  paper={"best_test": {"ours": 95.4, "theirs": 95.0, "third": 93.9}[name]})
        for name, optimizer in NAMES.items()
    }  # fmt: skip
    return digits_study(rows, selection=Selection(repeats=repeats), scale="small")


def scored(best_lr: float = 0.03, **means: float) -> Value:
    """Test accuracies around a mean a row, whose noise is the seed's; ``best_lr`` wins."""
    noise = [0.0, 0.11, -0.2, 0.05, 0.17, -0.13]
    by_optimizer = {NAMES[name]: mean for name, mean in means.items()}

    def value(trial: Trial) -> dict[str, Any]:
        own = 0.02 * len(trial.optimizer) * (trial.seed % 2)
        if trial.seed == 0:
            return accuracy(50.0 - abs(trial.lr - best_lr))
        return accuracy(by_optimizer.get(trial.optimizer, 60.0) + noise[trial.seed] + own)

    return value


OURS = RowsTest("made", column="best_test", ours=["ours"], theirs=["theirs"])


def finding(test: Any, study: Study, results: Path, value: Value) -> Finding:
    found: Finding = test.judge(Made(study, results, value), study.scale)
    return found


def test_only_the_records_decide_whether_a_claim_holds(tmp_path: Path) -> None:
    better = finding(OURS, small(), tmp_path / "a", scored(ours=62.0, theirs=60.0))
    assert better.verdict == "holds"
    assert "equal tuning budgets: 3 points per row" in better.remarks
    assert any("paper's own numbers: so" in remark for remark in better.remarks)
    assert better.effects[0].paper == pytest.approx(0.4)
    assert better.effects[0].n == 5
    worse = finding(OURS, small(), tmp_path / "b", scored(ours=58.0, theirs=60.0))
    assert worse.verdict == "does not hold"
    one = finding(OURS, small(repeats=1), tmp_path / "c", scored(ours=62.0, theirs=60.0))
    assert (one.verdict, "one run" in one.reason) == ("undecided", True)


def test_a_row_that_is_not_complete_leaves_the_claim_not_run(tmp_path: Path) -> None:
    value = scored()
    found = finding(
        OURS, small(), tmp_path,
        lambda t: None if t.optimizer == "sgd" and t.seed == 3 else value(t),
    )  # fmt: skip
    assert found.verdict == "not run"
    assert "1 of 2 rows" in found.reason


def test_no_row_wins_by_a_larger_budget(tmp_path: Path) -> None:
    wide = [0.003, 0.01, 0.03, 0.1, 0.3]
    ours_more = small(ours=wide)
    won = finding(OURS, ours_more, tmp_path / "a", scored(ours=62.0))
    assert won.verdict == "undecided"
    assert "5 against 3 points" in won.reason
    assert finding(OURS, ours_more, tmp_path / "b", scored(ours=58.0)).verdict == "does not hold"
    theirs_more = small(theirs=wide)
    assert finding(OURS, theirs_more, tmp_path / "c", scored(ours=62.0)).verdict == "holds"
    assert finding(OURS, theirs_more, tmp_path / "d", scored(ours=58.0)).verdict == "undecided"
    papers = dataclasses.replace(ours_more, scale="paper")
    assert finding(OURS, papers, tmp_path / "e", scored(ours=62.0)).verdict == "holds"


def test_no_row_loses_by_a_rate_at_the_edge_of_its_grid(tmp_path: Path) -> None:
    theirs_edged = small(theirs=[0.001, 0.003, 0.03])
    assert finding(OURS, theirs_edged, tmp_path / "a", scored(ours=62.0)).verdict == "undecided"
    assert finding(OURS, theirs_edged, tmp_path / "b", scored(ours=58.0)).verdict == "does not hold"
    ours_edged = small(ours=[0.001, 0.003, 0.03])
    assert finding(OURS, ours_edged, tmp_path / "c", scored(ours=62.0)).verdict == "holds"
    assert finding(OURS, ours_edged, tmp_path / "d", scored(ours=58.0)).verdict == "undecided"


def test_every_some_and_the_mean_are_three_claims(tmp_path: Path) -> None:
    values = scored(ours=62.0, theirs=60.0, third=62.0)
    both = dataclasses.replace(OURS, ours=["ours", "third"])
    each = dataclasses.replace(OURS, theirs=["theirs", "third"])
    assert finding(both, small(), tmp_path / "a", values).verdict == "holds"
    assert finding(each, small(), tmp_path / "b", values).verdict != "holds"
    any_of = dataclasses.replace(both, ours=["third", "ours"], which="some")
    assert finding(any_of, small(), tmp_path / "c", values).verdict == "holds"
    mean = dataclasses.replace(each, which="mean")
    found = finding(mean, small(), tmp_path / "d", values)
    assert found.verdict == "holds"
    assert found.effects[0].value == pytest.approx(1.0, abs=0.2)


def test_on_par_with_less_memory_asks_for_both(tmp_path: Path) -> None:
    def judged(folder: str, ours: str, theirs: str, mean: float) -> Finding:
        rows = {name: Row(text, sweep={"lr": [0.01, 0.03, 0.1]})
                for name, text in {"ours": ours, "theirs": theirs}.items()}  # fmt: skip
        study = digits_study(rows, selection=Selection(repeats=5), scale="small")

        def value(trial: Trial) -> dict[str, Any]:
            if trial.seed == 0:
                return accuracy(50.0 - abs(trial.lr - 0.03))
            own = mean + 0.1 * (trial.seed % 3)
            return accuracy(own if trial.optimizer == ours else 60.0)

        test = dataclasses.replace(OURS, expect="not worse", fewer_averages=True)
        return finding(test, study, tmp_path / folder, value)

    lean = judged("a", "sgd", "adam", 60.2)
    assert lean.verdict == "holds"
    assert "values per parameter: ours keeps 0, theirs keeps 2" in lean.remarks
    assert judged("b", "sgd", "adam", 50.0).verdict == "does not hold"
    as_large = judged("c", "powersign", "rmsprop", 62.0)
    assert as_large.verdict == "does not hold"
    assert "memory of ours against theirs: +0 values per parameter" in as_large.reason


def test_speed_is_the_share_of_training_saved_to_a_value_that_both_reach(tmp_path: Path) -> None:
    def curves(trial: Trial) -> dict[str, Any]:
        if not trial.seed:
            return accuracy(50.0 - abs(trial.lr - 0.03))
        quick, slow = [10, 58, 59, 60, 60, 60, 60, 60], [10, 20, 30, 40, 50, 55, 60, 61]
        return accuracy(*map(float, quick if trial.optimizer == "powersign" else slow))

    study = dataclasses.replace(small(), training=dataclasses.replace(small().training, epochs=8))
    test = dataclasses.replace(OURS, measure="speed", column="")
    found = finding(test, study, tmp_path, curves)
    assert found.effects[0].value == pytest.approx((7 - 4) / 8)
    assert found.verdict == "holds"
    few = dataclasses.replace(study, selection=Selection(repeats=2))
    assert finding(test, few, tmp_path / "few", curves).verdict == "undecided"


def test_rates_are_compared_by_a_sign_test_without_those_at_an_edge(tmp_path: Path) -> None:
    names = [f"{side}{n}" for n in range(7) for side in "ab"]
    grid = [0.01, 0.03, 0.1, 0.3, 1.0]
    rows = {
        name: Row(f"rule: g * {2 + number}", sweep={"lr": grid})
        for number, name in enumerate(names)
    }
    study = digits_study(rows, scale="small")

    def value(trial: Trial) -> dict[str, Any]:
        number = int(trial.optimizer.rpartition(" ")[2]) - 2
        best = (0.03 if number % 2 else 0.1) if number > 1 else 1.0
        return accuracy(50.0 - abs(trial.lr - best))

    test = RatesTest("made", "larger", [(f"a{n}", f"b{n}") for n in range(7)])
    found = finding(test, study, tmp_path, value)
    p = stats.binomtest(6, 6, 0.5, alternative="greater").pvalue
    assert f"6 of 6 pairs (sign test, one-sided p = {p:.3f})" in found.reason
    assert found.verdict == "holds"
    assert "1 of 7 pairs" in found.remarks[0]
    near = RatesTest("made", "near", [("a3", "b3"), ("a4", "b4")])
    assert near.judge(Made(study, tmp_path, value), "small").verdict == "does not hold"


def test_memory_is_counted_on_the_optimizers(tmp_path: Path) -> None:
    made = Made(small(), tmp_path, lambda t: None)
    assert MemoryTest("made", ["ours"], ["third"]).judge(made, "any").verdict == "holds"
    assert MemoryTest("made", ["ours"], ["theirs"]).judge(made, "any").verdict == "does not hold"


# ---- searches


def test_a_search_is_judged_by_its_log(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    with_signs = "sign(g) sign(m) identity identity *"
    folder.fill(300, lambda source, n, rule: ("healthy", 0.1 + 0.001 * n + source.random() / 50))
    folder.sample(with_signs, "healthy", 0.9)
    found = Results(tmp_path)
    assert RisesTest("search", "mean").judge(found, "smoke").verdict == "holds"
    assert RisesTest("search", "best").judge(found, "smoke").verdict == "holds"
    few = SharesTest("search", "exp(log(gamma))", 2).judge(found, "smoke")
    assert few.effects[0].value == 0
    assert few.verdict == "undecided"
    assert BeatsTest("search", ["SGD"]).judge(found, "smoke").verdict == "not run"


def test_a_found_rule_has_to_beat_every_baseline_on_fresh_seeds(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.sample("g g identity identity keep_left", "healthy", 0.9)
    for name, optimizer in (("SGD", "sgd"), ("Adam", "adam")):
        folder.named("baseline", name, optimizer, reward=0.5)
    for seed in range(1, 6):
        base = 60 + 0.1 * (seed % 3)
        folder.named("confirm", "g", "rule: g", seed, test_accuracy=base + 2 + 0.05 * seed)
        folder.named("confirm", "SGD", "sgd", seed, test_accuracy=base)
        folder.named("confirm", "Adam", "adam", seed, test_accuracy=base + 2)
    found = Results(tmp_path)
    assert BeatsTest("search", ["SGD"]).judge(found, "smoke").verdict == "holds"
    assert BeatsTest("search", ["SGD", "Adam"]).judge(found, "smoke").effects[1].n == 5
    missing = BeatsTest("search", ["SGD", "RMSProp"]).judge(found, "smoke")
    assert missing.verdict == "not run"
    for seed, lost in zip(range(1, 6), (True, False, True, False, False), strict=True):
        values = {"status": "diverged"} if lost else {"test_accuracy": 40.0 + seed}
        folder.named("confirm", "RMSProp", "rmsprop-tf", seed, **values)
    far = BeatsTest("search", ["RMSProp", "SGD"]).judge(Results(tmp_path), "smoke")
    assert far.reason.startswith("the closest: g against SGD: +2"), "not the one with lost runs"


# ---- what is printed


def test_an_empty_results_folder_says_not_run_and_the_exact_claims_still_hold(
    tmp_path: Path,
) -> None:
    judged = judge_claims(Results(tmp_path))
    by_id = {each.claim.id: each.findings[0].verdict for each in judged}
    assert by_id["rosenbrock-better"] == "not run"
    assert by_id["ppo-fewer-samples"] == "not run"
    assert by_id["one-average"] == by_id["one-iteration"] == by_id["decayed-is-sgd"] == "holds"
    assert by_id["search-space-sizes"] == "cannot be tested here"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["one-average", "one-iteration", "decayed-is-sgd"])
def test_what_is_counted_has_no_n_and_no_p(tmp_path: Path, name: str) -> None:
    (claim,) = [claim for claim in claims() if claim.id == name]
    (finding,) = judge_claim(claim, Results(tmp_path))
    assert all(effect.exact for effect in finding.effects)
    assert "n = " not in " ".join([finding.reason, *map(str, finding.effects)])
    table = claim_tables(Judged(claim, [finding]))[1]
    titles = [column.title for column in table.columns]
    for row in table.rows:
        shown = dict(zip(titles, (cell.text for cell in row), strict=True))
        assert {shown[title] for title in ("95 %", "n", "p for", "p against")} == {"-"}
        assert shown["effect"] != "-"


def test_a_run_that_draws_no_random_numbers_is_compared_exactly() -> None:
    exact = paired("a against b", {0: 1.5}, {0: 0.5}, Bounds("better", 0.1), "mm", exact=True)
    assert (exact.exact, str(exact)) == (True, "a against b: +1 mm")
    once = paired("a against b", {0: 1.5}, {0: 0.5}, Bounds("better", 0.1), "mm")
    assert (once.exact, str(once)) == (False, "a against b: +1 mm (n = 1)")


def test_what_is_printed_is_harmless_whatever_it_says() -> None:
    evil = "<script>x</script> $(reboot) `id` \\input{/etc/passwd} | \x1b[31m %"
    effect = Effect(evil, 1.0, 0.5, 1.5, 3, "points", 0.01, 1.0, 0.3, evil)
    claim = Claim("evil", evil, (Place("002", "1", at=evil),), None, "x")
    judged = [Judged(claim, [Finding("small", "holds", evil, [effect], [evil])])]
    for table in (*claims_tables(judged, judged), *claim_tables(judged[0])):
        assert "<script>" not in table.markdown()
        assert "\\input" not in table.latex()
        assert "\x1b" not in table.text()
    assert "\x1b" not in claims_text(judged, judged)
    assert b"<script>" not in claims_file(judged, judged)


# ---- rows of several studies, and peaks


class Several(Results):
    """Studies with made-up records, by name."""

    def __init__(self, made: dict[str, Made]) -> None:
        super().__init__(Path())
        self.several = made

    def study(self, name: str, scale: str) -> tuple[Study, Rows]:
        return self.several[name].made


RULES = {"a": "sgd", "b": "momentum", "c": "adam", "d": "powersign", "e": "addsign"}


def ordered(tmp_path: Path, name: str, order: str) -> Made:
    """The rules from the worst to the best; ``-`` before one that diverges."""
    rows = {rule: Row(optimizer) for rule, optimizer in RULES.items()}
    study = digits_study(rows, study=name, selection=Selection(repeats=1), sweep={"lr": [0.1]})
    worth = {RULES[rule]: 50.0 + 2 * place for place, rule in enumerate(order)}
    return Made(study, tmp_path / name, lambda trial: accuracy(worth[trial.optimizer]))


@pytest.mark.parametrize(
    ("orders", "verdict"),
    [(("abcde", "abcde"), "holds"), (("abcde", "abdce"), "undecided"),
     (("edcba", "abcde"), "does not hold")],
)  # fmt: skip
def test_rules_that_two_studies_order_alike_agree(
    orders: tuple[str, str], verdict: str, tmp_path: Path
) -> None:
    made = {
        "long": ordered(tmp_path, "long", "abcde"),
        **{f"other{n}": ordered(tmp_path, f"other{n}", order) for n, order in enumerate(orders)},
    }
    test = AgreeTest("long", "best_test", ["other0", "other1"], list(RULES))
    found = test.judge(Several(made), "small")
    assert found.verdict == verdict
    for effect, order in zip(found.effects, orders, strict=True):
        places = [order.index(rule) for rule in RULES]
        expected = stats.spearmanr(range(5), places).statistic
        assert effect.value == pytest.approx(expected)
    assert {study for study, _ in test.named()} == {"long", "other0", "other1"}
    with pytest.raises(ConfigError, match="fewer than 4"):
        AgreeTest("long", "best_test", ["other0"], ["a", "b"])


def test_the_mean_near_the_peak_is_over_five_measurements(tmp_path: Path) -> None:
    rises = [10.0, 20.0, 30.0, 31.0, 33.0, 32.0, 30.0, 28.0]

    def record(values: list[float | None]) -> Any:
        points = [
            {"epoch": n, "val_loss": 1.0, **({} if value is None else {"val_bleu": value})}
            for n, value in enumerate(values, 1)
        ]
        return SimpleNamespace(metrics=points)

    column = "final_val_bleu"
    assert near_peak(record(rises), column) == pytest.approx(np.mean(rises[2:7]))
    assert near_peak(record([1.0, 2.0, None, 3.0]), column) == 2.0
    assert near_peak(record(sorted(rises)), column) == pytest.approx(np.mean(sorted(rises)[3:]))
    assert math.isnan(near_peak(record([None, None]), column))
