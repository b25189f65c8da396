"""A user's own claims about the user's own studies and searches."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from nos_repro.cli import main
from nos_repro.experiments.load import load_study
from nos_repro.report.claims.kinds.base import CLAIM_TESTS, ClaimTest
from nos_repro.report.claims.results import Results
from tests.launch.study import TINY
from tests.report.records import accuracy, filled_store

ROWS = {"kind": "rows", "study": "tiny", "column": "best_test",
       "ours": ["PowerSign"], "theirs": ["drops"]}  # fmt: skip
CLAIM = {"id": "better", "says": "PowerSign is better than drops.", "where": "my notes, p. 3",
        "test": ROWS}  # fmt: skip


class Own:
    def __init__(self, folder: Path) -> None:
        self.study, self.results = folder / "tiny.yaml", folder / "results"
        self.list, self.pages = folder / "mine.yaml", folder / "pages"
        scales = {"paper": {}, "medium": {"selection": {"repeats": 5}}}
        self.study.write_text(yaml.safe_dump({**TINY, "scales": scales}))
        study = load_study(self.study, scale="medium")
        filled_store(study, self.results, self._ending)
        self.write(CLAIM)

    @staticmethod
    def _ending(trial: Any) -> dict[str, Any]:
        better = 5.0 if trial.optimizer.startswith("powersign") else 0.0
        return accuracy(40.0, 50 + better + trial.seed % 3 - (0.1 if trial.lr == 0.05 else 0.0))

    def write(self, *claims: Any) -> None:
        self.list.write_text(yaml.safe_dump(list(claims)))

    def judge(self, *words: str) -> int:
        given = ["--file", str(self.list), str(self.study), "--results", str(self.results)]
        return main(["claims", *words, *given])


@pytest.fixture
def own(tmp_path: Path) -> Own:
    return Own(tmp_path)


def test_own_claims_are_judged_instead_of_the_papers(own: Own, capsys) -> None:
    assert own.judge() == 0
    printed = capsys.readouterr().out
    assert printed.startswith("What mine.yaml claims, and what the records say of it\n1 claim. ")
    assert "medium better" in printed
    assert "my notes, p. 3" in printed


def test_one_of_them_is_shown_in_full(own: Own, capsys) -> None:
    assert own.judge("better") == 0
    assert "PowerSign against drops" in capsys.readouterr().out
    assert own.judge("bettr") == 2
    assert "unknown claim 'bettr'\n  did you mean 'better'?" in capsys.readouterr().err


def test_a_claim_needs_no_place_and_may_be_untested(own: Own, capsys) -> None:
    own.write({"id": "later", "says": "It scales.", "untested": "we have no cluster"})
    assert own.judge() == 0
    assert "we have no cluster" in capsys.readouterr().out


def test_a_scale_is_chosen_among_those_of_the_files(own: Own, capsys) -> None:
    assert own.judge("--scale", "medium") == 0
    assert own.judge("--scale", "medum") == 2
    assert "did you mean 'medium'" in capsys.readouterr().err


def test_a_study_that_names_no_columns_has_the_usual_ones(own: Own, capsys) -> None:
    without = {key: value for key, value in TINY.items() if key != "columns"}
    own.study.write_text(yaml.safe_dump({**without, "scales": {"medium": {}}}))
    assert own.judge() == 0, capsys.readouterr().err
    own.write(changed(column="final_tset"))
    assert own.judge() == 2
    assert "one of: best_test best_val" in capsys.readouterr().err


def test_records_at_smoke_alone_are_mentioned(own: Own, capsys) -> None:
    own.study.write_text(yaml.safe_dump({**TINY, "scales": {"paper": {}, "smoke": {}}}))
    filled_store(load_study(own.study, scale="smoke"), own.results, own._ending)
    assert own.judge() == 0
    assert "no record of tiny but at smoke" in capsys.readouterr().out


def test_a_claim_may_be_about_your_own_search(own: Own, tmp_path: Path, capsys) -> None:
    search = tmp_path / "mine_too.yaml"
    search.write_text("{base: search, search: mine_too, algorithm: random}")
    own.write({**CLAIM, "test": {"kind": "search_rises", "search": "mine_too", "what": "best"}})
    assert own.judge(str(search)) == 0
    assert "no record of mine_too" in capsys.readouterr().out
    assert own.judge() == 2
    assert "unknown search 'mine_too'" in capsys.readouterr().err


def test_the_index_and_the_page_of_the_study_show_them(own: Own, capsys) -> None:
    words = ["report", "--all", str(own.study), "--claims", str(own.list), "--write"]
    assert main([*words, "--html", str(own.pages), "--results", str(own.results)]) == 0
    for page in ("index.html", "tiny-medium.html"):
        assert "PowerSign is better than drops." in (own.pages / page).read_text()
    index = (own.pages / "index.html").read_text()
    assert "report --all tiny.yaml --claims mine.yaml" in index
    assert "PowerSign is better than drops" not in (own.results / "claims.md").read_text()
    own.write({**CLAIM, "id": "one-iteration"})
    assert main([*words, "--results", str(own.results)]) == 2
    assert "the papers' list has one of that name" in capsys.readouterr().err


def test_a_scale_or_a_row_that_a_study_lacks_leaves_a_claim_not_run(own: Own, capsys) -> None:
    scales = {"paper": {}, "medium": {"rows": {"drops": None}}}
    own.study.write_text(yaml.safe_dump({**TINY, "scales": scales}))
    assert own.judge() == 0
    assert "tiny leaves out drops at this scale" in capsys.readouterr().out
    rates = {"kind": "rates", "study": "tiny", "against": "table2", "expect": "larger",
            "pairs": [["PowerSign", "SGD (cosine)"]]}  # fmt: skip
    own.write({**CLAIM, "test": rates})
    assert own.judge() == 0
    assert "table2 has no scale medium" in capsys.readouterr().out


def test_what_needs_no_record_needs_no_scale_of_the_paper(own: Own, capsys) -> None:
    own.study.write_text(yaml.safe_dump({**TINY, "scales": {"medium": {}}}))
    own.write({**CLAIM, "test": {"kind": "memory", "study": "tiny",
                                "ours": ["drops"], "theirs": ["PowerSign"]}})  # fmt: skip
    assert own.judge() == 0
    assert "PowerSign keeps 1" in capsys.readouterr().out


def changed(**test: Any) -> dict[str, Any]:
    return {**CLAIM, "test": {**ROWS, **test}}


def with_test(**test: Any) -> dict[str, Any]:
    return {**CLAIM, "test": test}


def placed(**place: Any) -> dict[str, Any]:
    return {**CLAIM, "where": [place]}


BARE = {key: value for key, value in CLAIM.items() if key != "test"}
# fmt: off
WRONG = {
   "a study misspelt":    (changed(study="tinny"),     "unknown study 'tinny'", "tiny"),
   "a search as a study": (changed(study="search"),    "unknown study 'search'", ""),
   "a row misspelt":      (changed(ours=["PowrSign"]), "row of tiny: 'PowrSign'", "PowerSign"),
   "a column misspelt":   (changed(column="best_tset"), "column of tiny: 'best_tset'", "best_test"),
   "no column":           (changed(column=""),         "test: no column", ""),
   "a kind misspelt":     (changed(kind="row"),        "claim test 'row'", "rows"),
   "no kind":             (with_test(),                   "say which kind; one of: ", ""),
   "a key misspelt":      (changed(colum="best_test"), "test: unknown key 'colum'", "column"),
   "a key missing":       (with_test(kind="rates", study="tiny"), "no expect", ""),
   "a choice misspelt":   (changed(expect="beter"),    "unknown choice 'beter'", "better"),
   "a text for a list":   (changed(ours="drops"),      "expected a list of at least one", ""),
   "a text for a number": (changed(margin="much"),     "margin: expected a number", ""),
   "a pair of one":       (changed(pairs=[["drops"]]), "pairs of two rows", ""),
   "no rows":             (changed(ours=[]),           "expected a list of at least one", ""),
   "a baseline misspelt": (
        with_test(kind="search_beats", search="search", baselines=["SGDD"]),
       "baseline of search: 'SGDD'", "SGD",
    ),
   "a rule misspelt": (
        with_test(kind="tokens", rules=["sgn(g)"], iterations=1), "claim better.test: ", "sign",
    ),
   "a key of the claim":  ({**CLAIM, "sayz": "x"}, "claim better: unknown key 'sayz'", "says"),
   "no id":               ({"says": "x."},         "a mapping with the texts id, says", ""),
   "half a place":        (placed(paper="002"),    "where: no section", ""),
   "a paper as a number": (placed(paper=2, section="3"), "paper: expected a text, got 2", ""),
   "neither":             (BARE,                   "a test or the reason for none", ""),
}
# fmt: on


@pytest.mark.parametrize(("claim", "words", "nearest"), WRONG.values(), ids=WRONG)
def test_a_typing_error_names_the_file_the_claim_and_the_nearest_spelling(
    own: Own, claim: dict[str, Any], words: str, nearest: str, capsys
) -> None:
    own.write(claim)
    assert own.judge() == 2
    said = capsys.readouterr().err
    assert "mine.yaml: " in said
    assert words in said
    assert not nearest or f"did you mean '{nearest}'?" in said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "not valid YAML"),
        ("id: x", "not a list of claims"),
        ("[3]", "claim 3: expected a mapping"),
        (
            "[{id: a, says: b, untested: c}, {id: a, says: b, untested: c}]",
            "claim a is there twice",
        ),
    ],
)
def test_a_file_that_is_not_a_list_of_claims_is_one_error(
    own: Own, text: str, words: str, capsys
) -> None:
    own.list.write_text(text)
    assert own.judge() == 2
    assert words in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no such device")
def test_a_file_without_end_is_one_error(capsys) -> None:
    assert main(["claims", "--file", "/dev/zero"]) == 2
    said = "error: /dev/zero: longer than 67,108,864 characters; is it the right file?\n"
    assert capsys.readouterr().err == said


def test_a_missing_file_is_one_error(own: Own, capsys) -> None:
    own.list.unlink()
    assert own.judge() == 2
    assert "mine.yaml: cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["claims", "mine.yaml"], "CONFIG is for the claims of --file"),
        (["claims", "one", "two"], "one CLAIM at a time"),
        (["report", "table2", "--claims", "x.yaml"], "--claims is for --all"),
    ],
)
def test_words_that_do_not_go_together_are_a_mistake(words, complaint, capsys) -> None:
    assert main(words) == 2
    assert complaint in capsys.readouterr().err


def test_a_test_that_finds_nothing_is_one_error(own: Own, capsys) -> None:
    @CLAIM_TESTS.register("finds_nothing")
    @dataclass(frozen=True)
    class FindsNothing(ClaimTest):
        def judge(self, found: Results, scale: str) -> Any:
            return None

    own.write({**CLAIM, "test": {"kind": "finds_nothing"}})
    assert own.judge() == 2
    assert "FindsNothing: judge must return a Finding, got None" in capsys.readouterr().err
