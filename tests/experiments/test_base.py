"""A study based on another: its file holds only the differences."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from nos_repro.cli import main
from nos_repro.errors import NosError
from nos_repro.experiments.load import load_study
from nos_repro.experiments.schema import Study
from nos_repro.experiments.settings_file import find_config, read_values
from nos_repro.report.study import protocol

BELOW: dict[str, Any] = {
    "study": "below",
    "source": "002 Table 0",
    "claim": "small enough for a test",
    "task": {"name": "convnet", "data": "digits", "batch_size": 50},
    "training": {"epochs": 3},
    "sweep": {"lr": [0.01, 0.1]},
    "columns": {"best_test": "Best Test", "final_test": "Final Test"},
    "figure": {"rows": ["SGD", "Adam"]},
    "rows": {
        "SGD": {"optimizer": "sgd", "paper": {"best_test": 95.4}},
        "Adam": {"optimizer": "adam", "paper": {"best_test": 93.9}},
    },
    "scales": {
        "paper": {},
        "smoke": {"training": {"epochs": 1}, "rows": {"SGD": {"sweep": {"lr": [1.0]}}}},
    },
}


class Files:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write("below", BELOW)

    def write(self, name: str, values: dict[str, Any]) -> Path:
        path = self.folder / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(values, sort_keys=False))
        return path

    def over(self, scale: str = "smoke", **values: Any) -> Study:
        own = {"base": "below.yaml", "study": "over", **values}
        return load_study(self.write("over", own), scale=scale)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_what_a_file_does_not_say_comes_from_its_base(files: Files) -> None:
    study = files.over("smoke")
    below = load_study(files.folder / "below.yaml", scale="smoke")
    assert study.study == "over"
    assert (study.rows, study.task, study.training) == (below.rows, below.task, below.training)


def test_what_it_says_is_laid_below_the_scales(files: Files) -> None:
    changes = {"training": {"epochs": 7, "evaluate_every": 7}, "task": {"head": "flat"}}
    assert files.over("paper", **changes).training.epochs == 7
    assert files.over("paper", **changes).task["head"] == "flat"
    assert files.over("smoke", **changes).training.epochs == 1


def test_it_adds_and_changes_scales(files: Files) -> None:
    scales = {"medium": {"training": {"epochs": 2}}, "smoke": {"sweep": {"lr": [0.5]}}}
    assert files.over("medium", scales=scales).training.epochs == 2
    smoke = files.over("smoke", scales=scales)
    assert (smoke.training.epochs, smoke.sweep) == (1, {"lr": [0.5]})
    with pytest.raises(NosError, match="unknown scale 'smoke'\n  one of: paper"):
        files.over("smoke", scales={"smoke": None})


def test_rows_are_added_changed_and_left_out(files: Files) -> None:
    rows = {"SGD": None, "Adam": {"options": {"eps": 1e-3}}, "New": {"optimizer": "powersign"}}
    study = files.over("smoke", rows=rows)
    assert list(study.rows) == ["Adam", "New"]
    assert (study.rows["Adam"].optimizer, study.rows["Adam"].options) == ("adam", {"eps": 1e-3})
    assert study.figure["rows"] == ["Adam"]


def test_a_row_is_left_out_at_one_scale(files: Files) -> None:
    scales = {"smoke": {"rows": {"SGD": None}}}
    assert list(files.over("smoke", scales=scales).rows) == ["Adam"]
    assert list(files.over("paper", scales=scales).rows) == ["SGD", "Adam"]


def test_a_part_of_a_split_is_left_out(files: Files) -> None:
    part = {"name": "torch.optim.Muon"}
    split = {"split": {"kernels": {**part, "flatten": True}, "rest": "torch.optim.AdamW"}}
    files.write("below", {**BELOW, "rows": {"Muon": {"optimizer": split}}, "figure": {"rows": []}})
    below = load_study(files.folder / "below.yaml", scale="paper")
    assert list(below.rows["Muon"].options["split"]) == ["kernels", "rest"]
    task = {"name": "gnmt", "data": "numbers", "batch_size": 32}
    change = {"Muon": {"optimizer": {"split": {"kernels": None, "matrices": part}}}}
    columns = {"best_test": "Test", "final_test": None}
    study = files.over("paper", task=task, rows=change, columns=columns)
    assert study.rows["Muon"].options["split"] == {"rest": "torch.optim.AdamW", "matrices": part}


def test_columns_are_left_out(files: Files) -> None:
    assert list(files.over("smoke", columns={"final_test": None}).columns) == ["best_test"]


def test_a_base_may_ship_with_the_suite_and_may_have_its_own_base(files: Files) -> None:
    files.write("middle", {"base": "below.yaml", "study": "middle", "rows": {"SGD": None}})
    assert list(files.over("smoke", base="middle.yaml").rows) == ["Adam"]
    rows = dict.fromkeys(read_values(find_config("table2"))["rows"])
    study = files.over("small", base="table2", rows={**rows, "New": {"optimizer": "sgd"}})
    assert (list(study.rows), study.task["depth"]) == (["New"], 10)


def test_a_base_is_looked_for_next_to_its_file(files: Files, monkeypatch) -> None:
    (files.folder / "elsewhere").mkdir()
    monkeypatch.chdir(files.folder / "elsewhere")
    path = files.write("sub/over", {"base": "../below.yaml", "study": "over"})
    assert load_study(path, scale="smoke").training.epochs == 1


def test_it_is_the_papers_only_if_its_settings_are(files: Files) -> None:
    assert protocol.is_the_papers(files.over("paper", rows={"SGD": None}))
    changed = files.over("paper", training={"epochs": 4})
    assert protocol.differences(changed) == ["training.epochs"]
    assert not protocol.is_the_papers(changed)


def test_it_is_the_papers_too_if_its_own_file_says_so(files: Files) -> None:
    said = files.over("paper", training={"epochs": 4}, scales={"paper": {}})
    assert protocol.is_the_papers(said)
    assert said.paper_protocol["training"]["epochs"] == 4


def test_a_row_that_was_added_is_never_the_papers(files: Files, capsys) -> None:
    row = {"optimizer": "powersign", "paper": {"best_test": 95.0}}
    study = files.over("paper", rows={"New": row})
    assert protocol.is_the_papers(study)
    assert protocol.differences(study) == ["rows.New"]
    path = str(files.folder / "over.yaml")
    assert main(["verdicts", path, "--results", str(files.folder / "none")]) == 0
    printed = capsys.readouterr().out
    assert "not the paper's settings: rows.New" in printed
    assert printed.count("not comparable (scale)") == 2  # the cell, and the count


# fmt: off
WRONG = {
    "nothing of that name":   ({"base": "belwo.yaml"}, "no file 'belwo.yaml' beside over.yaml"),
    "nearly one that ships":  ({"base": "tabel2"},     "did you mean 'table2'"),
    "a base that is no text": ({"base": 3},            "expected a file, e.g. base: table2.yaml"),
    "itself":                 ({"base": "over.yaml"},  "in a circle: over.yaml -> over.yaml"),
    "no name of its own":     ({"study": None},        "a file based on it needs its own"),
    "a search over a study":  ({"search": "over"},     "base below.yaml: it is a study; a search"),
    "a row misspelt":         ({"rows": {"Adm": {"seed": 1}}}, "did you mean 'Adam'"),
    "a row gone twice":       ({"rows": {"Adm": None}},        "did you mean 'Adam'"),
    "a scale of a row gone": (
        {"rows": {"SGD": None}, "scales": {"smoke": {"rows": {"SGD": {"seed": 1}}}}},
        "scales.smoke: unknown row 'SGD'",
    ),
    "a key misspelt":         ({"training": {"epohcs": 1}},    "training.epohcs"),
}
# fmt: on


@pytest.mark.parametrize(("changes", "words"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_one_error_that_names_the_file(
    files: Files, changes: dict[str, Any], words: str
) -> None:
    values = {"base": "below.yaml", "study": "over", **changes}
    path = files.write("over", {key: value for key, value in values.items() if value is not None})
    with pytest.raises(NosError) as caught:
        load_study(path, scale="smoke")
    assert "over.yaml (scale smoke): " in str(caught.value)
    assert words in str(caught.value)
    assert "below.yaml (scale" not in str(caught.value)


def test_a_circle_names_every_file(files: Files) -> None:
    files.write("below", {"base": "over.yaml", "study": "below"})
    with pytest.raises(NosError, match=r"in a circle: over.yaml -> below.yaml -> over.yaml"):
        files.over()


def test_what_is_wrong_in_the_base_names_the_base(files: Files) -> None:
    files.write("below", {**BELOW, "training": {"epohcs": 1}})
    with pytest.raises(NosError) as caught:
        files.over()
    assert "over.yaml (scale smoke): base " in str(caught.value)
    assert "below.yaml (scale smoke): training.epohcs: unknown key" in str(caught.value)
    (files.folder / "below.yaml").write_text("a: [")
    with pytest.raises(NosError, match=r"over.yaml \(scale smoke\): base below.yaml: not valid"):
        files.over()
