"""Families of rules: a formula with a decay f(t) and constants to choose (sec. 5.1).

`powersign` is PowerSign with f = 1, `powersign-ld` has linear decay, `powersign-rd20` 20 restarts.
A family is one row of `FAMILIES`: its optimizer, its explanation and its export follow from that
row.
"""

import math
import re
from dataclasses import dataclass
from typing import ClassVar

from nos_repro.errors import ConfigError, RuleError, unknown
from nos_repro.registry import Table
from nos_repro.rules.primitives import find_operand
from nos_repro.rules.printing import print_number
from nos_repro.rules.rule import Rule

DECAYS = ("ld", "cd", "cd{n}", "rd{n}")


@dataclass(frozen=True)
class Constant:
    """A number in a family's formula, which a user may choose."""

    name: str
    default: float
    positive: bool = False

    def text(self, value: float) -> str:
        """The value as the formula spells it. Raises ConfigError if it is impossible."""
        if not math.isfinite(value) or (self.positive and value <= 0):
            limit = " > 0" if self.positive else ""
            raise ConfigError(f"{self.name} must be a finite number{limit}, got {value!r}")
        if value == math.e:
            return "e"
        return print_number(float(value)) if value >= 0 else f"neg({print_number(-float(value))})"


@dataclass(frozen=True)
class Family:
    """Rules that differ in their decay and in a few constants.

    formula: the rule's text, with `f` for the decay and each constant under its name.
    label: the family's name in tables and exported classes.
    """

    display: ClassVar[tuple[str, ...]] = ("label",)
    """The fields that no execution reads: they are only printed."""

    name: str
    label: str
    formula: str
    constants: tuple[Constant, ...] = ()

    def rule(self, decay: str | None = None, **constants: float) -> Rule:
        """The family's rule with a decay of `DECAYS` (None: f = 1) and the constants given.

        Raises RuleError (decay) and ConfigError (constant).
        """
        text = self.formula
        if decay is None:
            text = re.sub(r"\bf \* ", "", text)
        elif not is_decay(decay):
            raise RuleError(unknown("decay", decay, DECAYS))
        words = {"f": decay or "1"}
        for constant in self.constants:
            words[constant.name] = constant.text(constants.get(constant.name, constant.default))
        return Rule.parse(re.sub(r"\b[a-z]\w*", lambda word: words.get(word[0], word[0]), text))


BASE = Constant("base", math.e, positive=True)
ALPHA = Constant("alpha", 1.0)

# fmt: off
FAMILIES = Table(
    Family("powersign", "PowerSign", "base**(f * (sign(g) * sign(m))) * g",   (BASE,)),
    Family("addsign",   "AddSign",   "(alpha + f * (sign(g) * sign(m))) * g", (ALPHA,)),
)
# fmt: on


def is_decay(name: str) -> bool:
    """Whether a family can have this decay."""
    row = find_operand(name)
    return row is not None and row.needs_total_steps


def family_names() -> list[str]:
    """The families' names with their most common decays, for errors to list."""
    return [f"{name}{suffix}" for name in FAMILIES for suffix in ("", "-ld", "-cd", "-rd10")]


def find_family(name: str) -> tuple[Family, str | None] | None:
    """`powersign-rd20` -> (PowerSign's row, "rd20"); None if it does not start with a family.

    Whether the decay exists is not checked here; `Family.rule` checks it.
    """
    head, dash, decay = name.partition("-")
    return (FAMILIES[head], decay if dash else None) if head in FAMILIES else None


def family_of(rule: Rule) -> tuple[Family, str | None] | None:
    """The family and decay of a rule, in this form or in an algebraically equal one."""
    decays: list[str | None]
    decays = [row.name for row in rule.operands if row.needs_total_steps] or [None]
    normal = rule.normal()
    for family in FAMILIES.values():
        for decay in decays:
            if family.rule(decay).normal() == normal:
                return family, decay
    return None
