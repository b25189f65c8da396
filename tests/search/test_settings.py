"""A search's file: mistakes are reported before anything runs."""

import dataclasses
import re

import pytest

from nos_repro.errors import NosError
from nos_repro.report.search.confirmation import decays_of
from nos_repro.rules.space import SPACES
from nos_repro.search.settings import load_search
from nos_repro.search.table.settings import load_table_settings
from tests.conftest import ROOT

CONFIGS = ROOT / "configs"


def test_the_paper_scale_has_the_paper_s_settings():
    """002 sec. 4.2, word by word."""
    search = load_search(CONFIGS / "search.yaml")
    settings = search.make_algorithm().settings
    assert (settings.lr, settings.batch, settings.entropy) == (1e-5, 5, 0.0015)
    assert (search.controller.hidden, search.controller.init) == (150, 0.08)
    assert search.samples == 45_000
    child = search.child
    assert child.rates == pytest.approx([10.0**i for i in range(-5, 2)])
    assert (child.sweep_epochs, child.epochs) == (1, 5)
    assert child.sweep == {"train_images": 10_000}
    assert (child.task["name"], child.task["data"], child.task["batch_size"]) == (
        "convnet", "cifar10", 100,
    )  # fmt: skip
    assert child.task["validation_images"] in (None, 5_000)
    assert 1e6 <= search.make_space().size <= 1e11


def test_the_icml_search_has_the_icml_words_and_trpo():
    search = load_search(CONFIGS / "search_icml.yaml")
    space = search.make_space()
    assert search.algorithm["name"] == "trpo"
    assert not {"2", "ld", "cd", "rd10", "rd20", "annealed_noise"} & set(space.operands)
    assert "sqrt" not in space.unary
    assert "**" not in space.binary
    assert 1e6 <= space.size <= 1e10


@pytest.mark.parametrize("name", ["search", "search_icml"])
@pytest.mark.parametrize("scale", ["paper", "small"])
def test_the_spaces_have_the_papers_sizes(name, scale):
    assert 1e6 <= load_search(CONFIGS / f"{name}.yaml", scale=scale).make_space().size <= 1e11


def test_a_space_is_a_name_with_fields_replaced():
    search = load_search(CONFIGS / "search.yaml", overrides=["space.iterations=1"])
    assert search.make_space() == dataclasses.replace(SPACES["arxiv-2"], iterations=1)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("algorithm.name=pop", "did you mean 'ppo'"),
        ("algorithm.clipp=0.1", "did you mean 'clip'"),
        ("algorithm.batch=0", "algorithm.batch must be at least 1"),
        ("algorithm.lr=-1", "algorithm.lr must be positive"),
        ("space.name=arxiv-5", "did you mean 'arxiv-"),
        ("space.operand=[g]", "did you mean 'operands'"),
        ("space.operands=[g, mm]", "did you mean"),
        ("space.iterations=5", "1 to 4 iterations"),
        ("child.rates=[]", "child.rates"),
        ("confirm.rates=[0.1, -1.0]", "confirm.rates must be positive"),
        ("child.task.head=poool", "head"),
        ("child.sweep={head: poool}", "head"),
        ("child.sweep={name: wide_resnet}", "not its name"),
        ("child.epoch=3", "did you mean 'epochs'"),
        ("baselines.Adamm=adamm", "did you mean 'adam'"),
        ("samples=0", "samples must be at least 1"),
        ("seed=-1", "seed must be between"),
        ("refuse.constants=false", "did you mean 'constant'"),
        ("controller.hidden=0", "controller.hidden"),
        ("confirm.seeds=0", "confirm.seeds"),
        ("scale=small", "choose it with --scale"),
    ],
)
def test_a_mistake_names_the_file_the_key_and_the_nearest_fix(override, words):
    with pytest.raises(NosError) as caught:
        load_search(CONFIGS / "search.yaml", overrides=[override])
    assert words in str(caught.value)
    assert "search.yaml" in str(caught.value)


def test_a_study_is_not_a_search():
    with pytest.raises(NosError, match="use `run`"):
        load_search(CONFIGS / "table2.yaml")


def test_another_algorithm_drops_the_keys_that_only_the_old_one_has(caplog):
    search = load_search(CONFIGS / "search.yaml", overrides=["algorithm.name=random"])
    assert search.algorithm["name"] == "random"
    assert search.algorithm == {"name": "random"}
    (record,) = caplog.records
    assert record.getMessage().startswith(
        "algorithm.name=random leaves out what the file says for ppo: algorithm."
    )
    assert {"lr", "batch", "entropy"} <= set(re.findall(r"algorithm\.(\w+)", record.getMessage()))


def test_the_new_algorithm_s_keys_are_checked_in_any_order():
    for words in (["name=random", "lr=0.1"], ["lr=0.1", "name=random"]):
        with pytest.raises(NosError, match=r"algorithm\.lr: unknown key"):
            load_search(CONFIGS / "search.yaml", overrides=[f"algorithm.{word}" for word in words])
    trpo = load_search(
        CONFIGS / "search.yaml", overrides=["algorithm=trpo", "algorithm.max_kl=0.02"]
    )
    assert trpo.algorithm["max_kl"] == 0.02


def test_a_scale_s_keys_are_those_of_its_own_algorithm(tmp_path, caplog):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "{base: search, search: mine, scales: {medium: {algorithm: {clip: 0.1, queue: 3}},"
        " large: {algorithm: {name: evolution, tournament: 2}}}}"
    )
    medium = load_search(path, scale="medium", overrides=["algorithm.name=trpo"])
    assert medium.algorithm["queue"] == 3
    assert len(caplog.records) == 1
    assert load_search(path, scale="large").algorithm["tournament"] == 2
    assert load_search(path, scale="large", overrides=["algorithm=random"]).algorithm == {
        "name": "random"
    }


def test_a_misspelt_key_is_an_error_if_its_algorithm_runs(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text((CONFIGS / "search.yaml").read_text().replace("batch: 5", "bacth: 5"))
    with pytest.raises(NosError, match="did you mean 'batch'"):
        load_search(path)
    assert load_search(path, overrides=["algorithm.name=reinforce"]).algorithm["batch"] == 5


def test_another_task_drops_the_keys_that_only_the_old_one_has(caplog):
    words = ["child.task.name=rosenbrock"]
    search = load_search(CONFIGS / "search.yaml", overrides=words)
    assert search.child.task["name"] == "rosenbrock"
    assert search.child.sweep == {}
    assert "child.task.head" in caplog.text
    assert "child.sweep.train_images" in caplog.text


def test_a_search_is_laid_over_another(tmp_path, caplog):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "{base: search, search: mine, algorithm: reinforce, baselines: {SGD: null},"
        " scales: {medium: {samples: 300}}}"
    )
    medium = load_search(path, scale="medium")
    assert (medium.search, medium.samples, medium.algorithm["name"]) == ("mine", 300, "reinforce")
    assert (medium.algorithm["lr"], "clip" in medium.algorithm) == (1e-5, False)
    assert "SGD" not in medium.baselines
    small = load_search(path, scale="small").algorithm
    assert (small["name"], small["lr"]) == ("reinforce", 1e-5), "the file's, not its base's scale's"
    path.write_text("{base: search, search: mine, algorithm: random}")
    for scale in ("paper", "small", "smoke"):
        assert load_search(path, scale=scale).algorithm == {"name": "random"}
    assert not caplog.records  # not given on the command line


@pytest.mark.parametrize("scale", ["paper", "small"])
def test_every_decay_that_a_rule_may_have_is_given_to_baselines(scale):
    """So that a rule which owes its lead to a decay is compared with others that have it."""
    search = load_search(CONFIGS / "search.yaml", scale=scale)
    decays = {"ld", "cd"} & set(search.make_space().operands)
    have = [decays_of(text) for text in search.baselines.values()]
    for wanted in (set(), {"ld"}, {"cd"}, decays):
        assert sum(given == wanted for given in have) >= 2


def test_the_small_searches_have_a_cascade_and_a_race_and_the_papers_have_none():
    for name in ("search", "search_icml"):
        small = load_search(CONFIGS / f"{name}.yaml", scale="small")
        assert small.cascade.stages == ["cheap", "sweep"]
        assert small.cheap.task["name"] == "mlp"
        assert small.race.best == 20
        paper = load_search(CONFIGS / f"{name}.yaml")
        assert (paper.cascade, paper.race) == (None, None)
        table = load_table_settings(CONFIGS / "nosbench" / "signs.yaml")
        assert small.cheap == table.tasks["digits"].child
