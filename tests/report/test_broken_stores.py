"""Half-finished and corrupt stores: every verb still works and names what it left out."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nos_repro.cli import main
from nos_repro.experiments.load import load_study
from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import outcomes
from nos_repro.experiments.store import Store
from nos_repro.experiments.trial import Trial
from nos_repro.report.study.files import figures, tables
from nos_repro.report.study.table import study_table
from tests.report.records import accuracy, filled_store

FILE = {
    "study": "tiny",
    "source": "002 Table 0",
    "claim": "none",
    "task": {"name": "convnet", "data": "digits"},
    "training": {"epochs": 2},
    "sweep": {"lr": [0.01, 0.1]},
    "selection": {"repeats": 2},
    "columns": {"best_test": "Best Test"},
    "figure": {"kind": "curves"},
    "rows": {
        "SGD": {"optimizer": "sgd", "paper": {"best_test": 90.0}},
        "PowerSign": {"optimizer": "powersign", "paper": {"best_test": 91.0}},
        "AddSign": {"optimizer": "addsign", "paper": {"best_test": 92.0}},
    },
    "scales": {"paper": {}},
}


def ending(trial: Trial) -> dict[str, Any]:
    return accuracy(random.Random(trial.id).uniform(80, 90), 85.0)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Study]:
    """A finished study, its records in the compact form and in the trials' folders."""
    folder = tmp_path_factory.mktemp("whole")
    config = folder / "tiny.yaml"
    config.write_text(json.dumps(FILE))
    study = load_study(config)
    store = filled_store(study, folder / "results", ending)
    store.compact([trial for row in outcomes(study, store) for trial in row.trials])
    return folder, study


@pytest.fixture
def folder(whole: tuple[Path, Study], tmp_path: Path) -> Path:
    """A copy to be broken, without the trials' folders, as in a clone."""
    copy = tmp_path / "copy"
    shutil.copytree(whole[0], copy)
    shutil.rmtree(copy / "results/tiny/paper/trials")
    return copy


def cells(study: Study, store: Store) -> dict[str, list[str]]:
    """What the report prints for each row, in all its forms; drawing it must not raise either."""
    rows = outcomes(study, store)
    tables(study, rows)
    table = study_table(study, rows)
    return {row[0].text: [cell.text for cell in row] for row in table.rows}


def opened(folder: Path) -> Store:
    return Store(folder / "results", "tiny", "paper")


def edited(line: bytes, **changes: Any) -> bytes:
    return json.dumps({**json.loads(line), **changes}).encode()


def first_point(line: bytes, **changes: Any) -> bytes:
    metrics = json.loads(line)["metrics"]
    return edited(line, metrics=[{**metrics[0], **changes}, *metrics[1:]])


def settings(line: bytes, **changes: Any) -> bytes:
    return edited(line, trial={**json.loads(line)["trial"], **changes})


# fmt: off
BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "torn":                        lambda line: line[: len(line) // 2],
    "binary garbage":              lambda line: random.Random(0).randbytes(9),
    "zeros, as after a crash":     lambda line: bytes(len(line)),
    "bytes that are no UTF-8":     lambda line: line.replace(b"convnet", b"conv\xff\xfe"),
    "nested without end":          lambda line: b"[" * 100_000,
    "a number":                    lambda line: b"7",
    "null":                        lambda line: b"null",
    "NaN in a curve":              lambda line: first_point(line, test_accuracy=float("nan")),
    "an infinity in a curve":      lambda line: first_point(line, val_accuracy=float("inf")),
    "words in a curve":            lambda line: first_point(line, val_accuracy="good"),
    "an epoch that is none":       lambda line: first_point(line, epoch=None),
    "a truth value in a curve":    lambda line: first_point(line, test_accuracy=True),
    "a list in a curve":           lambda line: first_point(line, lr=[0.1]),
    "a direction of its own":      lambda line: edited(line, direction="up"),
    "a reason that is none":       lambda line: edited(line, reason=["a"], status="failed"),
    "libraries in a list":         lambda line: edited(line, provenance={"libraries": ["torch"]}),
    "threads in words":            lambda line: edited(line, provenance={"threads": "two"}),
    "a trial without a task":      lambda line: settings(line, task=None),
    "a trial of other settings":   lambda line: settings(line, task_settings=[1]),
    "a status of the future":      lambda line: edited(line, status="sublime"),
    "seconds in words":            lambda line: edited(line, seconds="long"),
}
# fmt: on


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_line_is_named_and_the_other_rows_keep_their_numbers(
    kind: str, folder: Path, whole: tuple[Path, Study]
) -> None:
    before = cells(whole[1], opened(folder))
    path = opened(folder).compact_path
    first, *others = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([BROKEN[kind](first), *others]) + b"\n")
    store = opened(folder)
    after = cells(whole[1], store)
    (problem,) = store.problems
    assert f"{path}, line 1" in problem
    assert "left out" in problem
    assert sum(before[name] != after[name] for name in before) == 1


def _harmed(data: bytes, draw: random.Random) -> tuple[bytes, set[int]]:
    """``data`` with some bytes overwritten, or cut off, and the numbers of the lines it hits."""
    at = draw.randrange(len(data))
    line = data[:at].count(b"\n")
    if draw.random() < 0.3:
        return data[:at], set(range(line, data.count(b"\n") + 1))
    length = draw.randint(1, 8)
    harmed = data[:at] + draw.randbytes(length) + data[at + length :]
    return harmed, set(range(line, line + data[at : at + length].count(b"\n") + 1))


def test_whatever_a_disk_does_there_is_a_report_and_undamaged_rows_keep_their_numbers(
    folder: Path, whole: tuple[Path, Study]
) -> None:
    study, path = whole[1], opened(folder).compact_path
    before, data = cells(study, opened(folder)), path.read_bytes()
    ids = [json.loads(line)["id"] for line in data.splitlines()]
    owners = {t.id: row.name for row in outcomes(study, opened(folder)) for t in row.trials}
    for seed in range(200):
        harmed, lines = _harmed(data, random.Random(seed))
        path.write_bytes(harmed)
        store = opened(folder)
        after = cells(study, store)
        touched = {owners[ids[n]] for n in lines if n < len(ids)}
        assert {k: v for k, v in before.items() if k not in touched} == {
            k: v for k, v in after.items() if k not in touched
        }, seed
        if seed % 20 == 0:
            figures(study, outcomes(study, store))


# fmt: off
STORES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no file":                (lambda path: path.unlink(),                         ""),
    "an empty file":          (lambda path: path.write_bytes(b""),                 ""),
    "a folder for a file":    (lambda path: (path.unlink(), path.mkdir()),   "Is a directory"),
    "gzip":                   (lambda path: path.write_bytes(b"\x1f\x8b\x08\0\xff"), "line 1"),
    "a torn last line":       (lambda path: path.write_bytes(path.read_bytes()[:-99]), "line 12"),
    "every line twice":       (lambda path: path.write_bytes(path.read_bytes() * 2), ""),
    "fields of the future":   (lambda path: path.write_bytes(
        b"\n".join(edited(line, aura=[1]) for line in path.read_bytes().splitlines())), ""),
    "no point in any curve":  (lambda path: path.write_bytes(
        b"\n".join(edited(line, metrics=[]) for line in path.read_bytes().splitlines())), ""),
}
# fmt: on
VERBS = ("report", "verdicts", "status", "why", "claims")


@pytest.mark.parametrize("kind", STORES)
def test_every_verb_works_over_a_broken_store_and_says_what_it_left_out(
    kind: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    harm, word = STORES[kind]
    harm(opened(folder).compact_path)
    results = ["--results", str(folder / "results")]
    for verb in VERBS:
        config = str(folder / "tiny.yaml")
        what = {"why": [f"{config}:SGD"], "claims": []}.get(verb, [config])
        assert main([verb, *what, *results]) == 0, verb
        printed = capsys.readouterr()
        if verb != "claims":  # no claim is about this study
            assert word in printed.out + printed.err, verb


@pytest.mark.parametrize("content", [b"", b"\x80\x81", b"[" * 100_000])
def test_a_trials_own_record_that_is_broken_gives_way_to_the_committed_one(
    content: bytes, folder: Path, whole: tuple[Path, Study]
) -> None:
    before = cells(whole[1], opened(folder))
    trial = outcomes(whole[1], opened(folder))[0].sweep[0].trial
    path = opened(folder).folder(trial) / "record.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    store = opened(folder)
    assert cells(whole[1], store) == before
    (problem,) = store.problems
    assert str(path) in problem


def test_claims_name_what_they_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = tmp_path / "icml_figure5/small/records.jsonl"
    records.parent.mkdir(parents=True)
    records.write_bytes(b"\x00garbage\n")
    assert main(["claims", "--results", str(tmp_path)]) == 0
    assert f"{records}, line 1" in capsys.readouterr().err
