"""The files of a report: whole, the same for the same records, and saying where they come from."""

import dataclasses
from pathlib import Path

import pytest

from nos_repro.experiments.files import StoreError
from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import outcomes
from nos_repro.experiments.store import Store
from nos_repro.experiments.trial import Trial
from nos_repro.report.study.files import write_report
from tests.experiments.helpers import digits_study
from tests.report.records import accuracy, filled_store


@pytest.fixture
def study() -> Study:
    return dataclasses.replace(digits_study(), figure={"kind": "curves"})


@pytest.fixture
def store(study: Study, tmp_path: Path) -> Store:
    long = [float(n % 90) for n in range(150)]
    return filled_store(study, tmp_path, lambda t: accuracy(*long, 100 * t.lr))


def test_a_report_is_two_tables_and_two_figures(study: Study, store: Store) -> None:
    written = write_report(study, outcomes(study, store), store.root)
    assert [p.name for p in written] == ["table.md", "table.tex", "figure.png", "figure.svg"]
    left = {path.name for path in store.root.iterdir()} - {"trials"}
    assert left == {path.name for path in written}


def test_every_file_says_where_its_numbers_come_from(study: Study, store: Store) -> None:
    for path in write_report(study, outcomes(study, store), store.root):
        if path.suffix == ".png":
            continue
        text = path.read_text().replace("\\", "")
        for words in (
            "Study tiny, scale smoke: 8 trials (8 finished).",
            "Seeds 0, 1, 2; 0.08 hours of compute in all.",
            "Commit 0123456789ab; numpy 2.1, torch 2.9.0; Python 3.12.1.",
            "Hardware: Some CPU (2 cores); threads per trial: 1.",
        ):
            assert words in text, path.name


def test_a_clone_with_the_compact_records_writes_the_same_bytes(
    study: Study, store: Store, tmp_path: Path
) -> None:
    rows = outcomes(study, store)
    store.compact([trial for row in rows for trial in row.trials])
    clone = Store(tmp_path / "clone", study.study, study.scale)
    clone.root.mkdir(parents=True)
    clone.compact_path.write_bytes(store.compact_path.read_bytes())
    ours = write_report(study, rows, store.root)
    theirs = write_report(study, outcomes(study, clone), clone.root)
    for one, other in zip(ours, theirs, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name


def test_a_study_without_records_can_be_reported(study: Study, tmp_path: Path) -> None:
    store = Store(tmp_path, study.study, study.scale)
    paths = write_report(study, outcomes(study, store), store.root)
    assert "not run yet" in paths[0].read_text()
    assert "0 trials" in paths[0].read_text()


def test_a_disk_that_refuses_leaves_the_old_report(
    study: Study, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = outcomes(study, store)
    path = write_report(study, rows, store.root)[0]
    old = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        write_report(study, rows, store.root)
    assert path.read_bytes() == old
    assert not list(store.root.glob(".*.tmp"))


def test_one_row_more_changes_the_table(study: Study, store: Store, tmp_path: Path) -> None:
    def half(trial: Trial) -> dict[str, object] | None:
        return accuracy(50.0) if trial.optimizer == "sgd" else None

    other = filled_store(study, tmp_path / "half", half)
    path = write_report(study, outcomes(study, other), other.root)[0]
    assert "1 of 2 rows are not complete yet" in path.read_text()
