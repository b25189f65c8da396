"""Every rule that either paper prints, by name, with its place and the numbers printed beside it.

002 is the arXiv version, 000 the ICML one. Found rules are numbered as their table prints them,
the baselines above them not counted: `table6-13` is the thirteenth.

*Readings of the paper*: the epsilon of `m * (1 + eps) * sigmoid(1e-4 w)` is the noise operand; the
one of `drop(m, 0.1) / (exp(g^2) + eps)` is the division's delta (000 writes epsilon for delta), so
it is not spelt. Momentum's rule is `m`: the bias-corrected average, that is the usual momentum at
(1 - beta1) times the rate but for the first steps.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from typing import TypeAlias

from nos_repro.errors import RuleError
from nos_repro.rules.families import find_family
from nos_repro.rules.rule import Rule

NO_NUMBERS = (
    "names that the papers print; the rule found is followed by itself (experiments.digest)"
)


@dataclass(frozen=True)
class Printed:
    """A rule as one place prints it.

    row: the number among the found rules of a table, or the printed name of the row.
    values: what the table prints, by column; percent for accuracies.
    """

    name: str
    text: str
    paper: str
    table: str
    row: int | str | None = None
    values: dict[str, float] = field(default_factory=dict, hash=False)

    @cached_property
    def rule(self) -> Rule:
        """The rule of the text."""
        return Rule.parse(self.text)

    @property
    def place(self) -> str:
        """`002 Table 6, rule 13`."""
        row = f"rule {self.row}" if isinstance(self.row, int) else self.row
        return f"{self.paper} {self.table}" + (f", {row}" if row else "")


# prefix of the names, paper, table, columns, rows
NamedTable: TypeAlias = tuple[str, str, str, tuple[str, ...], tuple[tuple[str | float, ...], ...]]

AGREE = "sign(g) * sign(m)"
POWERSIGN = f"exp({AGREE}) * g"
# fmt: off
_BASELINES = {"SGD": "g", "Momentum": "m", "Adam": "adam", "RMSProp": "rmsprop"}
# Final Val, Final Test, Best Val, Best Test
_WRN_COLUMNS = ("final_val", "final_test", "best_val", "best_test")
_WRN_BASELINES = (
    ("SGD",      92.0, 91.8, 92.9, 91.9),
    ("Momentum", 92.7, 92.1, 93.1, 92.3),
    ("Adam",     90.4, 90.1, 91.8, 90.7),
    ("RMSProp",  90.7, 90.3, 91.4, 90.3),
)
_TABLE6 = (
    ("m * (1 + noise) * sigmoid(1e-4 * w)",      90.6, 90.6, 93.1, 92.2),
    ("sign(m) * sqrt(g)",                        92.2, 91.8, 92.9, 92.2),
    ("sign(g) * sign(m) * m",                    91.2, 91.0, 92.4, 91.3),
    ("sign(m) * sqrt(g)",                        91.7, 91.1, 92.3, 91.6),
    ("(1 + sign(g) * sign(m)) * sign(g)",        91.3, 90.4, 91.9, 91.1),
    ("(1 + sign(g) * sign(m)) * sign(m)",        91.0, 90.6, 92.0, 90.8),
    ("sign(g) * sqrt(m)",                        90.7, 90.6, 91.5, 90.6),
    ("sqrt(g) * m",                              92.0, 90.9, 93.6, 93.1),
    ("sqrt(g) * g",                              92.6, 91.9, 93.2, 92.3),
    ("(1 + sign(g) * sign(m)) * m",              91.8, 91.3, 92.6, 91.8),
    ("(1 + sign(g) * sign(m)) * rmsprop",        92.0, 92.1, 92.9, 92.4),
    ("(1 + sign(g) * sign(m)) * adam",           91.2, 91.2, 92.2, 91.9),
)
# The last sixteen of 002 Table 6 are the sixteen of 000 Table 1.
_SHARED = (
    ("(exp(sign(g) * sign(m)) + clip(g, 1e-4)) * g", 92.5, 92.4, 93.8, 93.1),
    ("clip(m, 1e-4) * exp(v)",                   93.5, 92.5, 93.8, 92.7),
    ("m * exp(v)",                               93.1, 92.4, 93.8, 92.6),
    ("g * exp(sign(g) * sign(m))",               93.1, 92.8, 93.8, 92.8),
    ("drop(g, 0.3) * exp(sign(g) * sign(m))",    92.7, 92.2, 93.6, 92.7),
    ("m * exp(g2)",                              93.1, 92.5, 93.6, 92.4),
    ("drop(m, 0.1) / exp(g2)",                   92.6, 92.4, 93.5, 93.0),
    ("drop(g, 0.1) * exp(sign(g) * sign(m))",    92.8, 92.4, 93.5, 92.2),
    ("clip(rmsprop, 1e-5) + drop(m, 0.3)",       90.8, 90.8, 91.4, 90.9),
    ("adam * exp(sign(g) * sign(m))",            92.6, 92.0, 93.4, 92.0),
    ("adam * exp(m)",                            92.9, 92.8, 93.3, 92.7),
    ("g + drop(m, 0.3)",                         93.4, 92.9, 93.7, 92.9),
    ("drop(m, 0.1) * exp(g3)",                   92.8, 92.7, 93.7, 92.8),
    ("g - clip(g2, 1e-4)",                       93.4, 92.8, 93.7, 92.8),
    ("exp(g) - exp(m)",                          93.2, 92.5, 93.5, 93.1),
    ("drop(m, 0.3) * exp(1e-3 * w)",             93.2, 93.0, 93.5, 93.2),
)
# 002 Tables 1 to 5 and 000 Table 2: the row as printed, then its columns.
_NAMED_TABLES: tuple[NamedTable, ...] = (
    ("table1", "002", "Table 1", ("best_test", "final_test"), (
        ("SGD",                             93.0, 92.3), ("Momentum",       93.0, 92.2),
        ("Adam",                            92.6, 92.3), ("RMSProp",        92.3, 91.6),
        ("PowerSign",                       93.0, 92.4), ("PowerSign-ld",   93.6, 93.4),
        ("PowerSign-cd",                    93.7, 93.1), ("PowerSign-rd10", 94.2, 92.6),
        ("PowerSign-rd20",                  94.4, 92.0), ("AddSign",        93.0, 92.6),
        ("AddSign-ld",                      93.5, 92.0), ("AddSign-cd",     93.6, 92.4),
        ("AddSign-rd10",                    94.2, 94.0), ("AddSign-rd20",   94.4, 94.3),
    )),
    ("table2", "002", "Table 2", ("best_test", "final_test"), (
        ("SGD (cosine)",                    95.4, 95.3), ("Momentum (cosine)", 95.2, 95.1),
        ("Adam (cosine)",                   93.9, 93.8), ("RMSProp (cosine)",  93.6, 93.5),
        ("AddSign-ld (cosine)",             95.4, 95.3),
        ("AddSign-ld (linear cosine)",      95.3, 95.1),
        ("AddSign-ld (noisy linear cosine)", 95.5, 95.4),
        ("AddSign-cd (cosine)",             95.3, 95.1),
        ("AddSign-cd (linear cosine)",      95.3, 95.2),
        ("AddSign-cd (noisy linear cosine)", 95.3, 95.2),
        ("PowerSign (cosine)",              95.4, 95.3),
        ("PowerSign (linear cosine)",       95.4, 95.2),
        ("PowerSign-ld (cosine)",           95.3, 95.2),
        ("PowerSign-ld (linear cosine)",    95.3, 95.2),
        ("PowerSign-cd (cosine)",           95.4, 95.2),
        ("PowerSign-cd (linear cosine)",    95.4, 95.2),
    )),
    ("table3", "002", "Table 3", ("top1", "top5"), (
        ("RMSProp",                         73.5, 91.5),
        ("PowerSign-cd",                    73.9, 91.9),
        ("AddSign-ld",                      73.8, 91.6),
    )),
    ("table4", "002", "Table 4", ("train_perplexity", "test_bleu"), (
        ("Adam",                            1.49, 24.5), ("PowerSign",      1.39, 25.0),
    )),
    ("table5", "002", "Table 5", ("valid_perplexity", "test_perplexity"), (
        ("Adam",                            65.7, 63.3), ("SGD",            71.7, 68.3),
        ("PowerSign",                       68.5, 64.8), ("AddSign",        68.8, 65.2),
    )),
    ("icml-table2", "000", "Table 2", ("train_perplexity", "test_bleu"), (
        ("Adam",                            1.49, 24.5), ("PowerSign",      1.39, 25.0),
    )),
)
# Printed in the text and the figures, without numbers.
_OPTIMIZER_1 = "(exp(sign(g) * sign(m)) + clip(g, 1e-4)) * g"
_OPTIMIZER_2 = "drop(m, 0.3) * exp(1e-3 * w)"
_PLAIN = (
    Printed("figure2-sgd",          "g",                             "002", "Figure 2"),
    Printed("figure2-rmsprop",      "g / sqrt(v)",                   "002", "Figure 2"),
    Printed("figure2-adam-1-step",  "m / sqrt(v)",                   "002", "Figure 2"),
    Printed("figure2-adam-2-steps", "m * (1 / sqrt(v))",             "002", "Figure 2"),
    Printed("powersign-base2",      "2**(sign(g) * sign(m)) * g",    "002", "sec. 5.1"),
    Printed("addsign-alpha2",       "(2 + sign(g) * sign(m)) * g",   "002", "sec. 5.1"),
    Printed("cosine",               "cd",                            "002", "sec. 4.1"),
    Printed("linear-cosine",        "ld * cd",                       "002", "sec. 5.2"),
    Printed("noisy-linear-cosine",  "(ld + annealed_noise) * cd + 1e-3", "002", "sec. 5.2"),
    Printed("icml-section4.3-1",    POWERSIGN,                       "000", "sec. 4.3"),
    Printed("icml-section4.3-2",    _OPTIMIZER_1,                    "000", "sec. 4.3"),
    Printed("icml-section4.3-3",    f"drop(g, 0.3) * exp({AGREE})",  "000", "sec. 4.3"),
    Printed("icml-section4.3-4",    f"adam * exp({AGREE})",          "000", "sec. 4.3"),
    Printed("icml-section4.3-5",    f"drop(g, 0.1) * exp({AGREE})",  "000", "sec. 4.3"),
    Printed("icml-figure5-1",       _OPTIMIZER_1,                "000", "Figure 5", "Optimizer 1"),
    Printed("icml-figure5-2",       _OPTIMIZER_2,                "000", "Figure 5", "Optimizer 2"),
    Printed("icml-figure6",         POWERSIGN,                   "000", "Figure 6", "Optimizer 1"),
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
        for printed, *values in _WRN_BASELINES:
            columns = dict(zip(_WRN_COLUMNS, values, strict=True))
            name = f"{prefix}-{printed.lower()}"
            yield Printed(name, _BASELINES[printed], paper, table, printed, columns)
        for number, (text, *values) in enumerate(rules, 1):
            columns = dict(zip(_WRN_COLUMNS, values, strict=True))
            yield Printed(f"{prefix}-{number}", text, paper, table, number, columns)
    for prefix, paper, table, names, rows in _NAMED_TABLES:
        for row in rows:
            label = str(row[0])
            optimizer = label.split()[0]
            text = _BASELINES.get(optimizer) or _text(optimizer.lower())
            name = f"{prefix}-" + re.sub(r"[ ()]+", "-", label.lower()).strip("-")
            columns = {column: float(value) for column, value in zip(names, row[1:], strict=True)}
            yield Printed(name, text, paper, table, label, columns)


def _text(name: str) -> str:
    """The text of `powersign`, `addsign-rd10`, ..."""
    found = find_family(name)
    assert found is not None, name
    family, decay = found
    return str(family.rule(decay))


CATALOG: dict[str, Printed] = {entry.name: entry for entry in _entries()}


def lookup(name_or_text: str) -> Rule:
    """The rule of a catalogue name, of a family (`powersign-rd5`), or of a text. RuleError."""
    name = name_or_text.strip()
    if name in CATALOG:
        return CATALOG[name].rule
    if found := find_family(name):
        family, decay = found
        return family.rule(decay)
    try:
        return Rule.parse(name_or_text)
    except RuleError as error:
        near = get_close_matches(name[:100], CATALOG, n=1, cutoff=0.75)
        hint = f"\n  or did you mean the catalogue's '{near[0]}'?" if near else ""
        raise RuleError(f"{error}{hint}") from None


def printed_at(rule: Rule) -> list[Printed]:
    """The entries that print this rule, in this form or in an algebraically equal one."""
    normal = rule.normal()
    return [entry for entry in CATALOG.values() if entry.rule.normal() == normal]
