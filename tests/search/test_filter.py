"""`--export-best`: the best rules of a search as a study of long runs, on the search's own task."""

import pytest

from nos_repro.cli import main
from nos_repro.errors import ConfigError
from nos_repro.experiments.load import load_study
from nos_repro.search.filter import export_study
from nos_repro.search.hall import best_rules
from nos_repro.search.settings import load_search
from tests.conftest import ROOT
from tests.search.helpers import loop, tiny_search


def exported(tmp_path, **changes):
    search = tiny_search(baselines={"SGD": "sgd", "Adam": "adam"}, **changes)
    folder = tmp_path / "tiny" / "smoke"
    loop(folder, search=search).run()
    rules, scale = export_study(search, folder, 3, tmp_path / "filter.yaml")
    assert (rules, scale) == (3, "smoke")
    return load_study(tmp_path / "filter.yaml", scale=scale), best_rules(folder, 3)


def test_the_filter_of_a_search_trains_its_own_task_longer(tmp_path):
    study, best = exported(tmp_path)
    child = tiny_search().child
    assert study.task == child.task
    assert study.training.epochs == 8 * child.epochs
    assert study.halving.rungs == [1, 2, 4]
    assert [row.optimizer for row in study.rows.values()] == [
        *(f"rule: {entry.text}" for entry in best),
        "sgd",
        "adam",
    ]
    assert study.figure["metric"] == "val_accuracy"


def test_its_section_makes_the_filter_longer_and_the_network_larger(tmp_path):
    section = {"task": {"train_images": 300}, "training": {"epochs": 40}, "schedule": "cosine"}
    study, _ = exported(tmp_path, filter=section)
    assert study.task["train_images"] == 300
    assert study.task["data"] == "digits"
    assert (study.training.epochs, study.halving.rungs) == (40, [5, 10, 20])
    assert study.schedule == "cosine"


def test_a_section_that_makes_no_study_is_one_error(tmp_path):
    with pytest.raises(ConfigError, match=r"the section `filter` of the search makes no study"):
        exported(tmp_path, filter={"training": {"epochs": -1}})


def test_a_misspelt_key_of_the_section_is_refused_before_anything_trains(tmp_path, capsys):
    words = ["search", "configs/search.yaml", "--scale", "smoke", "--results", str(tmp_path / "r")]
    assert main([*words, "filter.trainig={epochs: 3}"]) == 2
    assert "did you mean 'training'" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("name", ["search", "search_icml"])
def test_the_papers_searches_filter_on_a_wide_resnet(name):
    assert load_search(ROOT / "configs" / f"{name}.yaml").filter == {"base": "filter"}
