"""An update rule: an immutable tree with its text, and what follows from it (sec. 3.1).

Code that only prints or compares is imported when it is needed: an optimizer runs without it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from nos_repro.rules.parse import parse
from nos_repro.rules.primitives import UNARY, operand_row
from nos_repro.rules.printing import print_expr
from nos_repro.rules.rows import OperandRow
from nos_repro.rules.tokens import from_tokens, to_tokens
from nos_repro.rules.tree import Expr, Operand, Unary, walk

if TYPE_CHECKING:
    from nos_repro.rules.space import Space


@dataclass(frozen=True, repr=False)
class Rule:
    """An update rule, w <- w - lr * rule: an immutable expression of the language
    (sec. 3.1, 4.1).

    Rules are equal when their trees are; `normal()` groups those that algebra makes
    equal.

    Args:
        expr: the expression tree. Most rules come from `Rule.parse` or
            `Rule.from_tokens`.

    Examples:
        >>> from nos_repro import Rule
        >>> rule = Rule.parse("exp(sign(g) * sign(m)) * g")
        >>> rule
        Rule('exp(sign(g) * sign(m)) * g')
        >>> sorted(rule.averages), rule.needs_total_steps, rule.random
        (['m'], False, False)
        >>> rule.normal() == Rule.parse("g * exp(sign(m) * sign(g))").normal()
        True
        >>> Rule.parse("exp(sgn(g)) * g")
        Traceback (most recent call last):
        ...
        nos_repro.errors.RuleError: unknown unary 'sgn'
            exp(sgn(g)) * g
                ^^^
          did you mean 'sign'?  one of: ...
    """

    expr: Expr

    @classmethod
    def parse(cls, text: str) -> "Rule":
        """The rule for a text such as `exp(sign(g) * sign(m)) * g`. Raises RuleError."""
        return cls(parse(text))

    def __str__(self) -> str:
        """Text that parses back to exactly this rule."""
        return print_expr(self.expr)

    @classmethod
    def from_tokens(cls, tokens: Sequence[str], space: "Space | None" = None) -> "Rule":
        """The rule of 5n tokens. With a space, only its words and lengths. Raises RuleError."""
        if space is not None:
            space.check(tokens)
        return cls(from_tokens(tokens))

    def tokens(self) -> list[str] | None:
        """Tokens that read back to exactly this rule; None if it needs more than 4 iterations."""
        return to_tokens(self.expr)

    def latex(self) -> str:
        """The papers' notation, without dollars."""
        from nos_repro.rules.latex import print_latex

        return print_latex(self.expr)

    def normal(self) -> "Rule":
        """The rule in algebraic normal form (`normal`): for grouping and display, never run."""
        from nos_repro.rules.normal import normal_form

        return Rule(normal_form(self.expr))

    def fingerprint(self) -> str:
        """A short hash of what the normal form does in a fixed probe (`fingerprint`).

        It takes the normal form, so that rounding never separates rules that algebra groups.
        """
        from nos_repro.rules.fingerprint import fingerprint

        return fingerprint(self.normal().expr)

    def __repr__(self) -> str:
        return f"Rule({str(self)!r})"

    @cached_property
    def operands(self) -> tuple[OperandRow, ...]:
        """The rows of the distinct operands, in the order in which they are first read."""
        names = dict.fromkeys(node.name for node in walk(self.expr) if isinstance(node, Operand))
        return tuple(map(operand_row, names))

    @cached_property
    def averages(self) -> frozenset[str]:
        """Which of "m", "v", "gamma" an optimizer must keep."""
        return frozenset(_averages(self.expr))

    @cached_property
    def needs_total_steps(self) -> bool:
        """Whether it reads a decay that ends with the training."""
        return any(row.needs_total_steps for row in self.operands)

    @cached_property
    def reads_weights(self) -> bool:
        """Whether it reads w."""
        return any(row.reads_weights for row in self.operands)

    @cached_property
    def random(self) -> bool:
        """Whether it reads noise or drops."""
        drops = (
            isinstance(node, Unary) and UNARY[node.function].random for node in walk(self.expr)
        )
        return any(row.random for row in self.operands) or any(drops)


def _averages(expr: Expr) -> Iterator[str]:
    """The averages among the operands and in the operands' definitions."""
    for node in walk(expr):
        if isinstance(node, Operand):
            row = operand_row(node.name)
            if row.power:
                yield row.name
            if row.definition is not None:
                yield from _averages(row.definition)
