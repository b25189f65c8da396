"""A search's file: what is wrong is said before anything runs."""

import dataclasses

import pytest

from nos_repro.errors import NosError
from nos_repro.rules.space import SPACES
from nos_repro.search.settings import load_search
from tests.conftest import ROOT

CONFIGS = ROOT / "configs"


def test_the_paper_s_scale_is_the_paper_s():
    """002 sec. 4.2, word for word."""
    search = load_search(CONFIGS / "search.yaml")
    settings = search.algorithm_settings()
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
        ("child.task.head=poool", "head"),
        ("child.sweep={head: poool}", "head"),
        ("child.sweep={name: wide_resnet}", "not which one it is"),
        ("child.epoch=3", "did you mean 'epochs'"),
        ("baselines.Adamm=adamm", "did you mean 'adam'"),
        ("samples=0", "samples must be at least 1"),
        ("seed=-1", "seed must be between"),
        ("refuse.constants=false", "did you mean 'constant'"),
        ("controller.hidden=0", "controller.hidden"),
        ("confirm.seeds=0", "confirm.seeds"),
        ("scale=small", "chosen with --scale"),
    ],
)
def test_a_mistake_names_the_file_the_key_and_the_nearest_fix(override, words):
    with pytest.raises(NosError) as caught:
        load_search(CONFIGS / "search.yaml", overrides=[override])
    assert words in str(caught.value)
    assert "search.yaml" in str(caught.value)


def test_a_study_is_no_search():
    with pytest.raises(NosError, match="use `run`"):
        load_search(CONFIGS / "table2.yaml")
