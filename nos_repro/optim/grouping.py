"""Which parameters an optimizer's settings mean: kinds, patterns of names, and what they make.

optimizer: {name: adam, groups: {no_decay: [norms, biases], rates: {embeddings: 0.1}}}
optimizer: {split: {matrices: torch.optim.Muon, rest: {name: torch.optim.AdamW, eps: 1e-6}}}
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from nos_repro.errors import ConfigError, unknown

# fmt: off
KINDS = {
    "matrices":   "weights of two dimensions that are of no other kind",
    "kernels":    "weights of three and more dimensions, such as a convolution's",
    "embeddings": "the weights of `nn.Embedding`, and matrices with `embed` in their name",
    "heads":      "the weights of the output layer: the model's last, or those that the task names",
    "norms":      "vectors and numbers that are no biases, such as the gains of norms",
    "biases":     "vectors whose name begins with `bias`, those of norms too",
}
"""What a parameter can be; each is of one kind."""
# fmt: on
REST = "rest"
EXAMPLE = "{matrices: torch.optim.Muon, rest: torch.optim.AdamW}"
ELSEWHERE = {
    "lr": "it is the row's, and groups.rates multiplies it",
    "total_steps": "it follows from training.epochs",
    "seed": "a row has one of its own",
    "params": "the task brings them",
    "split": "a part cannot be split again",
    "groups": "they belong beside split",
}
"""What cannot be an option of a part, and where it is set instead."""


class NamedShape(NamedTuple):
    """A parameter: its ``name`` in the model, its ``kind`` ("" if nobody knows), its ``shape``."""

    name: str
    kind: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Part:
    """An optimizer of a split. ``label`` says which parameters it gets; with ``flatten`` it sees
    each of them as a matrix, with one row per output."""

    label: str
    name: str
    options: dict[str, Any] = field(default_factory=dict)
    flatten: bool = False


@dataclass(frozen=True)
class Groups:
    """What differs among parameters: whose weights do not decay, and the factors of the rate."""

    no_decay: list[str] = field(default_factory=list)
    rates: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Assigned:
    """A parameter group: the numbers of its ``members``, all of one part, rate and decay."""

    part: Part
    rate: float
    decays: bool
    members: list[int]


def parts_of(split: Any) -> list[Part]:
    """The optimizers that a setting `split` names. Raises ConfigError."""
    if not isinstance(split, Mapping) or not split:
        raise ConfigError(f"split: expected parameters and their optimizers, e.g. {EXAMPLE}")
    return [_part(str(label), value) for label, value in split.items()]


def _part(label: str, value: Any) -> Part:
    where = f"split.{label}"
    given = {"name": value} if isinstance(value, str) else value
    if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
        raise ConfigError(f"{where}: expected an optimizer's name, or {{name: ...}} with options")
    options = {str(key): part for key, part in given.items() if key != "name"}
    for key, instead in ELSEWHERE.items():
        if key in options:
            raise ConfigError(f"{where}: '{key}' cannot be set for a part: {instead}")
    flatten = options.pop("flatten", False)
    if not isinstance(flatten, bool):
        raise ConfigError(f"{where}.flatten: expected true or false, got {flatten!r}")
    return Part(label, given["name"], options, flatten)


def groups_of(groups: Any) -> Groups:
    """A setting `groups`, checked. Raises ConfigError."""
    if groups is None:
        return Groups()
    if not isinstance(groups, Mapping):
        raise ConfigError("groups: expected no_decay and rates, e.g. {no_decay: [norms, biases]}")
    for key in groups:
        if key not in ("no_decay", "rates"):
            raise ConfigError(f"groups: {unknown('key', str(key), ('no_decay', 'rates'))}")
    no_decay, rates = groups.get("no_decay", []), groups.get("rates", {})
    if not isinstance(no_decay, list | tuple) or not all(isinstance(k, str) for k in no_decay):
        raise ConfigError(f"groups.no_decay: expected a list, e.g. [norms, biases], got {no_decay}")
    if not isinstance(rates, Mapping):
        raise ConfigError(f"groups.rates: expected factors, e.g. {{heads: 0.1}}, got {rates!r}")
    for key, rate in rates.items():
        if type(rate) not in (int, float) or not 0 < rate < math.inf:
            raise ConfigError(f"groups.rates.{key} must be a finite number > 0, got {rate!r}")
    return Groups(list(no_decay), {str(key): float(rate) for key, rate in rates.items()})


def assigned(parts: Sequence[Part], groups: Groups, named: Sequence[NamedShape]) -> list[Assigned]:
    """The parameter groups of a model, part by part; in each, those at the row's own rate first.

    Raises ConfigError for a pattern or a part that gets no parameter, for a parameter that several
    claim, and for one that no part gets.
    """
    owners = _claims([part.label for part in parts], named, "split", each=True)
    if None in owners:
        left = [p.name for p, owner in zip(named, owners, strict=True) if owner is None]
        raise ConfigError(
            f"split: {len(left)} parameters are in no part, such as {left[0]}\n"
            "  add one that gets the rest, e.g. rest: torch.optim.AdamW"
        )
    rates = _claims(groups.rates, named, "groups.rates")
    bare = {i for key in groups.no_decay for i in _matching(key, named, "groups.no_decay")}
    found = []
    for part in parts:
        members: dict[tuple[float, bool], list[int]] = {}
        for i, owner in enumerate(owners):
            if owner == part.label:
                rate = groups.rates.get(rates[i] or "", 1.0)
                members.setdefault((rate, i not in bare), []).append(i)
        ordered = sorted(members.items(), key=lambda item: item[0][0] != 1)
        found += [Assigned(part, rate, decays, who) for (rate, decays), who in ordered]
    return found


def _claims(
    keys: Iterable[str], named: Sequence[NamedShape], where: str, *, each: bool = False
) -> list[str | None]:
    """For every parameter the key that claims it; None if none does. ``each`` key must get one."""
    owners: list[str | None] = [None] * len(named)
    keys = list(keys)
    for key in keys:
        matching = _matching(key, named, where) if key != REST else []
        if each and not matching and key != REST:
            have = ", ".join(f"{n} {kind}" for kind, n in Counter(p.kind for p in named).items())
            raise ConfigError(f"{where}.{key}: the model has no {key}; it has {have}")
        for i in matching:
            if owners[i] is not None:
                raise ConfigError(
                    f"{where}: {named[i].name} is claimed twice, by '{owners[i]}' and '{key}'"
                )
            owners[i] = key
    if REST in keys:
        if each and None not in owners:
            raise ConfigError(f"{where}.{REST}: no parameter is left for it")
        owners = [REST if owner is None else owner for owner in owners]
    return owners


def _matching(key: str, named: Sequence[NamedShape], where: str) -> list[int]:
    """The numbers of the parameters that a kind or a pattern means."""
    if key in KINDS:
        if unmarked := [p.name for p in named if not p.kind]:
            raise ConfigError(
                f"{where}: nobody has said of which kind {unmarked[0]} is\n"
                "  call nos_repro.optim.kinds.mark_kinds(model) first"
            )
        return [i for i, p in enumerate(named) if p.kind == key]
    matching = [i for i, p in enumerate(named) if fnmatchcase(p.name, key)]
    if not matching:
        choice = [*KINDS, *([REST] if where == "split" else [])]
        raise ConfigError(
            f"{where}: no parameter's name matches '{key}', such as {named[0].name}; and\n"
            + unknown("kind", key, choice)
        )
    return matching
