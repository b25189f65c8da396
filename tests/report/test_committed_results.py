"""Every committed table and figure is what its committed records say today."""

import re
import shutil
from pathlib import Path

import matplotlib
import pytest
from PIL import Image

from nos_repro.experiments.load import load_study
from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import Outcome, outcomes
from nos_repro.experiments.store import Store
from nos_repro.report.claims.judge import judge_claims
from nos_repro.report.claims.page import claims_file
from nos_repro.report.claims.results import Results
from nos_repro.report.search.files import search_files
from nos_repro.report.search.history import read_history
from nos_repro.report.study.files import figures, tables
from tests.report.pages import picture

ROOT = Path(__file__).resolve().parents[2]
COMMITTED = sorted(ROOT.glob("results/*/*/records.jsonl"))

SEARCHED = sorted(ROOT.glob("results/*/*/log.jsonl"))


def named(paths: list[Path]) -> list[str]:
    return [f"{path.parent.parent.name}-{path.parent.name}" for path in paths]


every_study = pytest.mark.parametrize("records", COMMITTED, ids=named(COMMITTED))


def read(records: Path, scratch: Path) -> tuple[Study, list[Outcome]]:
    """The study and its rows by the committed records alone, as a clone sees them."""
    name, scale = records.parent.parent.name, records.parent.name
    study = load_study(ROOT / "configs" / f"{name}.yaml", scale=scale)
    store = Store(scratch, name, scale)
    store.root.mkdir(parents=True)
    shutil.copy(records, store.compact_path)
    rows = outcomes(study, store)
    assert not store.problems
    return study, rows


def command(records: Path) -> str:
    name, scale = records.parent.parent.name, records.parent.name
    return f"python -m nos_repro report configs/{name}.yaml --scale {scale} --write"


@pytest.mark.parametrize("name", ["table.md", "table.tex"])
@every_study
def test_a_committed_table_is_what_its_records_say(
    name: str, records: Path, tmp_path: Path
) -> None:
    now = tables(*read(records, tmp_path))[name].decode()
    committed = records.with_name(name)
    assert committed.exists(), f"write it:  {command(records)}"
    assert committed.read_text() == now, (
        f"{committed} is not what its records say (or what they say now that code has changed"
        f" since: stale numbers carry a sign). Write it anew, look at it, commit it:\n"
        f"  {command(records)}"
    )


@every_study
def test_a_committed_figure_is_what_its_records_say(records: Path, tmp_path: Path) -> None:
    now = figures(*read(records, tmp_path)).get("figure.svg")
    committed = records.with_name("figure.svg")
    assert committed.exists() == (now is not None), f"write it:  {command(records)}"
    if now is None:
        return
    assert same_drawing(committed, now), f"write it anew:  {command(records)}"


def test_the_picture_of_the_index_shows_what_all_records_say(tmp_path: Path) -> None:
    with Image.open(picture.PICTURE) as committed:
        shown = committed.text[picture.KEY]  # type: ignore[attr-defined]
    assert shown == picture.digest(picture.write_index(tmp_path)), f"take it:  {picture.COMMAND}"


def test_the_committed_claims_are_what_all_records_say(tmp_path: Path) -> None:
    for pattern in ("records.jsonl", "log.jsonl", "named.jsonl", "settings.json", "runs.jsonl"):
        for path in ROOT.glob(f"results/*/*/{pattern}"):
            copy = tmp_path / path.relative_to(ROOT / "results")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    found = Results(tmp_path)
    committed = ROOT / "results" / "claims.md"
    assert committed.read_bytes() == claims_file(judge_claims(found)), (
        "write it anew, look at it, commit it:  python -m nos_repro claims --write"
    )
    assert not found.problems


def same_drawing(committed: Path, now: bytes) -> bool:
    """Whether the figure is the committed one; skips where another matplotlib drew that."""
    drawn_by = re.search(r"Matplotlib v([\w.+]+)", committed.read_text())
    assert drawn_by is not None
    if drawn_by[1].rstrip(".,") != matplotlib.__version__:
        pytest.skip(f"drawn by matplotlib {drawn_by[1]}, here is {matplotlib.__version__}")
    return committed.read_bytes() == now


@pytest.mark.parametrize("log", SEARCHED, ids=named(SEARCHED))
def test_a_committed_search_report_is_what_its_logs_say(log: Path, tmp_path: Path) -> None:
    if (log.parent / "claim.json").exists():
        pytest.skip("this search is under way")
    name, scale = log.parent.parent.name, log.parent.name
    copy = tmp_path / name / scale
    copy.mkdir(parents=True)
    for file in ("settings.json", "log.jsonl", "named.jsonl"):
        if (log.parent / file).exists():
            shutil.copy(log.parent / file, copy / file)
    config = ROOT / "configs" / f"{name}.yaml"
    now = search_files(read_history(config, tmp_path, scale=scale))
    for file in ("hall_of_fame.md", "hall_of_fame.tex", "figure4.svg"):
        committed = log.parent / file
        assert committed.exists() == (file in now), f"write it:  {command(log)}"
        if file.endswith(".svg") and file in now:
            assert same_drawing(committed, now[file]), f"write it anew:  {command(log)}"
        elif file in now:
            assert committed.read_bytes() == now[file], f"write it anew:  {command(log)}"
