"""The page of a device's check, beside the studies' and in the index."""

from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from nos_repro.cli import main
from nos_repro.experiments.files import write_json
from nos_repro.report.device_check import conclusion, section_table
from nos_repro.report.documents.base import document, schema

PROVENANCE = {"host": "box", "device": "NVIDIA H200", "threads": 1, "python": "3.12.1",
              "commit": "0" * 12, "libraries": {"torch": "2.9.0"}}  # fmt: skip


def section(name: str, **changes: Any) -> dict[str, Any]:
    rows = [{"what": "powersign", "values": {"difference": 2e-7, "at most": 1e-5}, "holds": True}]
    return {
        "name": name, "about": "The three executions agree", "budget_seconds": 75.0, "rows": rows,
        "seconds": 12.0, "notes": [], "broke": "", "holds": True, **changes,
    }  # fmt: skip


def check(*sections: dict[str, Any]) -> dict[str, Any]:
    return document(
        "device", device="NVIDIA H200", accelerator=True, quick=False,
        holds=all(each["holds"] for each in sections), seconds=280.0, sections=sections,
        timings=[], provenance=PROVENANCE, date="2026-11-29T01:00:00+00:00",
    )  # fmt: skip


def test_a_section_is_a_table_and_what_broke_is_a_note() -> None:
    table = section_table(section("executions"))
    assert [column.title for column in table.columns] == [
        "what", "difference", "at most", "verdict"
    ]  # fmt: skip
    assert [cell.text for cell in table.rows[0]] == ["powersign", "2e-07", "1e-05", "holds"]
    broken = section("steps", rows=[], broke="RuntimeError: no kernel", holds=False)
    assert section_table(broken).notes == ["broke: RuntimeError: no kernel"]
    assert conclusion(check(section("executions"))) == "NVIDIA H200: all that must hold does"
    assert conclusion(check(broken)).endswith("steps broke (RuntimeError: no kernel)")


def test_a_stored_check_has_a_page_that_the_index_leads_to(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found = check(section("executions"), section("steps"))
    Draft202012Validator(schema()).validate(found)
    write_json(tmp_path / "results/device/nvidia-h200.json", found)
    write_json(tmp_path / "results/device/other.json", {"kind": "bench"})
    words = ["report", "--all", "--results", str(tmp_path / "results")]
    main([*words, "--html", str(tmp_path / "pages")])
    page = (tmp_path / "pages/device-nvidia-h200.html").read_text("utf-8")
    assert "all that must hold does" in page
    index = (tmp_path / "pages/index.html").read_text("utf-8")
    assert '<a href="device-nvidia-h200.html">NVIDIA H200</a>, checked 2026-11-29' in index
    assert "device/other.json: ValueError: not a document of check-device" in index
    assert "device: no study" not in index, "the folder is no stranger"
