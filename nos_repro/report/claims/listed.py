"""The list of claims: `claims.yaml`, read and checked."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from importlib import resources
from typing import Any

import yaml

from nos_repro.errors import ConfigError, unknown
from nos_repro.report.claims.kinds import KINDS, Test


@dataclass(frozen=True)
class Place:
    """Where a paper (002: arXiv, 000: ICML) says it: section, page of the PDF, table or figure."""

    paper: str
    section: str
    page: int | None = None
    at: str = ""

    def __str__(self) -> str:
        section = self.section if self.section.startswith("abstract") else f"sec. {self.section}"
        page = f"p. {self.page}" if self.page is not None else ""
        return ", ".join(filter(None, (f"{self.paper} {section}", self.at, page)))


@dataclass(frozen=True)
class Claim:
    """A claim in the paper's sense, if not its words; ``test`` or the reason why it has none."""

    id: str
    says: str
    where: tuple[Place, ...]
    test: Test | None = None
    untested: str = ""

    @property
    def place(self) -> str:
        return "; ".join(map(str, self.where))


@functools.cache
def claims() -> tuple[Claim, ...]:
    """All claims, in the order of the papers."""
    text = resources.files("nos_repro.report.claims").joinpath("claims.yaml").read_text("utf-8")
    return tuple(read_claim(entry) for entry in yaml.safe_load(text))


def read_claim(entry: dict[str, Any]) -> Claim:
    """Raises ConfigError for what is no claim."""
    where = tuple(Place(**place) for place in entry["where"])
    known = {"id": entry["id"], "says": entry["says"], "where": where}
    if ("test" in entry) == ("untested" in entry):
        raise ConfigError(f"claim {entry['id']}: give it either a test or the reason for none")
    if "untested" in entry:
        return Claim(**known, untested=entry["untested"])
    values = dict(entry["test"])
    kind = values.pop("kind")
    if kind not in KINDS:
        raise ConfigError(f"claim {entry['id']}: {unknown('kind of test', kind, KINDS)}")
    cls = KINDS[kind]
    names = [field.name for field in dataclasses.fields(cls)]
    for key in values:
        if key not in names:
            raise ConfigError(f"claim {entry['id']}: {unknown('key', key, names)}")
    return Claim(**known, test=cls(**values))


def find_claim(id_: str) -> Claim:
    """Raises ConfigError, with the nearest spelling."""
    by_id = {claim.id: claim for claim in claims()}
    if id_ not in by_id:
        raise ConfigError(unknown("claim", id_, by_id))
    return by_id[id_]
