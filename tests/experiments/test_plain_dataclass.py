"""Settings made without OmegaConf are those that OmegaConf makes."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from nos_repro.errors import ConfigError
from nos_repro.experiments.fit import fitted
from nos_repro.experiments.layers import scales_of
from nos_repro.experiments.plain_dataclass import is_plain, make
from nos_repro.experiments.schema import Study
from nos_repro.experiments.sections import merged_settings
from nos_repro.experiments.settings_file import read_layers, read_values, shipped, structured
from nos_repro.tasks.registry import FACTS, describe

STUDIES = [path for path in shipped().values() if "study" in read_values(path)]
FILE = {"study": "tiny", "task": {"name": "convnet"}, "rows": {"SGD": {"optimizer": "sgd"}},
        "sweep": {"lr": [1, 0.5]}}  # fmt: skip


def by_omegaconf(cls: Any, values: dict[str, Any]) -> Any:
    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(cls), values))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_that_ships_is_made_as_omegaconf_makes_it(path: Path) -> None:
    for scale in scales_of(read_values(path)):
        given = fitted(Study, merged_settings(read_layers(path), scale))
        assert is_plain(Study, given)
        assert repr(make(Study, given)) == repr(by_omegaconf(Study, given))


TASKS = [describe(name).Settings for name in FACTS.names()]


@pytest.mark.parametrize("cls", TASKS, ids=lambda cls: cls.__qualname__)
def test_a_task_s_settings_are_made_as_omegaconf_makes_them(cls: Any) -> None:
    assert repr(make(cls, {})) == repr(by_omegaconf(cls, {}))


def test_a_whole_number_for_a_float_and_an_empty_section_are_those_of_omegaconf() -> None:
    row = {"optimizer": "sgd", "paper": {"best_test": 90}, "options": {"a": [1, {"b": None}]}}
    more = {"rows": {"SGD": row}, "halving": {"rungs": [1], "keep": 1}, "training": {"epochs": 2}}
    given = fitted(Study, {**FILE, **more, "selection": {}, "figure": None})
    assert repr(make(Study, given)) == repr(by_omegaconf(Study, given))


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"trainin": {}}, "trainin"),
        ({"training": {"epoch": 2}}, "training.epoch"),
        ({"rows": {"a b": {"optimizer": "sgd", "optoins": {}}}}, "rows.a b.optoins"),
        ({"halving": {"rung": [1]}}, "halving.rung"),
    ],
)
def test_a_key_that_omegaconf_refuses_is_refused_with_its_path(
    changes: dict[str, Any], key: str
) -> None:
    given = fitted(Study, {**FILE, **changes})
    with pytest.raises(Exception, match="not in") as theirs:
        by_omegaconf(Study, given)
    assert theirs.value.full_key == key
    with pytest.raises(ConfigError) as ours:
        structured(Study, {**FILE, **changes}, "")
    assert str(ours.value).startswith(f"{key}: ")
    assert "did you mean" in str(ours.value)


@dataclass
class Outside:
    """What OmegaConf knows and a plain dataclass does not have."""

    folder: Path = Path(".")


@dataclass
class Wrong:
    number: int = "one"  # type: ignore[assignment]


@dataclass
class Whole:
    rate: float = 1


@dataclass
class Required:
    name: str


@dataclass
class Inner:
    ones: list[Required] = field(default_factory=list)


@pytest.mark.parametrize("cls", [Outside, Wrong, Whole, Required, Inner])
def test_whatever_else_a_dataclass_says_is_left_to_omegaconf(cls: type) -> None:
    assert not is_plain(cls, {"ones": [{}]} if cls is Inner else {})


@dataclass
class Pair:
    ends: tuple[float, float] = (0.0, 1.0)
    names: tuple[str, ...] = ("a",)


def test_a_list_becomes_a_tuple_of_the_length_that_the_field_has() -> None:
    assert is_plain(Pair, {})
    given = fitted(Pair, {"ends": [1, "1e5"], "names": []})
    assert repr(make(Pair, given)) == repr(by_omegaconf(Pair, given))
    with pytest.raises(ConfigError, match=r"^task.ends: expected a list of 2 values, got \[1\]$"):
        structured(Pair, {"ends": [1]}, "task")


@dataclass
class Part:
    number: int = 1


@dataclass
class Parts:
    parts: list[Part] = field(default_factory=list)


def test_a_key_is_refused_in_a_list_of_sections_too() -> None:
    assert make(Parts, {"parts": [{"number": 2}]}) == by_omegaconf(
        Parts, {"parts": [{"number": 2}]}
    )
    with pytest.raises(ConfigError, match=r"^task.parts\[1\].numbr: "):
        make(Parts, {"parts": [{}, {"numbr": 2}]}, "task")


def test_settings_that_are_not_plain_are_still_made() -> None:
    assert structured(Outside, {"folder": "data"}, "task") == Outside(Path("data"))
    assert repr(structured(Whole, {}, "task")) == repr(by_omegaconf(Whole, {}))
    with pytest.raises(ConfigError, match="number"):
        structured(Wrong, {}, "task")
    assert dataclasses.asdict(structured(Required, {"name": "a"}, "")) == {"name": "a"}
