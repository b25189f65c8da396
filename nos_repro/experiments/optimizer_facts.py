"""Which optimizer made a trial's numbers, if it does not ship: its class, package and options."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from nos_repro.extras import installed_versions
from nos_repro.optim.lookup import alone, find_optimizer

NO_NUMBERS = "says what a record rests on (experiments.digest)"


def facts_of(
    name: str, options: Mapping[str, Any], optimizer: Any, starts_over: str
) -> dict[str, Any]:
    """What the provenance of a record says of an ``optimizer``, made of a row's name and options,
    if it does not ship; of all parts if it is several in one."""
    if name != "split" and all(find_optimizer(part).ships for _, part, _ in alone(name, options)):
        return {}
    over = {"starts_over": starts_over} if starts_over else {}
    return {"optimizers": [_facts(part) for part in _parts(optimizer)], **over}


def _parts(optimizer: Any) -> Iterator[Any]:
    inner = getattr(optimizer, "inner", None)
    if type(optimizer).__module__ == "nos_repro.optim.split":
        for part in optimizer.parts if inner is None else [inner]:
            yield from _parts(part)
    else:
        yield optimizer


def _facts(optimizer: Any) -> dict[str, Any]:
    cls = type(optimizer)
    package = cls.__module__.partition(".")[0]
    options = {
        key: _plain(value)
        for key, value in optimizer.defaults.items()
        if key != "lr" and not key.startswith("_")
    }
    return {
        "class": f"{cls.__module__}.{cls.__qualname__}",
        "package": package,
        "version": package_version(package),
        "options": options,
    }


def _plain(value: Any) -> Any:
    """A value as JSON can hold it."""
    if isinstance(value, str | bool | int | None) or (
        isinstance(value, float) and math.isfinite(value)
    ):
        return value
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return repr(value)


@functools.cache
def package_version(package: str) -> str:
    """The version of what brings a top-level package; "" if that is not known."""
    found = installed_versions((package,))
    return found.get(package, str(getattr(sys.modules.get(package), "__version__", "")))


def facts_lines(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """A line for each optimizer in these provenances, with its package's version."""
    lines: dict[str, None] = {}
    for facts in (each for provenance in records for each in provenance.get("optimizers", [])):
        options = ", ".join(
            f"{k} {v}" for k, v in facts.get("options", {}).items() if v is not None
        )
        made = f"{facts.get('package')} {facts.get('version') or '(no version)'}"
        lines[f"Optimizer {facts.get('class')} of {made}: {options or 'no options'}."] = None
    return list(lines)


def other_versions(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """Packages whose version is another one here than when these records were made."""
    found: dict[str, None] = {}
    for facts in (each for provenance in records for each in provenance.get("optimizers", [])):
        package, made = str(facts.get("package")), str(facts.get("version"))
        here = package_version(package)
        if here != made:
            found[f"{package} {made or '(no version)'} made records, here it is"
                  f" {here or 'not installed'}"] = None  # fmt: skip
    return list(found)
