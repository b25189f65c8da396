"""A rule as a document."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from nos_repro.report.documents.base import Document, document
from nos_repro.rules.explain import BYTES_PER_AVERAGE, draw_rule, printed_entries
from nos_repro.rules.families import family_of
from nos_repro.rules.naming import Equality, equalities
from nos_repro.rules.rule import Rule
from nos_repro.rules.simplest import simplest_text


def rule_document(rule: Rule, results: Callable[[Rule], Iterable[str]]) -> Document:
    """What `rule` explains. ``results`` gives the papers' numbers, one line per row of a table."""
    _, entries = printed_entries(rule)
    family = family_of(rule)
    normal = rule.normal()
    return document(
        "rule",
        rule=str(rule),
        latex=rule.latex(),
        tree=list(draw_rule(rule)),
        tokens=rule.tokens() or normal.tokens(),
        normal_form=str(normal),
        simplest_form=simplest_text(str(normal)),
        fingerprint=rule.fingerprint(),
        reads={row.name: row.meaning for row in rule.operands},
        averages=sorted(rule.averages),
        states=list(rule.kept_states),
        bytes_per_parameter=BYTES_PER_AVERAGE * (len(rule.averages) + len(rule.kept_states)),
        needs_total_steps=rule.needs_total_steps,
        random=rule.random,
        family=None if family is None else {"name": family[0].name, "decay": family[1]},
        equals=[equality_data(each) for each in equalities(rule)],
        printed=[{"name": entry.name, "place": entry.place} for entry in entries],
        numbers=[line for each in dict.fromkeys(e.rule.normal() for e in entries)
                 for line in results(each)],
    )  # fmt: skip


def equality_data(found: Equality) -> Document:
    """A known optimizer that the rule equals, up to a factor."""
    return {
        "words": str(found),
        "name": found.known.name,
        "source": found.known.source,
        "factor": found.factor,
        "options": found.options,
        "decays": list(found.decays),
        "but": found.known.but,
    }
