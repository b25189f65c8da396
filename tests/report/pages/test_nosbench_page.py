"""The page of a table of rules, and its line in the index."""

import re
from html import unescape
from pathlib import Path

import pytest

from nos_repro.cli import main
from nos_repro.search import table
from tests.conftest import ROOT

SIGNS = "configs/nosbench/signs.yaml"


def test_the_page_lists_every_rule_with_its_reward(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    assert main(["report", SIGNS, "--results", str(ROOT / "results"), "--html", str(path)]) == 0
    text = unescape(re.sub(r"<[^>]+>", " ", path.read_text(encoding="utf-8")))
    loaded = table.load("signs", results=ROOT / "results")
    assert f"Rules: {len(loaded.rules):,}" in text
    for rule in loaded.rules:
        assert f" {rule.text} " in text


def test_the_index_leads_to_it_and_nothing_in_the_folder_is_strange(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    results.mkdir()
    (results / "nosbench").symlink_to(ROOT / "results" / "nosbench")
    pages = tmp_path / "pages"
    assert main(["report", "--all", "--results", str(results), "--html", str(pages)]) == 0
    said = capsys.readouterr()
    assert "nosbench/signs" in said.out
    assert "no study or search of that name" not in said.err
    index = (pages / "index.html").read_text(encoding="utf-8")
    assert 'href="nosbench-signs-full.html"' in index
    assert 'href="#tables"' in index
    assert (pages / "nosbench-signs-full.html").exists()


def test_rows_are_not_chosen_among_rules() -> None:
    assert main(["report", SIGNS, "--rows", "g"]) == 2
