"""What an arena's file may say, and how it is read and checked."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from nos_repro.errors import ConfigError, NosError, unknown
from nos_repro.experiments.schema import check_name
from nos_repro.experiments.settings_file import check_shape, read_mapping, structured
from nos_repro.experiments.yaml_text import numbers
from nos_repro.rules.space import Space
from nos_repro.search.algorithms import ALGORITHMS
from nos_repro.search.algorithms.base import ControllerSettings
from nos_repro.search.settings import REDRAWS


@dataclass(frozen=True)
class Contestant:
    """An algorithm with its settings, and those to choose from."""

    algorithm: dict[str, Any]
    """The algorithm's `name` and settings, as in a search."""
    grid: dict[str, Any] = field(default_factory=dict)
    """Settings of the algorithm that are tuned, each with its values: every combination is tried on
    the tuning table."""
    space: dict[str, Any] = field(default_factory=dict)
    """Constraints of the space that differ from the table's, such as `no_final_keep_left`."""
    controller: ControllerSettings = field(default_factory=ControllerSettings)
    """The LSTM of those that have one."""
    redraws: str = "always"
    """When a rule is drawn again: whether a policy gradient learns from it `always`, `once` (the
    first time), or `never`, as in a search."""
    seeds: int | None = None
    """Fewer seeds than the arena's, for an algorithm that is slow itself."""
    children: int | None = None
    """A smaller budget than the arena's largest, for an algorithm that is slow itself."""
    note: str = ""
    """A remark, printed in the report."""

    def __post_init__(self) -> None:
        for key in ("seeds", "children"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise ConfigError(f"{key} must be at least 1, got {value}")
        if self.redraws not in REDRAWS:
            raise ConfigError(unknown("value of redraws:", self.redraws, REDRAWS))
        for key, values in self.grid.items():
            if not isinstance(values, list) or not values:
                raise ConfigError(f"grid.{key}: expected a list of values, got {values!r}")

    def configurations(self) -> list[dict[str, Any]]:
        """The algorithm's section for every combination of the grid, in its order."""
        combinations = itertools.product(*self.grid.values())
        return [
            {**self.algorithm, **dict(zip(self.grid, values, strict=True))}
            for values in combinations
        ]


@dataclass(frozen=True)
class Tuning:
    """How the settings of each algorithm are chosen."""

    table: str
    """The table to tune on; its runs do not count."""
    task: str
    """The task of that table."""
    configurations: int
    """How many combinations the grid of each algorithm has; equal for all that have a grid."""
    seeds: int = 10
    """Seeds of each combination."""
    children: int = 512
    """The budget of each run."""

    def __post_init__(self) -> None:
        for key in ("configurations", "seeds", "children"):
            if getattr(self, key) < 1:
                raise ConfigError(f"tuning.{key} must be at least 1, got {getattr(self, key)}")


@dataclass(frozen=True)
class Arena:
    """Algorithms, a table to search, and the budgets at which they are compared."""

    arena: str
    """The name, and the folder of its records: `results/arena/NAME/`."""
    table: str
    """The table to search: one in `results/nosbench/`, or a path."""
    task: str
    """The table's task whose rewards are searched."""
    rows: dict[str, dict[str, Any]]
    """The algorithms, by the name to print."""
    reference: str = "random"
    """The row to which the others are compared."""
    tuning: Tuning | None = None
    """How settings are chosen; none: every row says its own."""
    budgets: list[int] = field(default_factory=lambda: [128, 512, 2048])
    """Children at which the best rule so far is shown; the largest ends a run."""
    seeds: int = 100
    """Runs of each algorithm."""
    first_seed: int = 0
    """The seed of the first run, the others follow: an arena that is to decide what another one has
    left open plays fresh seeds."""
    draws: int = 10
    """A run that has not spent its children ends at this many strings for each of them."""
    patience: int = 1000
    """A run that draws this many strings in a row without a new child ends: its policy has
    settled."""
    top: list[float] = field(default_factory=lambda: [0.01, 0.001])
    """Shares of the table's rules, best first: how many children until one of them is found?"""
    converged: float = 0.1
    """A policy has converged when the mean reward of its last 100 strings is at least that of this
    share of the rules, best first."""
    claim: str = ""
    """What the arena is to show, in one sentence."""
    note: str = ""
    """A remark, printed in the report."""

    def __post_init__(self) -> None:
        check_name("arena", self.arena)
        for key in ("seeds", "draws", "patience"):
            if getattr(self, key) < 1:
                raise ConfigError(f"{key} must be at least 1, got {getattr(self, key)}")
        if self.first_seed < 0:
            raise ConfigError(f"first_seed must not be negative, got {self.first_seed}")
        if not self.top:
            raise ConfigError("top must name at least one share, such as [0.01, 0.001]")
        if not self.budgets or min(self.budgets) < 1 or sorted(self.budgets) != self.budgets:
            raise ConfigError(f"budgets must be children, fewest first, got {self.budgets}")
        for key, shares in (("top", self.top), ("converged", [self.converged])):
            if not all(0 < share < 1 for share in shares):
                raise ConfigError(f"{key} must be shares between 0 and 1, got {shares}")

    def contestants(self) -> dict[str, Contestant]:
        """The rows, checked. Raises ConfigError, which names the row."""
        found: dict[str, Contestant] = {}
        for name, row in self.rows.items():
            try:
                found[name] = _contestant(row)
            except NosError as error:
                raise type(error)(f"rows.{name}: {error}") from None
        if self.reference not in found:
            raise ConfigError(f"reference: {unknown('row', self.reference, found)}")
        for name, contestant in found.items():
            tried = len(contestant.configurations())
            wanted = tried if self.tuning is None else self.tuning.configurations
            if contestant.grid and tried != wanted:
                raise ConfigError(
                    f"rows.{name}.grid has {tried} combinations, and tuning.configurations is"
                    f" {wanted}: every algorithm is tuned alike"
                )
        return found


def _contestant(row: Any) -> Contestant:
    if not isinstance(row, dict):
        raise ConfigError(f"expected a mapping with an algorithm, got {row!r}")
    given = dict(row)
    if isinstance(given.get("algorithm"), str):
        given["algorithm"] = {"name": given["algorithm"]}
    check_shape(Contestant, given, ("algorithm", "grid", "space", "controller"))
    contestant: Contestant = structured(Contestant, given, "")
    found = [algorithm_section(section) for section in contestant.configurations()]
    known = [entry.name for entry in dataclasses.fields(Space) if isinstance(entry.default, bool)]
    for key, value in contestant.space.items():
        if key not in known:
            raise ConfigError(f"space.{key}: {unknown('constraint', key, known)}")
        if not isinstance(value, bool):
            raise ConfigError(f"space.{key} must be true or false, got {value!r}")
    return dataclasses.replace(contestant, algorithm={**found[0], **contestant.algorithm})


def algorithm_section(section: dict[str, Any]) -> dict[str, Any]:
    """An algorithm's section, checked, with all defaults filled in."""
    values = dict(section)
    name = values.pop("name", None)
    if not isinstance(name, str):
        raise ConfigError("algorithm.name: say how to search, e.g. name: evolution")
    settings = structured(ALGORITHMS.find(name).Settings, values, "algorithm")
    return {"name": name, **dataclasses.asdict(settings)}


def shipped_arenas() -> dict[str, Path]:
    """The files of arenas that ship with the package, by the arenas' names."""
    package = Path(str(resources.files("nos_repro")))
    folders = (package.parent / "configs" / "arena", package / "configs" / "arena")
    found = {file.stem: file for folder in folders for file in folder.glob("*.yaml")}
    return dict(sorted(found.items()))


def find_arena(given: str) -> Path:
    """The arena's file that ``given`` names: a path, or the name of one that ships."""
    path = Path(given)
    if path.is_file():
        return path
    known = shipped_arenas()
    if path.stem in known and path.parent in (Path(), Path("configs"), Path("configs/arena")):
        return known[path.stem]
    raise ConfigError(f"{given}: no such file; {unknown('arena', path.stem, known)}")


def load_arena(path: Path) -> Arena:
    """Reads and checks an arena's file. Raises ConfigError, which names file, key and choice."""
    try:
        values = numbers(read_mapping(path))
        if "arena" not in values:
            raise ConfigError("not an arena: it has no key `arena`, its name")
        check_shape(Arena, values, ("rows", "tuning"))
        arena: Arena = structured(Arena, values, "")
        arena.contestants()
    except NosError as error:
        raise type(error)(f"{path}: {error}") from None
    return arena
