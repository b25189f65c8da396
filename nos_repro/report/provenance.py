"""Where a report's numbers come from: settings, code, machines, seeds, and what they cost."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from nos_repro.experiments.record import STATUSES, Record
from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import Outcome

LETTERS = 170
"""Of a line below a figure that is 9.6 inches wide."""


def small_print(lines: Sequence[str]) -> list[str]:
    """The lines as they fit below a figure."""
    return [part for line in lines for part in textwrap.wrap(line, LETTERS) or [""]]


def origin(study: Study, outcomes: Sequence[Outcome]) -> list[str]:
    """The provenance of every record that the report rests on, in a few lines."""
    by_id = {record.id: record for outcome in outcomes for record in outcome.records}
    records = list(by_id.values())
    lines = [f"Study {study.study}, scale {study.scale}: {_counted(records)}."]
    if records:
        seeds = ", ".join(map(str, sorted({int(record.trial["seed"]) for record in records})))
        hours = math.fsum(record.seconds for record in records) / 3600
        lines += [
            f"Seeds {seeds}; {hours:.2f} hours of compute in all.",
            *machines([record.provenance for record in records], "trial"),
        ]
    return lines


def machines(found: Sequence[Mapping[str, Any]], what: str) -> list[str]:
    """The commits, versions and hardware in these provenances, each value once."""
    found = list({orjson.dumps(each): each for each in found}.values())  # thousands are alike
    return [
        f"Commit {_said(found, 'commit')}; {_versions(found)}; Python {_said(found, 'python')}.",
        f"Hardware: {_said(found, 'device')}; threads per {what}: {_said(found, 'threads')}.",
    ]


def _counted(records: Sequence[Record]) -> str:
    kinds = [record.status for record in records]
    parts = [f"{kinds.count(kind)} {kind}" for kind in STATUSES if kind in kinds]
    return f"{len(kinds)} trials" + (f" ({', '.join(parts)})" if parts else "")


def _said(found: Sequence[Mapping[str, Any]], key: str) -> str:
    return ", ".join(sorted({str(provenance.get(key) or "unknown") for provenance in found}))


def _versions(found: Sequence[Mapping[str, Any]]) -> str:
    named = {
        f"{name} {version}"
        for provenance in found
        for name, version in provenance.get("libraries", {}).items()
    }
    return ", ".join(sorted(named)) or "versions unknown"
