"""What a search's file may say, and how it is read and checked."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nos_repro.errors import ConfigError, NosError, unknown
from nos_repro.experiments.device import DeviceSettings
from nos_repro.experiments.fit import SECTION
from nos_repro.experiments.load import LAUNCHER, task_keys, task_section
from nos_repro.experiments.matrices import check_only_matrices, of_matrices
from nos_repro.experiments.schema import check_language, check_name, title
from nos_repro.experiments.sections import NamedSection, merged_settings
from nos_repro.experiments.settings_file import check_shape, in_base, read_layers, structured
from nos_repro.optim.lookup import in_language, know_optimizer
from nos_repro.rules.space import SPACES, Space
from nos_repro.rules.tokens import OPERAND_TOKENS_2, UNARY_TOKENS_2
from nos_repro.rules.tree import Operand, Unary, walk
from nos_repro.search.algorithms import ALGORITHMS, Algorithm
from nos_repro.search.algorithms.base import ControllerSettings
from nos_repro.search.budget import Budget
from nos_repro.search.cascade import Cascade
from nos_repro.search.child import Child
from nos_repro.search.race import Race
from nos_repro.search.refusals import Refusals
from nos_repro.tasks.registry import find_metric

FREE = (
    *("samples", "children", "source", "claim", "note", "baselines", "race", "confirm", "launcher"),
    *("device", "filter"),
)
"""Settings that may change while a search is under way; what it finds does not depend on them."""


REDRAWS = ("always", "once", "never")


@dataclass(frozen=True)
class Confirm:
    """What `--confirm` trains again: the best rules and the baselines, with fresh seeds."""

    best: int = 10
    """How many of the best rules."""
    seeds: int = 5
    """Fresh seeds for each of them and for each baseline."""
    rates: list[float] = field(default_factory=list)
    """Learning rates that each of them tries (default: those of the child). Between the child's
    rates they tell a better rule from one with a factor that only puts its rate there."""
    against: str = ""
    """The name of a search at the same scale whose child differs in its `environment` alone: its
    best rules are trained here too, and all of them in its environment as well."""

    def __post_init__(self) -> None:
        for key in ("best", "seeds"):
            if getattr(self, key) < 1:
                raise ConfigError(f"confirm.{key} must be at least 1, got {getattr(self, key)}")
        if self.against:
            check_name("confirm.against", self.against)


@dataclass(frozen=True)
class Search:
    """A search: a space of rules, an algorithm that learns, and the child that scores a rule."""

    search: str
    """The name, and the folder of the log: `results/NAME/`."""
    space: dict[str, Any]
    """The rules to choose from: the `name` of a space, whose keys you may replace, or all keys of
    your own."""
    algorithm: dict[str, Any] = field(metadata=SECTION)
    """How strings are chosen and what is learned: an algorithm's `name` and its settings."""
    child: Child
    """What a rule trains to get its reward."""
    source: str = ""
    """The place in a paper that the search repeats."""
    claim: str = ""
    """What the search is to show, in one sentence."""
    controller: ControllerSettings = field(default_factory=ControllerSettings)
    """The LSTM that writes rules, of the algorithms that have one."""
    refuse: Refusals = field(default_factory=Refusals)
    """Which rules are not trained at all."""
    language: int = 1
    """The edition of the language that the space's words, and the baselines' rules, are of: 1, the
    papers', or 2."""
    canonical_sign: bool = False
    """Train a rule that never points downhill on the probes as its negative, if that passes
    them."""
    redraws: str = "always"
    """When a rule is drawn whose reward is known already, which costs nothing: whether the
    algorithm learns from it `always`, `once` (the first time), or `never`."""
    samples: int = 45_000
    """How many strings are drawn at most."""
    children: int = 0
    """How many different rules are trained in full at most, in the search itself; 0: any number.
    Rules that are refused, known, or stopped by the cascade do not count."""
    baselines: dict[str, str] = field(default_factory=dict)
    """Optimizers that are scored with the same child for comparison, by the name to print."""
    cascade: Cascade | None = None
    """Stages that a rule must pass before its child is trained in full; none: every child is."""
    race: Race | None = None
    """How the best rules are told apart at the end of the search; none: by their rewards alone."""
    confirm: Confirm = field(default_factory=Confirm)
    """What `--confirm` trains again."""
    seed: int = 0
    """The seed of the controller, its draws and the children."""
    device: DeviceSettings = field(default_factory=DeviceSettings)
    """How children use the device that they train on; the same keys as in a study."""
    launcher: dict[str, Any] = field(default_factory=dict, metadata=SECTION)
    """Where the children run; the same keys as in a study."""
    filter: dict[str, Any] = field(default_factory=dict)
    """How `--export-best` changes the study of the best rules (`search.filter`)."""
    note: str = ""
    """A remark, printed in the report."""
    scale: str = "paper"
    """Chosen with `--scale`, not in the file."""

    def __post_init__(self) -> None:
        check_name("search", self.search)
        check_language(self.language)
        if self.confirm.rates:
            try:
                dataclasses.replace(self.child, rates=self.confirm.rates)
            except ConfigError as error:
                raise ConfigError(str(error).replace("child.rates", "confirm.rates")) from None
        if self.confirm.against == self.search:
            raise ConfigError(f"confirm.against: name another search than {self.search} itself")
        if self.samples < 1:
            raise ConfigError(f"samples must be at least 1, got {self.samples}")
        if self.children < 0:
            raise ConfigError(f"children must be at least 0, got {self.children}")
        if self.redraws not in REDRAWS:
            raise ConfigError(unknown("value of redraws:", self.redraws, REDRAWS))
        if not 0 <= self.seed < 2**31:
            raise ConfigError(f"seed must be between 0 and 2^31, got {self.seed}")

    @property
    def title(self) -> str:
        """`search (002 sec. 3-4), scale small`."""
        return title(self.search, self.source, self.scale)

    @property
    def budget(self) -> Budget:
        """When the search is over."""
        return Budget(self.samples, self.children)

    def make_space(self) -> Space:
        """The space. Raises ConfigError if it breaks a constraint."""
        return space_of(self.space, self.language)

    @property
    def cheap(self) -> Child | None:
        """The cheap child of the cascade, if there is one."""
        return None if self.cascade is None else self.cascade.cheap

    def make_algorithm(self) -> Algorithm:
        """A new algorithm, which has learned nothing yet."""
        values = {key: value for key, value in self.algorithm.items() if key != "name"}
        kind = ALGORITHMS.find(self.algorithm["name"])
        return kind(
            self.make_space(), kind.Settings(**values), seed=self.seed, controller=self.controller
        )

    def completed(self, before: Any) -> Any:
        """The identity of an earlier search with what its version did not have yet: that had
        today's defaults."""
        if not isinstance(before, dict):
            return before
        algorithm = before.get("algorithm", self.algorithm)["name"]
        kind = ALGORITHMS.find(algorithm).Settings
        sections = {"algorithm": kind, "controller": ControllerSettings, "refuse": Refusals}
        complete = {**_defaults(Search), **before}
        for name, section in sections.items():
            if isinstance(complete.get(name), dict):
                complete[name] = {**_defaults(section), **complete[name]}
        if isinstance(complete.get("child"), dict):
            complete["child"] = completed_child(complete["child"])
        return {key: value for key, value in complete.items() if key not in FREE}

    def identity(self) -> dict[str, Any]:
        """The settings that decide what the search finds, as plain JSON values."""
        values = {k: v for k, v in dataclasses.asdict(self).items() if k not in FREE}
        plain: dict[str, Any] = json.loads(json.dumps(values))
        return plain


def completed_child(before: Mapping[str, Any]) -> dict[str, Any]:
    """A stored child with the settings, of its own and of its task, that have been added since: it
    had their defaults."""
    complete = {**_defaults(Child), **before}
    if isinstance(complete.get("task"), dict):
        known = task_section({"name": complete["task"]["name"]})
        complete["task"] = {**known, **complete["task"]}
    return complete


def _defaults(cls: Any) -> dict[str, Any]:
    """The plain values that the fields of a dataclass have by themselves."""
    plain = (bool, int, float, str, type(None))
    return {f.name: f.default for f in dataclasses.fields(cls) if isinstance(f.default, plain)}


def space_of(section: Mapping[str, Any], language: int = 1) -> Space:
    """The space that a section `space` declares, of words of this edition of the language. Raises
    ConfigError if it breaks a constraint."""
    given: dict[str, Any] = {
        key: tuple(map(str, value)) if isinstance(value, list) else value
        for key, value in section.items()
    }
    name = given.pop("name", None)
    own = given.pop("language", language)
    if own != language:
        raise ConfigError(f"space.language: {own}: write it beside the space, not in it")
    fields = [entry.name for entry in dataclasses.fields(Space) if entry.name != "language"]
    for key in given:
        if key not in fields:
            raise ConfigError(unknown("key of space:", key, ["name", *fields]))
    if name is not None:
        if name not in SPACES:
            raise ConfigError(unknown("space", str(name), SPACES))
        given = {**{f: getattr(SPACES[name], f) for f in fields}, **given}
    missing = [f for f in ("operands", "unary", "binary", "iterations") if f not in given]
    if missing:
        raise ConfigError(f"space: no {', '.join(missing)}; give them, or a name, one of: "
                          f"{' '.join(sorted(SPACES))}")  # fmt: skip
    return Space(**given, language=language)


def _algorithm_keys(name: str) -> set[str]:
    return {"name", *(entry.name for entry in dataclasses.fields(ALGORITHMS.find(name).Settings))}


SECTIONS = (
    NamedSection("algorithm", _algorithm_keys),
    NamedSection("child.task", task_keys, beside="child.sweep"),
    NamedSection("cascade.cheap.task", task_keys, beside="cascade.cheap.sweep"),
    LAUNCHER,
)


def load_search(
    path: Path, *, scale: str = "paper", overrides: Sequence[str] = (), trying: bool = True
) -> Search:
    """Reads, merges and checks a search's file; ``overrides`` are `key.path=value` words.
    ``trying``: as in `experiments.load.load_study`, for the baselines.

    Raises ConfigError (RuleError for a baseline's text) naming file, key and choice.
    """
    try:
        return _load(path, scale, overrides, trying)
    except NosError as error:
        said = in_base(path, error, lambda base: load_search(base, scale=scale, trying=trying))
        raise type(error)(f"{path} (scale {scale}): {said}") from None


def _load(path: Path, scale: str, overrides: Sequence[str], trying: bool) -> Search:
    files = read_layers(path)
    if "study" in files[-1]:
        raise ConfigError("a study, not a search: use `run`")
    if "table" in files[-1]:
        raise ConfigError("a table of rules, not a search: use `table`")
    merged = merged_settings(files, scale, overrides, SECTIONS)
    if "scale" in merged:
        raise ConfigError("scale: choose it with --scale, not in the file")
    mappings = (
        *("space", "algorithm", "child", "controller", "refuse", "baselines", "launcher", "filter"),
        "device",
    )
    check_shape(Search, merged, mappings)
    merged["scale"] = scale
    search: Search = structured(Search, merged, "")
    search = dataclasses.replace(
        search,
        child=checked_child(search.child, "child"),
        cascade=_cascade(search.cascade),
        algorithm=_algorithm(search.algorithm),
    )
    search.make_space()
    if trying:
        _check_matrices(search)
    check_optimizer = know_optimizer
    if trying:
        from nos_repro.optim.factory import check_optimizer
    baselines = dict(search.baselines)
    for name, optimizer in baselines.items():
        try:
            baselines[name] = in_language(optimizer, search.language)
            check_optimizer(baselines[name])
        except NosError as error:
            raise type(error)(f"baselines.{name}: {error}") from None
    return dataclasses.replace(search, baselines=baselines)


def _check_matrices(search: Search) -> None:
    """Raises ConfigError if rules of the space cannot update all parameters of a child."""
    words = [*search.make_space().operands, *search.make_space().unary]
    trees = [OPERAND_TOKENS_2[word] for word in words if word in OPERAND_TOKENS_2]
    trees += [Unary(UNARY_TOKENS_2[word][0], Operand("g")) for word in words
              if word in UNARY_TOKENS_2]  # fmt: skip
    for function in of_matrices(node for tree in trees for node in walk(tree)):
        for child in filter(None, (search.child, search.cheap)):
            try:
                check_only_matrices(function, child.task)
            except ConfigError as error:
                raise ConfigError(f"space: {error}") from None


def checked_child(child: Child, where: str) -> Child:
    """The child with its task's settings checked and defaults filled in; the sweep's are checked
    too."""
    task = task_section(child.task)
    if "name" in child.sweep:
        raise ConfigError(f"{where}.sweep: may change the task's settings, not its name")
    task_section({**task, **child.sweep})
    try:
        find_metric(task["name"]).check_rewards()
    except ConfigError as error:
        raise ConfigError(f"{where}.task: {task['name']}: {error}") from None
    return dataclasses.replace(child, task=task)


def _cascade(cascade: Cascade | None) -> Cascade | None:
    if cascade is None or cascade.cheap is None:
        return cascade
    return dataclasses.replace(cascade, cheap=checked_child(cascade.cheap, "cascade.cheap"))


def _algorithm(section: dict[str, Any]) -> dict[str, Any]:
    """The algorithm's section, checked, with all defaults filled in."""
    values = dict(section)
    name = values.pop("name", None)
    if not isinstance(name, str):
        raise ConfigError("algorithm.name: say how the search learns, e.g. name: ppo")
    settings = structured(ALGORITHMS.find(name).Settings, values, "algorithm")
    return {"name": name, **dataclasses.asdict(settings)}
