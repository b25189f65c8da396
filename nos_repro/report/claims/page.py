"""The claims as a table, and one of them in full."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence

from nos_repro.report.claims.evidence import VERDICTS, Effect
from nos_repro.report.claims.judge import Judged
from nos_repro.report.claims.listed import beyond
from nos_repro.report.layout import Cell, Column, ReportTable, plain, text_width

TITLE = "What the papers claim, and what the records say of it"
BEYOND = "Beyond the papers: what they hope for and do not try"


def claims_tables(
    judged: Sequence[Judged], more: Sequence[Judged], title: str = TITLE
) -> list[ReportTable]:
    """One line per claim and scale; ``more`` go beyond the papers and are counted apart."""
    tables = [_claims_table(judged, title, NOTES)]
    return [*tables, _claims_table(more, BEYOND, [])] if more else tables


def _claims_table(judged: Sequence[Judged], title: str, notes: list[str]) -> ReportTable:
    columns = [Column(title) for title in ("claim", "", "where", "scale", "verdict", "by")]
    rows = []
    for each in judged:
        for number, finding in enumerate(each.findings):
            claim = each.claim
            first = (claim.id, claim.says, claim.place) if not number else ("", "", "")
            words = (*first, finding.scale, finding.verdict, finding.reason)
            rows.append([Cell(text) for text in words])
    return ReportTable([title, counted(judged)], columns, rows, notes)


def claims_text(judged: Sequence[Judged], more: Sequence[Judged]) -> str:
    """The list for a terminal, below its title: verdict, scale and name on a line, then the rest
    below it; then ``more``, which go beyond the papers."""
    lines = _lines(judged)
    if more:
        lines += ["", BEYOND, *_lines(more)]
    notes = (line for note in NOTES for line in textwrap.wrap(note, text_width()))
    return "\n".join([*lines, "", *notes])


def _lines(judged: Sequence[Judged]) -> list[str]:
    lines = [counted(judged)]
    wide = max((len(f.scale) for each in judged for f in each.findings), default=0)
    for each in judged:
        for number, finding in enumerate(each.findings):
            lines += ["", f"{finding.verdict.upper():<22} {finding.scale:<{wide}} {each.claim.id}"]
            first = [each.claim.says, each.claim.place] if not number else []
            for text in (*first, finding.reason):
                lines += textwrap.wrap(plain(text), text_width(), initial_indent=" " * 4,
                                       subsequent_indent=" " * 6)  # fmt: skip
    return lines


NOTES = [
    "A verdict applies to its scale, not to the paper's. Holds and does not hold are each"
    " wrong in at most 2.5 % of cases (paired over seeds; every comparison of a claim has to hold,"
    " and a refutation by one of k is corrected for k). The number of claims is not corrected for.",
    "In a study, a side that was tuned over more points, or whose opponent's rate lies at the edge"
    " of its grid, gets no verdict in its favour; in an arena a remark says so. Scale any: depends"
    " on no training of a study.",
    "`python -m nos_repro claims ID` shows one in full.",
]


def counted(judged: Sequence[Judged]) -> str:
    """`49 claims. Holds: 8, does not hold: 4, ...`."""
    kinds = Counter(finding.verdict for each in judged for finding in each.findings)
    parts = ", ".join(f"{kind}: {kinds[kind]}" for kind in VERDICTS if kinds[kind])
    return f"{len(judged)} claim{'s' * (len(judged) != 1)}. {parts[:1].upper()}{parts[1:]}."


def claim_tables(each: Judged) -> list[ReportTable]:
    """One claim: where it is made, and its comparisons at every scale, one per line."""
    claim = each.claim
    said = "Beyond the papers, hoped for" if claim in beyond() else "Claimed"
    heading = [f"{claim.id}: {claim.says}", f"{said} in {claim.place}."]
    tables = [ReportTable(heading, [], [])]
    for finding in each.findings:
        above = [f"Scale {finding.scale}: {finding.verdict}", finding.reason]
        tables.append(_table(above, finding.effects, finding.remarks))
    return tables


def _table(heading: list[str], effects: Sequence[Effect], remarks: list[str]) -> ReportTable:
    if not effects:
        return ReportTable(heading, [], [], remarks)
    printed = any(effect.paper is not None for effect in effects)
    titles = ["comparison", "effect", "95 %", "n", "unit", "p for", "p against"]
    titles += ["the paper's own"] if printed else []
    titles += ["no verdict because"] if any(effect.blocked for effect in effects) else []
    rows = [[Cell(t) for t in _words(effect, titles)] for effect in effects]
    return ReportTable(heading, list(map(Column, titles)), rows, remarks)


def _words(effect: Effect, titles: Sequence[str]) -> Iterator[str]:
    interval = math.isfinite(effect.low) and not effect.exact
    yield from (
        effect.what,
        effect.size,
        f"[{effect.low:+.3g},\N{NO-BREAK SPACE}{effect.high:+.3g}]" if interval else "-",
        "-" if effect.exact else str(effect.n),
        effect.unit or "-",
        "-" if effect.exact else _p(effect.p_for),
        "-" if effect.exact else _p(effect.p_against),
    )
    if "the paper's own" in titles:
        yield "-" if effect.paper is None else f"{effect.paper:+.3g}"
    if "no verdict because" in titles:
        yield effect.blocked or "-"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def claims_file(judged: Sequence[Judged], more: Sequence[Judged]) -> bytes:
    """`claims.md`, as it is committed beside the records."""
    tables = claims_tables(judged, more)
    return ("\n\n".join(table.markdown() for table in tables) + "\n").encode()
