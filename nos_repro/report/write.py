"""The files of a report: a study's table and figure, each with where its numbers come from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nos_repro.experiments.files import write_atomically
from nos_repro.experiments.record import STATUSES, Record
from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import Outcome
from nos_repro.report.layout import escape_latex, escape_markdown
from nos_repro.report.table import study_table


def write_report(study: Study, outcomes: Sequence[Outcome], root: Path) -> list[Path]:
    """Writes the report's files into ``root`` (`results/<study>/<scale>`); returns their paths.

    The bytes depend on the study, its records, and whether the records are stale. Raises
    StoreError where the disk refuses.
    """
    paths = []
    for name, data in report_files(study, outcomes).items():
        write_atomically(root / name, data)
        paths.append(root / name)
    return paths


def report_files(study: Study, outcomes: Sequence[Outcome]) -> dict[str, bytes]:
    """The files of a report by name, as `write_report` writes them."""
    return tables(study, outcomes)


def tables(study: Study, outcomes: Sequence[Outcome]) -> dict[str, bytes]:
    """`table.md` and `table.tex`."""
    table, origin = study_table(study, outcomes), provenance_lines(study, outcomes)
    markdown = [table.markdown(), "", *(f"- {escape_markdown(line)}" for line in origin)]
    latex = [table.latex(), *(escape_latex(line) + r"\par" for line in origin)]
    return {
        "table.md": ("\n".join(markdown) + "\n").encode(),
        "table.tex": ("\n".join(latex) + "\n").encode(),
    }


def provenance_lines(study: Study, outcomes: Sequence[Outcome]) -> list[str]:
    """Where the numbers come from: settings, code, machines, seeds, and what they cost."""
    by_id = {record.id: record for outcome in outcomes for record in outcome.records}
    records = [by_id[key] for key in sorted(by_id)]
    lines = [f"Study {study.study}, scale {study.scale}: {_counted(records)}."]
    if records:
        seeds = sorted({int(record.trial["seed"]) for record in records})
        hours = sum(record.seconds for record in records) / 3600
        lines += [
            f"Seeds {', '.join(map(str, seeds))}; {hours:.2f} hours of compute in all.",
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
