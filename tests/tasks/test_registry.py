"""Tasks by name, the package's own and those of others."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from nos_repro.errors import ConfigError
from nos_repro.tasks import TASKS
from nos_repro.tasks.base import TaskData
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
    assert {"convnet", "wide_resnet", "rosenbrock"} <= set(TASKS.names())
    assert TASKS.find("convnet") is ConvNet


def test_an_unknown_task_gets_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="unknown task 'widersnet'\n  did you mean 'wide_resnet'"):
        TASKS.find("widersnet")


def test_a_third_partys_module_needs_to_hold_one_task(package: Path) -> None:
    (package / "valley_package").mkdir()
    (package / "valley_package" / "valley.py").write_text(PLUGIN)
    task = TASKS.find("valley_package.valley")
    assert task.__name__ == "Valley"
    assert task.chance(task.Settings()) == 409


def test_a_module_without_a_task_is_an_error(package: Path) -> None:
    (package / "empty_package").mkdir()
    (package / "empty_package" / "nothing.py").write_text("")
    with pytest.raises(ConfigError, match=r"empty_package\.nothing must define one task, not 0"):
        TASKS.find("empty_package.nothing")


def test_a_missing_module_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"task\.name: no Python module 'no_such\.module'"):
        TASKS.find("no_such.module")


def test_an_error_inside_a_third_partys_module_is_one_line_that_says_where(package: Path) -> None:
    (package / "broken_package").mkdir()
    (package / "broken_package" / "task.py").write_text("import a_module_that_is_missing")
    with pytest.raises(ConfigError, match=r"'a_module_that_is_missing' \(task\.py, line 1\)$"):
        TASKS.find("broken_package.task")


def test_a_task_lists_what_its_settings_name() -> None:
    settings = ConvNet.Settings(data="digits")
    assert ConvNet.code(settings) == ("nos_repro.data.digits:read_digits",)


LACKING = """
from dataclasses import dataclass
from nos_repro.tasks.base import Task
from nos_repro.tasks.rosenbrock import Rosenbrock

@dataclass(frozen=True)
class Settings: ...

class NoSettings(Task): ...

class NoMeasures(Task):
    Settings = Settings

class Twice(Rosenbrock):
    measures = Rosenbrock.measures * 2

class BadLabel(Rosenbrock):
    label = "a valley from {strat}"

class Half(Task):
    Settings = Settings
    measures = Rosenbrock.measures

    @classmethod
    def make_data(cls, settings, data_dir): ...

    @classmethod
    def chance(cls, settings): ...

    def training_step(self, batch, batch_idx=0): ...

    @staticmethod
    def metrics(sums): ...
"""


def test_what_a_task_lacks_is_reported_with_the_signature_when_it_is_found(package: Path) -> None:
    (package / "lacking_package").mkdir()
    (package / "lacking_package" / "tasks.py").write_text(LACKING)
    with pytest.raises(ConfigError) as error:
        TASKS.find("lacking_package.tasks.Half")
    assert str(error.value) == (
        "task lacking_package.tasks.Half: Half has @classmethod make_data(cls, settings, data_dir),"
        " expected @classmethod make_data(cls, settings: Any, *, data_dir: Path, seed: int) -> "
        "TaskData\n  Half lacks evaluation_sums(self, batch: Any) -> dict[str, Tensor]"
    )
    with pytest.raises(ConfigError, match=r"NoSettings lacks Settings, the dataclass"):
        TASKS.find("lacking_package.tasks.NoSettings")
    with pytest.raises(ConfigError, match=r"NoMeasures lacks measures: tuple\[Metric, \.\.\.\]"):
        TASKS.find("lacking_package.tasks.NoMeasures")
    with pytest.raises(ConfigError, match="Twice measures a metric twice: loss loss"):
        TASKS.find("lacking_package.tasks.Twice")
    with pytest.raises(ConfigError, match="unknown setting 'strat'\n  did you mean 'start'"):
        TASKS.find("lacking_package.tasks.BadLabel")
    with pytest.raises(ConfigError, match="expected a class derived from Task, got <class 'int'>"):
        TASKS.find("builtins.int")


def test_what_a_task_s_data_lacks_is_reported_before_anything_is_read() -> None:
    class Half(TaskData):
        steps_per_epoch = 3

        def train_batches(self, epoch: int) -> Iterator[int]:
            yield epoch

        def test_batches(self) -> Iterator[int]:
            yield 0

    with pytest.raises(ConfigError) as error:
        Half()
    assert str(error.value) == (
        f"data {__name__}: Half has train_batches(self, epoch: int) -> "
        "collections.abc.Iterator[int], expected train_batches(self, epoch: int, start: int = 0) "
        "-> Iterator[Any]\n  Half lacks val_batches(self) -> Iterator[Any]"
    )
