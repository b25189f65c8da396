"""The files of a report: a study's table and figure, each with where its numbers come from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nos_repro.experiments.files import write_atomically
from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import Outcome
from nos_repro.report.figures.base import draw
from nos_repro.report.layout import escape_latex, escape_markdown
from nos_repro.report.provenance import origin
from nos_repro.report.study.table import study_table


def write_report(study: Study, outcomes: Sequence[Outcome], root: Path) -> list[Path]:
    """Writes the report's files into ``root`` (`results/<study>/<scale>`); returns their paths.

    The bytes depend on the study, its records, and whether the records are stale; those of the
    figures on matplotlib's version too. Raises StoreError where the disk refuses.
    """
    files = tables(study, outcomes) | figures(study, outcomes)
    for name, data in files.items():
        write_atomically(root / name, data)
    return [root / name for name in files]


def tables(study: Study, outcomes: Sequence[Outcome]) -> dict[str, bytes]:
    """`table.md` and `table.tex`."""
    table, lines = study_table(study, outcomes), origin(study, outcomes)
    markdown = [table.markdown(), "", *(f"- {escape_markdown(line)}" for line in lines)]
    latex = [table.latex(), *(escape_latex(line) + r"\par" for line in lines)]
    return {
        "table.md": ("\n".join(markdown) + "\n").encode(),
        "table.tex": ("\n".join(latex) + "\n").encode(),
    }


def figures(study: Study, outcomes: Sequence[Outcome]) -> dict[str, bytes]:
    """`figure.png` and `figure.svg`, where the study declares a figure."""
    from nos_repro.report.drawing import encode

    figure = draw(study, outcomes)
    if figure is None:
        return {}
    return {"figure.png": encode(figure, "png"), "figure.svg": encode(figure, "svg")}
