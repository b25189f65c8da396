"""`--format json`: every verb prints a document of the one schema, which jsonschema checks."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from nos_repro.cli import main
from nos_repro.report.documents.base import document, plain_data, schema, written
from nos_repro.report.documents.search import search_document
from nos_repro.report.documents.status import search_status_document
from nos_repro.rules.simplest import simplest_text
from nos_repro.search.side_runs import race_order
from tests.report.searches import Folder

CHECKS = Draft202012Validator(schema())


def printed(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> dict[str, Any]:
    """The document that a verb prints, checked against the schema."""
    assert main([*words, "--format", "json"]) == status
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    own = Draft202012Validator({"$ref": f"#/$defs/{found['kind']}", "$defs": schema()["$defs"]})
    assert [error.message for error in own.iter_errors(found)] == []
    CHECKS.validate(found)
    return found


def test_the_schema_is_one_and_describes_every_kind_by_its_name() -> None:
    Draft202012Validator.check_schema(schema())
    kinds = [choice["$ref"].removeprefix("#/$defs/") for choice in schema()["oneOf"]]
    for kind in kinds:
        assert schema()["$defs"][kind]["properties"]["kind"] == {"const": kind}
        assert "--format json" in schema()["$defs"][kind]["description"]


STUDY = ("table2", "--scale", "small", "--results")
SEARCH = ("search", "--scale", "small", "--results")


def test_a_study_is_printed_with_its_numbers_and_those_of_the_paper(
    capsys: pytest.CaptureFixture[str], committed: Path
) -> None:
    found = printed(capsys, "report", *STUDY, str(committed))
    assert (found["kind"], found["study"], found["scale"]) == ("study", "table2", "small")
    row = next(row for row in found["rows"] if row["row"] == "PowerSign (cosine)")
    cell = row["cells"]["best_test"]
    assert cell["text"] == f"{cell['ours']['mean']:.2f} ± {cell['ours']['std']:.2f} (2)"
    assert cell["paper"] == cell["verdict"]["paper"]
    assert cell["verdict"]["verdict"] == "not comparable (scale)"
    assert len(row["trials"]) == cell["ours"]["n"] == 2
    verdicts = printed(capsys, "verdicts", *STUDY, str(committed))
    assert sum(verdicts["counts"].values()) == len(verdicts["verdicts"])
    assert cell["verdict"] in verdicts["verdicts"]


def test_a_table_of_rules_is_printed_with_its_numbers(
    capsys: pytest.CaptureFixture[str], committed: Path
) -> None:
    found = printed(capsys, "report", "configs/nosbench/signs.yaml", "--results", str(committed))
    assert (found["kind"], found["table"], found["strings"]) == ("nosbench", "signs", 19_200)
    assert found["rules"] == 1_219
    for task in found["tasks"]:
        assert task["rows"] == sum(task["statuses"].values())
        rewards = [rule["reward"] for rule in task["best"]]
        assert rewards == sorted(rewards, reverse=True)


def test_why_names_the_trials_and_marks_what_was_chosen(
    capsys: pytest.CaptureFixture[str], committed: Path
) -> None:
    where = ("--scale", "small", "--results", str(committed))
    found = printed(capsys, "why", "table2:PowerSign (cosine)", *where)
    stages = [trial["stage"] for trial in found["trials"]]
    assert stages.count("repeat") == 2
    assert any(trial["chosen"] for trial in found["trials"] if trial["stage"] == "sweep")


def test_a_search_is_printed_with_its_best_rules(
    capsys: pytest.CaptureFixture[str], committed: Path
) -> None:
    found = printed(capsys, "report", *SEARCH, str(committed))
    rewards = {rule["rule"]: rule["reward"] for rule in found["best"]}
    assert found["rewards"]["best"] == max(rewards.values())
    folder = committed / "search/small"
    raced = [simplest_text(rule) for rule in race_order(folder)]
    assert list(rewards)[: len(raced)] == raced
    others = list(rewards.values())[len(raced) :]
    assert others == sorted(others, reverse=True)
    assert sum(found["rewards"]["by_status"].values()) == found["evaluated"]


def test_the_status_of_a_study_counts_every_trial_once(
    capsys: pytest.CaptureFixture[str], committed: Path, tmp_path: Path
) -> None:
    found = printed(capsys, "status", *STUDY, str(committed))
    assert found["kind"] == "study status"
    assert sum(found["counts"].values()) == found["total"] == found["ended"]
    assert sum(row["sweep"]["ended"] + row["repeats"]["ended"] for row in found["rows"]) == 80
    begun = printed(capsys, "status", "table2", "--scale", "smoke", "--results", str(tmp_path))
    assert begun["counts"]["not begun"] == begun["total"] > begun["ended"] == 0


def test_the_status_of_a_search_says_who_runs_it(
    capsys: pytest.CaptureFixture[str], committed: Path
) -> None:
    found = printed(capsys, "status", *SEARCH, str(committed))
    logged = (committed / "search/small/log.jsonl").read_text(encoding="utf-8")
    rewards = logged.count('"event":"evaluated"')
    assert (found["kind"], found["evaluated"]) == ("search status", rewards)
    assert found["who"]


def test_everything_is_printed_in_one_document_and_equals_what_each_verb_prints(
    capsys: pytest.CaptureFixture[str], committed: Path
) -> None:
    results = ("--results", str(committed))
    found = printed(capsys, "report", "--all", *results)
    study = printed(capsys, "report", *STUDY, str(committed))
    assert study in found["studies"]
    claims = printed(capsys, "claims", *results)
    assert found["claims"] == claims
    assert len(claims["claims"]) == 49
    assert sum(claims["counts"].values()) == sum(len(c["findings"]) for c in claims["claims"])
    assert [claim["id"] for claim in claims["beyond"]] == ["four-bit-rules"]
    assert [finding["scale"] for finding in claims["beyond"][0]["findings"]] == ["small"]


def test_a_rule_is_printed_with_what_it_reads(capsys: pytest.CaptureFixture[str]) -> None:
    found = printed(capsys, "rule", "exp(ld * sign(g) * sign(m)) * g")
    assert (found["averages"], found["bytes_per_parameter"]) == (["m"], 4)
    assert found["needs_total_steps"]
    assert found["family"] == {"name": "powersign", "decay": "ld"}
    assert found["printed"], "002 prints PowerSign-ld"


def test_a_page_holds_the_document_that_its_verb_prints(
    capsys: pytest.CaptureFixture[str], committed: Path, tmp_path: Path
) -> None:
    for asked in (STUDY, SEARCH):
        html = tmp_path / "page.html"
        found = printed(capsys, "report", *asked, str(committed), "--html", str(html))
        text = html.read_text(encoding="utf-8")
        (held,) = re.findall(r'<script type="application/json" id="document">(.*?)</script>', text)
        assert json.loads(held) == found


def test_a_rule_is_printed_in_the_form_that_pages_show(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found = printed(capsys, "rule", "g / sqrt(1 / ld)")
    assert (found["normal_form"], found["simplest_form"]) == ("g / sqrt(1 / ld)", "g * sqrt(ld)")
    folder = Folder(tmp_path)
    folder.sample("1 ld identity identity /", "healthy", 0.5, lr=0.1)
    for name in ("g / sqrt(1 / ld)", "SGD"):
        optimizer = folder.search.baselines.get(name, f"rule: {name}")
        folder.named("confirm", name, optimizer, 1, reward=0.5, val_accuracy=50, test_accuracy=50)
    confirmed = search_document(folder.history(), [])["confirmed"]
    assert [child["name"] for child in confirmed] == ["g * sqrt(ld)", "SGD"]


def test_a_search_says_what_ends_it(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    history = folder.history()
    draws = folder.search.samples
    for documented in (search_document(history, []), search_status_document(history)):
        CHECKS.validate(documented)
        assert documented["budget"] == {"samples": draws, "children": None}
    history.asked = dataclasses.replace(history.asked, children=7)
    for documented in (search_document(history, []), search_status_document(history)):
        CHECKS.validate(documented)
        assert documented["budget"] == {"samples": draws, "children": 7}


def test_numbers_that_json_lacks_are_null() -> None:
    found = document("rule", a=float("nan"), b=[float("inf"), 1.0], c={2: (Path("x"),)})
    assert found == {"format": "nos_repro", "version": 1, "kind": "rule",
                     "a": None, "b": [None, 1.0], "c": {"2": ["x"]}}  # fmt: skip
    assert plain_data(True) is True


def test_a_name_that_is_no_text_is_written_all_the_same() -> None:
    """A file's name may hold any bytes, which Python reads as halves of characters."""
    assert written(document("rule", name="\udcffé.py")).count("?é.py") == 1


def test_a_format_that_a_verb_lacks_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--all", "--format", "latex"]) == 2
    assert "--format latex is for one study or search" in capsys.readouterr().err
