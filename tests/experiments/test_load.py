"""A wrong study file, scale or override gets one error that says where."""

import pytest
import yaml

from nos_repro.errors import ConfigError, NosError
from nos_repro.experiments import named_file
from nos_repro.experiments.load import load_study
from nos_repro.experiments.settings_file import find_config

STUDY = """
study: tiny
source: 002 Table 0
claim: small enough for a test
task: {name: convnet, data: digits, batch_size: 50}
training: {epochs: 2}
sweep: {lr: [0.01, 1e-1]}
columns: {best_test: Best Test}
rows:
  SGD (a): {optimizer: sgd, paper: {best_test: 95.4}}
  SGD (b): {optimizer: sgd, schedule: cosine}
  sign(m)*sqrt|g|: {optimizer: "rule: sign(m)*sqrt(g)"}
scales:
  paper: {}
  smoke: {training: {epochs: 1}, rows: {SGD (b): {sweep: {lr: [1.0]}}}}
"""


@pytest.fixture
def write(tmp_path):
    def write(text=STUDY, **changes):
        path = tmp_path / "tiny.yaml"
        values = {**yaml.safe_load(text), **changes}
        path.write_text(yaml.safe_dump(values) if changes else text)
        return path

    return write


def test_a_study_is_read_with_its_scale_laid_over_it(write):
    study = load_study(write(), scale="smoke")
    assert (study.scale, study.training.epochs) == ("smoke", 1)
    assert study.rows["SGD (b)"].sweep == {"lr": [1.0]}
    assert study.rows["SGD (b)"].schedule == "cosine"
    assert study.task["head"] == "pool"
    assert load_study(write()).training.epochs == 2


def test_exponents_without_a_dot_are_numbers(write):
    assert load_study(write()).sweep["lr"] == [0.01, 0.1]


def test_overrides_are_laid_over_the_scale(write):
    study = load_study(write(), scale="smoke", overrides=["training.epochs=7", "task.head=flat"])
    assert study.training.epochs == 7
    assert study.task["head"] == "flat"


def test_rows_are_chosen_by_name_or_pattern_and_a_name_with_a_star_means_itself(write):
    assert list(load_study(write(), rows=["SGD*"]).rows) == ["SGD (a)", "SGD (b)"]
    assert list(load_study(write(), rows=["sign(m)*sqrt|g|"]).rows) == ["sign(m)*sqrt|g|"]


# fmt: off
WRONG = {
    "a misspelt key": ({"trainig": {}}, [], "trainig", "did you mean 'training'"),
    "a misspelt key inside": ({"training": {"epohcs": 1}}, [], "training.epohcs", "epochs"),
    "a misspelt task": ({"task": {"name": "convet"}}, [], "convet", "convnet"),
    "a misspelt task key": ({"task": {"name": "convnet", "haed": 1}}, [], "task.haed", "head"),
    "a wrong type": ({"training": {"epochs": "many"}}, [], "training.epochs", "many"),
    "no epochs": ({"training": {"epochs": 0}}, [], "training.epochs", "at least 1"),
    "a rate of zero": ({"sweep": {"lr": [0.0]}}, [], "sweep.lr", "positive"),
    "a rate of NaN": ({"sweep": {"lr": [float("nan")]}}, [], "sweep.lr", "positive"),
    "a rate in words": ({"sweep": {"lr": ["fast"]}}, [], "sweep.lr", "number"),
    "no rate": ({"sweep": {}}, [], "rows.SGD (a)", "lr"),
    "an empty sweep": ({"sweep": {"lr": []}}, [], "sweep.lr", "empty"),
    "a rule misspelt": ({"rows": {"x": {"optimizer": "rule: sgn(g)"}}}, [], "rows.x", "sign"),
    "an optimizer misspelt": ({"rows": {"x": {"optimizer": "adm"}}}, [], "rows.x", "adam"),
    "an option misspelt": (
        {"rows": {"x": {"optimizer": "adam", "options": {"esp": 1}}}},
        [],
        "rows.x",
        "eps",
    ),
    "a schedule misspelt": ({"schedule": "cosin"}, [], "cosin", "cosine"),
    "a column misspelt": ({"columns": {"best_tset": "B"}}, [], "best_tset", "best_test"),
    "an override without a value": ({}, ["training.epochs"], "training.epochs", "key.path=value"),
    "an override of nothing known": ({}, ["task.depht=3"], "task.depht", "head"),
    "a folder for a name": ({"study": "../up"}, [], "study", "folder"),
    "a rate too large": ({"sweep": {"lr": [10**400]}}, [], "", "too large"),
    "a rate for a list": ({}, ["sweep.lr=0.1"], "sweep.lr", "expected a list"),
    "a rate among the options": (
        {"rows": {"x": {"optimizer": "sgd", "options": {"lr": 1.0}}}}, [], "rows.x", "sweep it",
    ),
    "a swept seed": (
        {"rows": {"x": {"optimizer": "sgd", "sweep": {"seed": [1, 2]}}}}, [], "rows.x", "seed: 1",
    ),
    "an option that is our own": (
        {"rows": {"x": {"optimizer": "sgd", "options": {"params": 1}}}}, [], "rows.x", "task",
    ),
    "an infinite option": (
        {"rows": {"x": {"optimizer": "adam", "options": {"eps": float("inf")}}}},
        [], "rows.x", "infinite",
    ),
    "an infinite norm": (
        {"training": {"gradient_norm": float("inf")}}, [], "gradient_norm", "finite",
    ),
    "a schedule too large": (
        {"rows": {"x": {"optimizer": "sgd", "schedule": "cosine_restarts",
                        "schedule_options": {"t_mul": 1e300}}}},
        [], "rows.x", "too large",
    ),
    "a negative seed": ({"selection": {"seed": -1}}, [], "seed", "between 0"),
    "a seed too large": ({"selection": {"seed": 2**64}}, [], "seed", "between 0"),
    "a row misspelt in an override": ({}, ["rows.SGD (c).seed=1"], "SGD (c)", "SGD (a)"),
    "a row misspelt in a scale": (
        {"scales": {"paper": {"rows": {"SGD (c)": {"seed": 1}}}}}, [], "scales.paper", "SGD (a)",
    ),
    "a row that is a list": ({"rows": {"x": [1]}}, [], "", "rows"),
    "options that are a list": (
        {"rows": {"x": {"optimizer": "sgd", "options": [1]}}}, [], "", "rows",
    ),
    "a task's name with a slip": ({"task": {"name": "..x"}}, [], "task.name", "wide_resnet"),
    "a value of a list left open": ({"sweep": {"lr": [0.1, "???"]}}, [], "sweep.lr[1]", "no value"),
    "a value left open": ({"training": {"epochs": "???"}}, [], "training.epochs", "no value"),
    "a title that is no text": ({"columns": {"best_test": [1]}}, [], "columns.best_test", "title"),
    "no rungs": ({"halving": {"keep": 0.5}}, [], "halving.rungs", "[10, 30, 100]"),
    "rungs that fall": ({"halving": {"rungs": [2, 1]}}, [], "halving.rungs", "increasing"),
    "a rung twice": ({"halving": {"rungs": [1, 1]}}, [], "halving.rungs", "increasing"),
    "a rung at the start": ({"halving": {"rungs": [0, 1]}}, [], "halving.rungs", "increasing"),
    "a rung at the end": ({"halving": {"rungs": [1, 2]}}, [], "halving.rungs", "epochs (2)"),
    "a rung between two evaluations": (
        {"halving": {"rungs": [1]}, "training": {"epochs": 4, "evaluate_every": 2}},
        [], "halving.rungs", "multiples of training.evaluate_every (2)",
    ),
    "a rung that is no list": ({"halving": {"rungs": 1}}, [], "halving.rungs", "list"),
    "none that go on": ({"halving": {"rungs": [1], "keep": 0.0}}, [], "halving.keep", "above 0"),
    "more that go on than are in": (
        {"halving": {"rungs": [1], "keep": 2}}, [], "halving.keep", "at most 1",
    ),
    "a test column that halves": (
        {"halving": {"rungs": [1], "by": "best_test"}}, [], "halving.by", "best_val final_val",
    ),
    "a key of halving misspelt": ({"halving": {"rung": [1]}}, [], "halving.rung", "'rungs'"),
    "halving and repeats": (
        {"halving": {"rungs": [1]}, "selection": {"repeats": 2}},
        [], "selection.repeats must be 0", "got 2",
    ),
    "halving by another column than the choice": (
        {"halving": {"rungs": [1], "by": "final_val"}}, [], "halving.by", "selection.by",
    ),
    "a figure of a row that is not there": (
        {"figure": {"rows": ["SGD"]}}, [], "figure.rows 'SGD'", "did you mean 'SGD (",
    ),
    "no rows": ({"rows": {}}, [], "rows", "at least one"),
    "rows of the wrong kind": ({"rows": [1]}, [], "rows", ""),
}
# fmt: on


@pytest.mark.parametrize(("changes", "overrides", "where", "fix"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_named_with_its_place_and_the_nearest_fix(
    write, changes, overrides, where, fix
):
    with pytest.raises(NosError) as caught:
        load_study(write(**changes), overrides=overrides)
    message = str(caught.value)
    assert "tiny.yaml (scale paper)" in message
    assert where in message
    assert fix in message


def test_a_scale_or_a_row_that_is_not_there_lists_the_choice(write):
    with pytest.raises(ConfigError, match=r"unknown scale 'smal'(.|\n)*smoke"):
        load_study(write(), scale="smal")
    with pytest.raises(ConfigError, match=r"unknown row 'PowerSign\*'(.|\n)*SGD \(a\)"):
        load_study(write(), rows=["PowerSign*"])


def test_a_scale_of_any_name_takes_one_line(write):
    scales = {"medium": {"training": {"epochs": 5}}, "smoke": None, 7: {}}
    assert load_study(write(scales=scales), scale="medium").training.epochs == 5
    assert load_study(write(scales=scales), scale="smoke").scale == "smoke"
    assert load_study(write(scales=scales), scale="7").scale == "7"
    with pytest.raises(ConfigError, match=r"unknown scale 'medum'\n  did you mean 'medium'.*smoke"):
        load_study(write(scales=scales), scale="medum")


@pytest.mark.parametrize("name", ["../up", "a/b", "a-b", "", "é", "a b"])
def test_a_scale_is_a_word_that_a_folder_and_a_page_can_have(write, name):
    with pytest.raises(ConfigError, match="must be letters, digits and _"):
        load_study(write(scales={name: {}}), scale=name)


def test_a_file_without_scales_has_one(write):
    assert load_study(write(scales={}), scale="default").scale == "default"
    with pytest.raises(ConfigError, match=r"unknown scale 'smoke'\n  one of: default"):
        load_study(write(scales={}), scale="smoke")


def test_a_study_that_halves_its_rows_is_never_cut_to_some_of_them(write):
    path = write(halving={"rungs": [1]})
    assert load_study(path).halving.rungs == [1]
    assert load_study(path, overrides=["halving=null"]).halving is None
    with pytest.raises(ConfigError, match="--rows: halving ranks all rows"):
        load_study(path, rows=["SGD (a)"])


@pytest.mark.parametrize(
    "text", ["a: " + "[" * 3000, "a: [", "- 1", "", "study: a\nstudy: b", "\x00", "a: ${b}"]
)
def test_a_file_that_is_not_a_study_is_one_error(tmp_path, text):
    (tmp_path / "tiny.yaml").write_text(text)
    with pytest.raises(ConfigError, match="tiny"):
        load_study(tmp_path / "tiny.yaml")


def test_a_study_is_found_by_its_name_and_a_wrong_name_lists_the_shipped_ones():
    assert find_config("table2").name == "table2.yaml"
    assert find_config("configs/table2.yaml").name == "table2.yaml"
    for nothing in ("", ".", "/", "x" * 300):
        with pytest.raises(ConfigError):
            find_config(nothing)
    with pytest.raises(ConfigError, match=r"(?s)did you mean 'table2'.*one of: .*table1"):
        find_config("configs/tabel2.yaml")


def test_a_file_that_is_too_long_is_one_error(write, monkeypatch):
    path = write()
    monkeypatch.setattr(named_file, "LONGEST", len(STUDY))
    assert load_study(path).study == "tiny"
    monkeypatch.setattr(named_file, "LONGEST", len(STUDY) - 1)
    with pytest.raises(ConfigError, match=r"tiny.yaml .*: longer than \d+ characters"):
        load_study(path)
