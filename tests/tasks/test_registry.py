"""Tasks by name, the package's and other people's."""

from pathlib import Path

import pytest

from nos_repro.errors import ConfigError
from nos_repro.tasks import TASKS, find_task, list_tasks
from nos_repro.tasks.convnet import ConvNet

PLUGIN = """
from nos_repro.tasks.rosenbrock import Rosenbrock

class Valley(Rosenbrock):
    pass
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_the_packages_tasks_are_found_by_name() -> None:
    assert {"convnet", "wide_resnet", "rosenbrock"} <= set(list_tasks()) == set(TASKS)
    assert find_task("convnet") is ConvNet


def test_an_unknown_task_gets_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="unknown task 'widersnet'\n  did you mean 'wide_resnet'"):
        find_task("widersnet")


def test_a_third_partys_module_needs_to_hold_one_task(package: Path) -> None:
    (package / "valley_package").mkdir()
    (package / "valley_package" / "valley.py").write_text(PLUGIN)
    task = find_task("valley_package.valley")
    assert task.__name__ == "Valley"
    assert task.chance(task.Settings()) == 409


def test_a_module_without_a_task_is_an_error(package: Path) -> None:
    (package / "empty_package").mkdir()
    (package / "empty_package" / "nothing.py").write_text("")
    with pytest.raises(ConfigError, match=r"empty_package\.nothing must define one Task, not 0"):
        find_task("empty_package.nothing")


def test_a_module_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"task\.name: no Python module 'no_such\.module'"):
        find_task("no_such.module")


def test_an_error_inside_a_third_partys_module_is_shown_as_it_is(package: Path) -> None:
    (package / "broken_package").mkdir()
    (package / "broken_package" / "task.py").write_text("import a_module_that_is_missing")
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_missing"):
        find_task("broken_package.task")


def test_a_task_tells_the_modules_that_decide_its_numbers() -> None:
    settings = ConvNet.Settings(data="digits")
    assert ConvNet.code(settings) == ("nos_repro.tasks.convnet", "nos_repro.data.digits")
