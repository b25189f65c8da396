"""Every committed table and figure is what its committed records say today.

Committed is what git's index holds: stage what a command below writes, and these tests see it.
"""

import re
from pathlib import Path, PurePosixPath

import matplotlib
import pytest
from PIL import Image

from nos_repro.experiments.load import load_study
from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import Outcome, outcomes
from nos_repro.experiments.store import Store
from nos_repro.report.claims.judge import judge_claims
from nos_repro.report.claims.listed import beyond
from nos_repro.report.claims.page import claims_file
from nos_repro.report.claims.results import Results
from nos_repro.report.search.files import search_files
from nos_repro.report.search.history import read_history
from nos_repro.report.study.files import figures, tables
from tests.committed import every_committed
from tests.report.pages import picture

ROOT = Path(__file__).resolve().parents[2]

every_study = every_committed("*/*/records.jsonl")
every_search = every_committed("*/*/log.jsonl")


def read(path: PurePosixPath, committed: Path) -> tuple[Study, list[Outcome]]:
    """The study and its rows, as a clone sees them."""
    name, scale, _ = path.parts
    study = load_study(ROOT / "configs" / f"{name}.yaml", scale=scale)
    store = Store(committed, name, scale)
    rows = outcomes(study, store)
    assert not store.problems
    return study, rows


def command(path: PurePosixPath) -> str:
    name, scale, _ = path.parts
    return f"python -m nos_repro report configs/{name}.yaml --scale {scale} --write"


@pytest.mark.parametrize("name", ["table.md", "table.tex"])
@every_study
def test_a_committed_table_is_what_its_records_say(
    name: str, path: PurePosixPath, committed: Path
) -> None:
    now = tables(*read(path, committed))[name].decode()
    file = committed / path.with_name(name)
    assert file.exists(), f"write it and stage it:  {command(path)}"
    assert file.read_text(encoding="utf-8") == now, (
        f"results/{path.with_name(name)} is not what its records say (or what they say now that"
        f" code has changed since: stale numbers carry a sign). Write it again, look at it, stage"
        f" it:\n  {command(path)}"
    )


@every_study
def test_a_committed_figure_is_what_its_records_say(path: PurePosixPath, committed: Path) -> None:
    now = figures(*read(path, committed)).get("figure.svg")
    file = committed / path.with_name("figure.svg")
    assert file.exists() == (now is not None), f"write it and stage it:  {command(path)}"
    if now is None:
        return
    assert same_drawing(file, now), f"write it again and stage it:  {command(path)}"


def test_the_picture_of_the_index_shows_what_all_records_say(
    committed: Path, tmp_path: Path
) -> None:
    with Image.open(committed / picture.PICTURE) as image:
        shown = image.text[picture.KEY]  # type: ignore[attr-defined]
    now = picture.digest(picture.write_index(committed, tmp_path))
    assert shown == now, f"take it and stage it:  {picture.COMMAND}"


def test_the_committed_claims_are_what_all_records_say(committed: Path) -> None:
    found = Results(committed)
    more = judge_claims(found, only=beyond())
    assert (committed / "claims.md").read_bytes() == claims_file(judge_claims(found), more), (
        "write it again, look at it, stage it:  python -m nos_repro claims --write"
    )
    assert not found.problems


def same_drawing(committed: Path, now: bytes) -> bool:
    """Whether the figure is the committed one; skips where another matplotlib drew that."""
    drawn_by = re.search(r"Matplotlib v([\w.+]+)", committed.read_text(encoding="utf-8"))
    assert drawn_by is not None
    if drawn_by[1].rstrip(".,") != matplotlib.__version__:
        pytest.skip(f"drawn by matplotlib {drawn_by[1]}, here is {matplotlib.__version__}")
    return committed.read_bytes() == now


@every_search
def test_a_committed_search_report_is_what_its_logs_say(
    path: PurePosixPath, committed: Path
) -> None:
    name, scale, _ = path.parts
    now = search_files(read_history(ROOT / "configs" / f"{name}.yaml", committed, scale=scale))
    for name in ("hall_of_fame.md", "hall_of_fame.tex", "figure4.svg"):
        file = committed / path.with_name(name)
        assert file.exists() == (name in now), f"write it and stage it:  {command(path)}"
        if name.endswith(".svg") and name in now:
            assert same_drawing(file, now[name]), f"write it again, stage it:  {command(path)}"
        elif name in now:
            assert file.read_bytes() == now[name], f"write it again, stage it:  {command(path)}"
