"""Every rule that either paper prints, by name, with the places where it is printed.

002 is the arXiv version, 000 the ICML one. Found rules are numbered in the order of their table,
without the baselines above them: `table6-13` is the thirteenth. The numbers that the tables print
are in `configs/`.

*Readings of the paper*: the epsilon of `m * (1 + eps) * sigmoid(1e-4 w)` is the noise operand; the
one of `drop(m, 0.1) / (exp(g^2) + eps)` is the division's delta (000 writes epsilon for delta), so
the rule's text leaves it out. Momentum's rule is `m`, the bias-corrected average: except in the
first steps, this is the usual momentum at (1 - beta1) times the rate.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property

from nos_repro.errors import RuleError
from nos_repro.rules.families import family_names, find_family
from nos_repro.rules.rule import Rule

NO_NUMBERS = "names that the papers print; the digest holds the rule itself (experiments.digest)"


@dataclass(frozen=True)
class Printed:
    """A rule as one place prints it.

    row: the number among the found rules of a table, or the printed name of the row.
    """

    name: str
    text: str
    paper: str
    table: str
    row: int | str | None = None

    @cached_property
    def rule(self) -> Rule:
        """The rule that the text spells."""
        return Rule.parse(self.text)

    @property
    def place(self) -> str:
        """`002 Table 6, rule 13`."""
        row = f"rule {self.row}" if isinstance(self.row, int) else self.row
        return f"{self.paper} {self.table}" + (f", {row}" if row else "")


# fmt: off
_BASELINES = {"SGD": "g", "Momentum": "m", "Adam": "adam", "RMSProp": "rmsprop"}
_TABLE6 = (
    "m * (1 + noise) * sigmoid(1e-4 * w)",
    "sign(m) * sqrt(g)",
    "sign(g) * sign(m) * m",
    "sign(m) * sqrt(g)",
    "(1 + sign(g) * sign(m)) * sign(g)",
    "(1 + sign(g) * sign(m)) * sign(m)",
    "sign(g) * sqrt(m)",
    "sqrt(g) * m",
    "sqrt(g) * g",
    "(1 + sign(g) * sign(m)) * m",
    "(1 + sign(g) * sign(m)) * rmsprop",
    "(1 + sign(g) * sign(m)) * adam",
)
# The last sixteen of 002 Table 6 are the sixteen of 000 Table 1.
_SHARED = (
    "(exp(sign(g) * sign(m)) + clip(g, 1e-4)) * g",
    "clip(m, 1e-4) * exp(v)",
    "m * exp(v)",
    "g * exp(sign(g) * sign(m))",
    "drop(g, 0.3) * exp(sign(g) * sign(m))",
    "m * exp(g2)",
    "drop(m, 0.1) / exp(g2)",
    "drop(g, 0.1) * exp(sign(g) * sign(m))",
    "clip(rmsprop, 1e-5) + drop(m, 0.3)",
    "adam * exp(sign(g) * sign(m))",
    "adam * exp(m)",
    "g + drop(m, 0.3)",
    "drop(m, 0.1) * exp(g3)",
    "g - clip(g2, 1e-4)",
    "exp(g) - exp(m)",
    "drop(m, 0.3) * exp(1e-3 * w)",
)
# 002 Tables 1 to 5 and 000 Table 2: prefix of the names, paper, table, the rows as printed.
_NAMED_TABLES = (
    ("table1", "002", "Table 1", (
        "SGD", "Momentum", "Adam", "RMSProp",
        "PowerSign", "PowerSign-ld", "PowerSign-cd", "PowerSign-rd10", "PowerSign-rd20",
        "AddSign", "AddSign-ld", "AddSign-cd", "AddSign-rd10", "AddSign-rd20",
    )),
    ("table2", "002", "Table 2", (
        "SGD (cosine)", "Momentum (cosine)", "Adam (cosine)", "RMSProp (cosine)",
        "AddSign-ld (cosine)", "AddSign-ld (linear cosine)", "AddSign-ld (noisy linear cosine)",
        "AddSign-cd (cosine)", "AddSign-cd (linear cosine)", "AddSign-cd (noisy linear cosine)",
        "PowerSign (cosine)", "PowerSign (linear cosine)",
        "PowerSign-ld (cosine)", "PowerSign-ld (linear cosine)",
        "PowerSign-cd (cosine)", "PowerSign-cd (linear cosine)",
    )),
    ("table3", "002", "Table 3", ("RMSProp", "PowerSign-cd", "AddSign-ld")),
    ("table4", "002", "Table 4", ("Adam", "PowerSign")),
    ("table5", "002", "Table 5", ("Adam", "SGD", "PowerSign", "AddSign")),
    ("icml-table2", "000", "Table 2", ("Adam", "PowerSign")),
)
# Printed in the text and the figures.
_OPTIMIZER_1 = "(exp(sign(g) * sign(m)) + clip(g, 1e-4)) * g"
_OPTIMIZER_2 = "drop(m, 0.3) * exp(1e-3 * w)"
_PLAIN = (
    Printed("figure2-sgd",          "g",                                     "002", "Figure 2"),
    Printed("figure2-rmsprop",      "g / sqrt(v)",                           "002", "Figure 2"),
    Printed("figure2-adam-1-step",  "m / sqrt(v)",                           "002", "Figure 2"),
    Printed("figure2-adam-2-steps", "m * (1 / sqrt(v))",                     "002", "Figure 2"),
    Printed("powersign-base2",      "2**(sign(g) * sign(m)) * g",            "002", "sec. 5.1"),
    Printed("addsign-alpha2",       "(2 + sign(g) * sign(m)) * g",           "002", "sec. 5.1"),
    Printed("cosine",               "cd",                                    "002", "sec. 4.1"),
    Printed("linear-cosine",        "ld * cd",                               "002", "sec. 5.2"),
    Printed("noisy-linear-cosine",  "(ld + annealed_noise) * cd + 1e-3",     "002", "sec. 5.2"),
    Printed("icml-section4.3-1",    "exp(sign(g) * sign(m)) * g",            "000", "sec. 4.3"),
    Printed("icml-section4.3-2",    _OPTIMIZER_1,                            "000", "sec. 4.3"),
    Printed("icml-section4.3-3",    "drop(g, 0.3) * exp(sign(g) * sign(m))", "000", "sec. 4.3"),
    Printed("icml-section4.3-4",    "adam * exp(sign(g) * sign(m))",         "000", "sec. 4.3"),
    Printed("icml-section4.3-5",    "drop(g, 0.1) * exp(sign(g) * sign(m))", "000", "sec. 4.3"),
    Printed("icml-figure5-1",       _OPTIMIZER_1,                "000", "Figure 5", "Optimizer 1"),
    Printed("icml-figure5-2",       _OPTIMIZER_2,                "000", "Figure 5", "Optimizer 2"),
    Printed("icml-figure6",         "exp(sign(g) * sign(m)) * g", "000", "Figure 6", "Optimizer 1"),
    Printed("icml-figure7-1",       _OPTIMIZER_1,                "000", "Figure 7", "Optimizer 1"),
    Printed("icml-figure7-2",       _OPTIMIZER_2,                "000", "Figure 7", "Optimizer 2"),
)
# fmt: on


def _entries() -> Iterator[Printed]:
    for printed, text in _BASELINES.items():
        yield Printed(printed.lower(), text, "002", "Figure 5", printed)
    for family in ("powersign", "addsign"):
        for name in (family, f"{family}-ld", f"{family}-cd"):
            yield Printed(name, _text(name), "002", "sec. 5.1")
        for name in (f"{family}-rd10", f"{family}-rd20"):
            yield Printed(name, _text(name), "002", "Table 1")
    yield from _PLAIN
    for prefix, paper, table, rules in (
        ("table6", "002", "Table 6", _TABLE6 + _SHARED),
        ("icml-table1", "000", "Table 1", _SHARED),
    ):
        for printed, text in _BASELINES.items():
            yield Printed(f"{prefix}-{printed.lower()}", text, paper, table, printed)
        for number, text in enumerate(rules, 1):
            yield Printed(f"{prefix}-{number}", text, paper, table, number)
    for prefix, paper, table, rows in _NAMED_TABLES:
        for row in rows:
            optimizer = row.split()[0]
            text = _BASELINES.get(optimizer) or _text(optimizer.lower())
            name = f"{prefix}-" + re.sub(r"[ ()]+", "-", row.lower()).strip("-")
            yield Printed(name, text, paper, table, row)


def _text(name: str) -> str:
    """The text of `powersign`, `addsign-rd10`, ..."""
    found = find_family(name)
    assert found is not None, name
    family, decay = found
    return str(family.rule(decay))


CATALOG: dict[str, Printed] = {entry.name: entry for entry in _entries()}


def lookup(name_or_text: str, language: int = 1) -> Rule:
    """The rule for a catalogue name, a family (`powersign-rd5`) or a text, in this edition of the
    language. Raises RuleError."""
    name = name_or_text.strip()
    if name in CATALOG:
        return CATALOG[name].rule
    if found := find_family(name):
        family, decay = found
        return family.rule(decay)
    try:
        return Rule.parse(name_or_text, language)
    except RuleError as error:
        near = get_close_matches(name[:100], [*CATALOG, *family_names()], n=1, cutoff=0.75)
        hint = f"\n  or did you mean the name '{near[0]}'?" if near else ""
        raise RuleError(f"{error}{hint}") from None


def printed_at(rule: Rule) -> list[Printed]:
    """The entries that print this rule, in this form or in an algebraically equal one."""
    normal = rule.normal()
    return [entry for entry in CATALOG.values() if entry.rule.normal() == normal]
