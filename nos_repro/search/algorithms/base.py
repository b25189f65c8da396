"""The contract of a search algorithm: it proposes strings of a space and learns from their rewards.

It registers itself; your own is named by its module: `algorithm: {name: my_package.mine}`. Those
that ship import torch when they are made: a report asks only for their settings.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from nos_repro.errors import ConfigError
from nos_repro.registry import Registry, require_methods
from nos_repro.rules.space import Space
from nos_repro.search.sample import Sample


class Proposal(NamedTuple):
    """A string of the space, and the log-probability of each of its words when it was drawn,
    rounded as in the log; none if the algorithm has no policy."""

    tokens: list[str]
    log_probs: list[float]


@dataclass(frozen=True)
class ControllerSettings:
    """Sec. 4.2: hidden size 150, weights from U(-0.08, 0.08)."""

    hidden: int = 150
    """Units of the LSTM."""
    init: float = 0.08
    """Weights start from U(-init, init)."""

    def __post_init__(self) -> None:
        if self.hidden < 1:
            raise ConfigError(f"controller.hidden must be at least 1, got {self.hidden}")
        if not self.init > 0:
            raise ConfigError(f"controller.init must be positive, got {self.init}")


@dataclass(frozen=True)
class AlgorithmSettings:
    """An algorithm without settings. Those with some derive theirs from this one."""


def require(holds: bool, key: str, rule: str, given: object) -> None:
    """Raises ConfigError `algorithm.KEY must be RULE, got GIVEN` unless the condition holds."""
    if not holds:
        raise ConfigError(f"algorithm.{key} must be {rule}, got {given}")


class Algorithm(ABC):
    """Proposes the strings of a search, and learns from their rewards.

    A search can be rebuilt from its log, which has the strings and the rewards: so `propose`
    changes nothing, and what is learned depends on the samples and rewards alone, in their order.

    space: what to choose from; settings: an instance of ``Settings``, the dataclass of the
    algorithm's section; seed: the search's; controller: for those that have an LSTM.
    """

    Settings: ClassVar[type[Any]] = AlgorithmSettings

    def __init__(
        self, space: Space, settings: Any, *, seed: int, controller: ControllerSettings
    ) -> None:
        self.space = space
        self.settings = settings
        self.seed = seed

    @abstractmethod
    def propose(self, number: int, open: Mapping[int, Sample]) -> Proposal:
        """The string of sample ``number``. It depends only on the state, the seed, the number and
        ``open``, the samples that still wait for their rewards. `search.sample.mixed` makes a seed
        from the search's and the number."""

    @abstractmethod
    def learn(self, sample: Sample, reward: float) -> dict[str, float] | None:
        """Takes a sample's reward. Returns figures by name if that changed the policy; the log
        shows them as an update. Rewards may come in any order, long after the proposals."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """All that the next proposals and updates depend on, besides what the algorithm was made
        with; of plain values and tensors."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over a `state_dict`."""


def _is_algorithm(thing: object) -> bool:
    return isinstance(thing, type) and issubclass(thing, Algorithm)


def _check(name: str, cls: Any) -> None:
    what = f"algorithm {name}"
    if not _is_algorithm(cls):
        raise ConfigError(f"{what}: expected a class derived from Algorithm, got {cls!r}")
    if not dataclasses.is_dataclass(cls.Settings):
        raise ConfigError(f"{what}: Settings of {cls.__name__} must be a dataclass")
    require_methods(what, cls, Algorithm)


ALGORITHMS: Registry[type[Algorithm]] = Registry(
    "algorithm",
    "nos_repro.search.algorithms",
    check=_check,
    recognise=_is_algorithm,
    key="algorithm.name",
)
"""Its decorator makes `algorithm: {name: NAME}` mean the Algorithm that it is put on."""
