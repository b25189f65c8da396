"""The reproduction card: verdicts, a badge, and an RO-Crate that readers of RO-Crates accept."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from nos_repro.cli import main
from nos_repro.report.card import GOOD, badge


@pytest.fixture(scope="module")
def card(committed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("card") / "made" / "here"
    assert main(["report", "--all", "--results", str(committed), "--card", str(folder)]) == 0
    return folder


def references(value: Any) -> Iterator[str]:
    """Every `{"@id": ...}` inside a value."""
    if isinstance(value, dict):
        if value.keys() == {"@id"}:
            yield value["@id"]
        for part in value.values():
            yield from references(part)
    elif isinstance(value, list):
        for part in value:
            yield from references(part)


def test_the_crate_keeps_what_the_specification_of_ro_crate_1_1_requires(card: Path) -> None:
    found = json.loads((card / "ro-crate-metadata.json").read_bytes())
    assert found["@context"] == "https://w3id.org/ro/crate/1.1/context"
    entities = {entity["@id"]: entity for entity in found["@graph"]}
    assert len(entities) == len(found["@graph"]), "each entity once"
    descriptor = entities["ro-crate-metadata.json"]
    assert descriptor["@type"] == "CreativeWork"
    assert descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    root = entities[descriptor["about"]["@id"]]
    assert root["@type"] == "Dataset"
    assert root.keys() >= {"name", "description", "datePublished", "license"}
    assert re.match(r"\d{4}-\d{2}-\d{2}", root["datePublished"])
    for part in references(root["hasPart"]):
        assert entities[part]["@type"] == "File"
        assert (card / part).is_file()
    assert set(references(found["@graph"])) <= entities.keys() | {descriptor["conformsTo"]["@id"]}
    assert all(entity.keys() >= {"@id", "@type"} for entity in entities.values())


def test_the_badge_says_what_the_verdicts_say(card: Path) -> None:
    found = json.loads((card / "verdicts.json").read_bytes())
    assert found["kind"] == "collection"
    cells = [cell["verdict"] for study in found["studies"] for row in study["rows"]
             for cell in row["cells"].values() if cell["verdict"] is not None]  # fmt: skip
    good = sum(cell["verdict"] in ("reproduced", "within tolerance") for cell in cells)
    title = ElementTree.parse(card / "badge.svg").getroot()[0].text
    assert title is not None
    assert title.startswith(f"reproduction: {good} of {len(cells)} cells reproduced;")
    claims = [{f["verdict"] for f in claim["findings"]} for claim in found["claims"]["claims"]]
    hold = sum("holds" in each and "does not hold" not in each for each in claims)
    assert f"{hold} of {len(claims)} claims hold" in title


def test_a_badge_is_sound_xml_whatever_it_says() -> None:
    svg = ElementTree.fromstring(badge("a & b", "<script>", GOOD))
    assert svg.attrib["aria-label"] == "a & b: <script>"


def test_a_card_needs_all_and_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "table2", "--card", str(tmp_path)]) == 2
    assert "--card is for --all" in capsys.readouterr().err
    file = tmp_path / "file"
    file.touch()
    assert main(["report", "--all", "--results", str(tmp_path / "none"), "--card", str(file)]) == 2
    assert "is a file, not a folder" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["", " ", "a-file/card"])
def test_a_card_that_can_be_written_nowhere_is_refused_at_once(
    word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a-file").write_text("")
    with pytest.raises(SystemExit) as ended:
        main(["report", "--all", "--card", word])
    assert ended.value.code == 2
    assert "argument --card" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a-file"]
