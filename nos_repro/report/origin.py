"""Where a report's numbers come from: settings, code, machines, seeds, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence

from nos_repro.experiments.record import STATUSES, Record
from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import Outcome


def origin(study: Study, outcomes: Sequence[Outcome]) -> list[str]:
    """The provenance of every record that the report rests on, in a few lines."""
    by_id = {record.id: record for outcome in outcomes for record in outcome.records}
    records = [by_id[key] for key in sorted(by_id)]
    lines = [f"Study {study.study}, scale {study.scale}: {_counted(records)}."]
    if records:
        seeds = ", ".join(map(str, sorted({int(record.trial["seed"]) for record in records})))
        hours = sum(record.seconds for record in records) / 3600
        lines += [
            f"Seeds {seeds}; {hours:.2f} hours of compute in all.",
            f"Commit {_said(records, 'commit')}; {_versions(records)}; Python"
            f" {_said(records, 'python')}.",
            f"Hardware: {_said(records, 'device')}; threads a trial: {_said(records, 'threads')}.",
        ]
    return lines


def _counted(records: Sequence[Record]) -> str:
    kinds = [record.status for record in records]
    parts = [f"{kinds.count(kind)} {kind}" for kind in STATUSES if kind in kinds]
    return f"{len(kinds)} trials" + (f" ({', '.join(parts)})" if parts else "")


def _said(records: Sequence[Record], key: str) -> str:
    """What the records say under a key of their provenance: each value once."""
    return ", ".join(sorted({str(r.provenance.get(key) or "unknown") for r in records}))


def _versions(records: Sequence[Record]) -> str:
    named = {
        f"{name} {version}"
        for record in records
        for name, version in record.provenance.get("libraries", {}).items()
    }
    return ", ".join(sorted(named)) or "versions unknown"
