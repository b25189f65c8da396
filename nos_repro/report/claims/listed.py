"""Lists of claims, read and checked: the papers' (`claims.yaml`), what goes beyond them
(`beyond.yaml`), and files of a user's own."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from nos_repro.errors import ConfigError, NosError, unknown
from nos_repro.experiments.fit import shown
from nos_repro.experiments.named_file import read_named
from nos_repro.experiments.yaml_text import numbers, read_yaml
from nos_repro.report.claims.check import check_keys, make
from nos_repro.report.claims.kinds.base import CLAIM_TESTS, ClaimTest

TEXTS = ("id", "says")


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
    """A claim as the paper means it, not always in its words; its ``test``, or why it has none."""

    id: str
    says: str
    where: tuple[Place | str, ...]
    test: ClaimTest | None = None
    untested: str = ""

    @property
    def place(self) -> str:
        return "; ".join(map(str, self.where))


@functools.cache
def claims() -> tuple[Claim, ...]:
    """What the papers claim, in their order."""
    return _shipped("claims.yaml")


@functools.cache
def beyond() -> tuple[Claim, ...]:
    """What the papers hope for and do not try: none of their claims."""
    return _shipped("beyond.yaml")


def _shipped(name: str) -> tuple[Claim, ...]:
    return read_claims(Path(str(resources.files("nos_repro.report.claims"))) / name)


def read_claims(path: Path) -> tuple[Claim, ...]:
    """The claims of a file. Raises ConfigError, naming file, claim and key."""
    try:
        entries = numbers(read_yaml(read_named(path)))
        if not isinstance(entries, list):
            raise ConfigError("not a list of claims: expected entries with id, says, test")
        listed = tuple(read_claim(entry) for entry in entries)
        twice = [name for name, n in Counter(claim.id for claim in listed).items() if n > 1]
        if twice:
            raise ConfigError(f"claim {twice[0]} is there twice; give one of them another id")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except NosError as error:
        raise type(error)(f"{path}: {error}") from None
    return listed


def read_claim(entry: Any) -> Claim:
    """Raises ConfigError for what is not a claim."""
    what = f"claim {entry.get('id', '?') if isinstance(entry, dict) else repr(entry)}"
    if not isinstance(entry, dict):
        raise ConfigError(f"{what}: expected a mapping with the texts {', '.join(TEXTS)}")
    check_keys(entry, (*TEXTS, "where", "test", "untested"), what)
    for key in TEXTS:
        if not isinstance(entry.get(key), str):
            texts = f"a mapping with the texts {', '.join(TEXTS)}"
            raise ConfigError(f"{what}: expected {texts}; {key} is {shown(entry.get(key))}")
    where = entry.get("where", [])
    places = [where] if isinstance(where, str) else where
    if not isinstance(places, list):
        raise ConfigError(f"{what}.where: expected a text or a list, got {where!r}")
    said = [p if isinstance(p, str) else make(Place, p, f"{what}.where") for p in places]
    known: dict[str, Any] = {"id": entry["id"], "says": entry["says"], "where": tuple(said)}
    if ("test" in entry) == ("untested" in entry):
        raise ConfigError(f"{what}: give it either a test or the reason for none")
    if "untested" in entry:
        return Claim(**known, untested=str(entry["untested"]))
    values = entry["test"]
    if not isinstance(values, dict) or "kind" not in values:
        raise ConfigError(f"{what}.test: say which kind; one of: {' '.join(CLAIM_TESTS.names())}")
    try:
        kind = CLAIM_TESTS.find(str(values["kind"]), "test.kind")
    except ConfigError as error:
        raise ConfigError(f"{what}: {error}") from None
    values = {key: value for key, value in values.items() if key != "kind"}
    return Claim(**known, test=make(kind, values, f"{what}.test"))


def find_claim(id_: str, listed: Sequence[Claim] | None = None) -> Claim:
    """One of those listed (default: all that ship). Raises ConfigError, with the nearest
    spelling."""
    known = (*claims(), *beyond()) if listed is None else listed
    by_id = {claim.id: claim for claim in known}
    if id_ not in by_id:
        raise ConfigError(unknown("claim", id_, by_id))
    return by_id[id_]
