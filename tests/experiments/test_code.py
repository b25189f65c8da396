"""A record is stale exactly if code that its trial executes has changed: copies of this package."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest

import nos_repro
from nos_repro.experiments import code
from nos_repro.experiments.build import Conditions
from nos_repro.experiments.code import trial_code, trial_roots
from nos_repro.experiments.digest import Sources
from nos_repro.experiments.load import load_study
from nos_repro.experiments.record import Record
from nos_repro.experiments.schema import Row, Selection
from nos_repro.experiments.selection import is_stale, outcomes
from nos_repro.experiments.settings_file import shipped
from nos_repro.experiments.source import ALWAYS
from nos_repro.experiments.store import Store
from nos_repro.launch.local import InProcess
from nos_repro.launch.run import run_study
from tests.experiments.helpers import digits_study

PACKAGE = Path(nos_repro.__file__).parent
ROOT = "nos_repro."

Roots = tuple[tuple[str, ...], str]
Trial = dict[str, object]


@pytest.fixture(scope="module")
def trials(committed: Path) -> dict[Roots, Trial]:
    """Of the trials with a committed record one for each set of roots."""
    files = sorted(committed.glob("*/*/records.jsonl"))
    every = [orjson.loads(line)["trial"] for f in files for line in f.read_bytes().splitlines()]
    return {trial_roots(trial): trial for trial in every}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package."""
    copy = tmp_path / "nos_repro"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "*.yaml", "*.html"))
    return copy


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="module")
def now(trials: dict[Roots, Trial], kept: Path) -> dict[Roots, str]:
    """Each trial's digest as the code is."""
    return _digests(Sources(kept=kept), trials)


def _digests(
    sources: Sources, trials: dict[Roots, Trial], rename: Callable[[str], str] = str
) -> dict[Roots, str]:
    return {
        (roots, rule): sources.digest([rename(root) for root in roots], rule)
        for roots, rule in trials
    }


def changed(
    package: Path, kept: Path, trials: dict[Roots, Trial], now: dict[Roots, str]
) -> list[Trial]:
    """The trials whose digest in the copy is another."""
    then = _digests(Sources({"nos_repro": package}, kept=kept), trials)
    return [trial for roots, trial in trials.items() if then[roots] != now[roots]]


def rewrite(package: Path, module: str, old: str, new: str) -> None:
    path = package.joinpath(*module.split(".")).with_suffix(".py")
    source = path.read_text("utf-8")
    assert source.count(old) == 1, f"{old!r} must be in {module} once"
    path.write_text(source.replace(old, new), "utf-8")


# fmt: off
RENAMED = {
    "rules.primitives":           "words",
    "optim.schedules":            "rates",
    "optim.program":              "lowered",
    "data.images":                "pictures_by_name",
    "tasks.classification":       "classifying",
    "experiments.training":       "loop",
    "launch.local":               "here",
    "search.controller":          "writer",
    "tracking.metrics":           "figures",
    "report.layout":              "arrangement",
}
# fmt: on


def test_renaming_a_module_of_each_room_and_adding_a_function_leaves_every_digest(
    package: Path, kept: Path, trials: dict[Roots, Trial], now: dict[Roots, str]
) -> None:
    dotted = {f"nos_repro.{old}": _renamed(old) for old in RENAMED}
    pattern = re.compile(rf"({'|'.join(map(re.escape, dotted))})\b")

    def rename(text: str) -> str:
        return pattern.sub(lambda found: dotted[found[0]], text)

    for old in RENAMED:
        path = package.joinpath(*old.split(".")).with_suffix(".py")
        moved = package.joinpath(*_renamed(old).split(".")[1:]).with_suffix(".py")
        path.rename(moved)
        room, _, name = old.rpartition(".")
        alias = re.compile(rf"from nos_repro\.{room} import {name}\b")
        new = _renamed(old).rpartition(".")[2]
        for source in package.rglob("*.py"):
            text = source.read_text("utf-8")
            source.write_text(
                alias.sub(f"from nos_repro.{room} import {new} as {name}", text), "utf-8"
            )
    for source in package.rglob("*.py"):
        text = rename(source.read_text("utf-8"))
        more = (
            "" if source.name == "__init__.py" else "\n\ndef nobody_calls_this():\n    return 1\n"
        )
        source.write_text(text + more, "utf-8")
    then = _digests(Sources({"nos_repro": package}, kept=kept), trials, rename)
    assert then == now


def _renamed(module: str) -> str:
    return f"nos_repro.{module.rpartition('.')[0]}.{RENAMED[module]}"


def everything(trial: Trial) -> bool:
    return True


# fmt: off
CHANGES = {
    "the training loop":   ("experiments.training", "CHECK_EVERY = 25", "CHECK_EVERY = 26",
                            everything),
    "a schedule":          ("optim.schedules", "0.5 * (1 + math.cos(2 *", "0.6 * (1 + math.cos(2 *",
                            lambda t: "cosine" in str(t["schedule"])),
    "a baseline":          ("optim.baselines", "nesterov: bool = False,", "nesterov: bool = True,",
                            lambda t: t["optimizer"] == "momentum"),
    "a task":              ("tasks.convnet", "padding=1", "padding=2",
                            lambda t: t["task"] == "convnet"),
    "what two tasks share": ("tasks.classification", "EVALUATION_BATCH = 500",
                             "EVALUATION_BATCH = 400",
                             lambda t: t["task"] in ("convnet", "wide_resnet")),
    "a word of rules":     ("rules.primitives", '"torch.sign", ', '"torch.sgn", ',
                            lambda t: "sign" in str(t["optimizer"])),
    "the rules' parser":   ("rules.parse", "def parse(text: str)",
                            "def parse(text: str, more: int = 1)",
                            lambda t: t["optimizer"] not in BASELINES),
    "the rules' compiler": ("optim.program", "def lower(expr: Expr, states",
                            "def lower(expr: Expr, more: int = 1, states",
                            lambda t: t["optimizer"] not in BASELINES),
}
# fmt: on
BASELINES = ("sgd", "momentum", "adam", "adam-tf", "rmsprop", "rmsprop-tf")


@pytest.mark.parametrize(("module", "old", "new", "made"), CHANGES.values(), ids=CHANGES)
def test_a_change_shows_exactly_the_records_that_it_made(
    package: Path,
    kept: Path,
    trials: dict[Roots, Trial],
    now: dict[Roots, str],
    module: str,
    old: str,
    new: str,
    made: Callable[[Trial], bool],
) -> None:
    rewrite(package, module, old, new)
    found = changed(package, kept, trials, now)
    assert found == [trial for trial in trials.values() if made(trial)]
    assert found


# fmt: off
DISPLAY = {
    "how a rule is printed in LaTeX": ("rules.latex", "def print_latex(", "def print_latex_("),
    "how rules are grouped":          ("rules.normal", "def normal_form(", "def normal_form_("),
    "an error's words":               ("errors", "in all)", "altogether)"),
    "what the catalogue prints":      ("rules.catalog", "def printed_at(", "def printed_at_("),
}
# fmt: on


@pytest.mark.parametrize(("module", "old", "new"), DISPLAY.values(), ids=DISPLAY)
def test_what_only_prints_or_compares_leaves_every_digest(
    package: Path,
    kept: Path,
    trials: dict[Roots, Trial],
    now: dict[Roots, str],
    module: str,
    old: str,
    new: str,
) -> None:
    rewrite(package, module, old, new)
    assert changed(package, kept, trials, now) == []


def test_a_record_whose_plug_in_is_not_here_is_stale(trials: dict[Roots, Trial]) -> None:
    trial = dict(next(iter(trials.values())))
    today = trial_code(trial)
    record = Record("1", "finished", trial, "accuracy", "max", [], 0, 0.0, 0.0, 0.0, today)
    assert not is_stale(record)
    for key in ("task", "optimizer", "schedule"):
        gone = {**trial, key: "gone.away"}
        assert is_stale(dataclasses.replace(record, trial=gone)), key


BROKEN = ["def oops(:", "raise RuntimeError('at import')", "import no_such_module", "1 / 0"]


@pytest.mark.parametrize("text", BROKEN)
def test_a_record_whose_plug_in_is_broken_is_stale(
    trials: dict[Roots, Trial], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "plug_in.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    trial = dict(next(iter(trials.values())))
    record = Record("1", "finished", trial, "accuracy", "max", [], 0, 0.0, 0.0, 0.0, "0" * 12)
    for key in ("task", "optimizer", "schedule"):
        odd = {**trial, key: "broken.plug_in"}
        assert is_stale(dataclasses.replace(record, trial=odd)), key


def test_no_committed_record_that_a_table_is_made_of_is_stale(committed: Path) -> None:
    stale = []
    for path in sorted(committed.glob("*/*/records.jsonl")):
        name, scale = path.parts[-3:-1]
        study = load_study(shipped()[name], scale=scale)
        rows = outcomes(study, Store(committed, study.study, scale))
        stale += [f"{name}, {scale}: {row.name}" for row in rows if row.stale]
    assert not stale, "train them again: `verify`"


# fmt: off
OF_TRAINER = {  # Lightning calls these under `pl.Trainer` alone, which trains no trial
    "prepare_data", "train_dataloader", "val_dataloader", "test_dataloader",
    "validation_step", "test_step", "on_validation_epoch_end", "on_test_epoch_end",
}
OF_ENGINE = {   # the engine asks for these by name, where it needs them
    "configure_optimizers", "training_step", "step", "state_dict", "load_state_dict",
    "add_param_group",
}
# fmt: on


def test_what_a_library_calls_by_itself_counts_if_it_is_overridden() -> None:
    """An override that is in none of these lists would be executed, and no digest would show it."""
    found = set()
    for room in ("data", "tasks", "optim", "experiments"):
        folder = importlib.import_module(f"nos_repro.{room}")
        for module in pkgutil.iter_modules(folder.__path__, f"{folder.__name__}."):
            for cls in vars(importlib.import_module(module.name)).values():
                if isinstance(cls, type) and cls.__module__ == module.name:
                    found |= set(_overrides(cls))
    changes_no_number = {"emit"}  # of logging
    changes_no_number |= {"readable", "seekable", "seek", "readinto"}  # of a file: passed on
    assert {"forward", "get_lr"} <= found <= ALWAYS | OF_TRAINER | OF_ENGINE | changes_no_number


def _overrides(cls: type) -> Iterator[str]:
    """Its own public methods that a library's base has too."""
    foreign = [b for b in cls.__mro__ if b is not object and not b.__module__.startswith(ROOT)]
    for name, value in vars(cls).items():
        plain = getattr(value, "__func__", value)
        shared = any(name in vars(base) for base in foreign)
        if shared and not name.startswith("_") and inspect.isfunction(plain):
            yield name


def test_a_change_in_a_plug_ins_helper_shows_exactly_the_records_that_it_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "ramps"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "steps.py").write_text("SHARE = 0.25\n\n\ndef unused():\n    return 1\n")
    (package / "ramp.py").write_text(
        "from nos_repro.optim import SCHEDULES\n"
        "from ramps.steps import SHARE\n\n\n"
        "@SCHEDULES.register('ramp')\n"
        "def ramp(*, total_steps):\n"
        "    return lambda t: min(1.0, (t + 1) / (SHARE * total_steps))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    rows = {"plain": Row("sgd"), "ramped": Row("sgd", schedule="ramps.ramp")}
    study = digits_study(rows, selection=Selection())
    store = Store(tmp_path, study.study, study.scale)
    assert run_study(study, store, InProcess(), Conditions(tmp_path)) == 0

    def stale() -> set[str]:
        code.code_digest.cache_clear()  # as another process sees it
        code._kept.cache_clear()
        return {row.name for row in outcomes(study, store) if row.stale}

    rewrite(package, "steps", "return 1", "return 2")
    assert stale() == set()
    rewrite(package, "steps", "SHARE = 0.25", "SHARE = 0.5")
    assert stale() == {"ramped"}
    rewrite(package, "steps", "SHARE = 0.5", "SHARE = 0.25  # as it was")
    assert stale() == set()
