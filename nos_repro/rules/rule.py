"""An update rule: an immutable tree with its text, and what follows from it (sec. 3.1).

Code that only prints or compares is imported when it is needed: an optimizer runs without it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from nos_repro.rules.primitives import operand_row, unary_row
from nos_repro.rules.printing import print_rule
from nos_repro.rules.rows import OperandRow
from nos_repro.rules.second import parse_rule
from nos_repro.rules.states import is_second, kept, nodes, spelled_out
from nos_repro.rules.tokens import from_tokens, to_tokens
from nos_repro.rules.tree import Binary, Expr, Operand, States, Unary, walk

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
        states: the states that a rule of the second edition names, each with the
            tree of its new value.

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
        >>> Rule.parse("u <- 0.9 * u + g; u", language=2)
        Rule('language 2: u <- 0.9 * u + g; u')
    """

    expr: Expr
    states: States = ()

    @classmethod
    def parse(cls, text: str, language: int = 1) -> "Rule":
        """The rule for a text such as `exp(sign(g) * sign(m)) * g`. Raises RuleError.

        language: the edition of the language that it is written in, unless the text begins with
        `language 2:`.
        """
        return cls(*parse_rule(text, language))

    @cached_property
    def language(self) -> int:
        """The first edition of the language that has all of its words: 1, the papers', or 2."""
        return 2 if self.states or any(map(is_second, walk(self.expr))) else 1

    def __str__(self) -> str:
        """Text that parses back to exactly this rule."""
        text = print_rule(self.expr, self.states)
        return text if self.language == 1 else f"language {self.language}: {text}"

    @classmethod
    def from_tokens(cls, tokens: Sequence[str], space: "Space | None" = None) -> "Rule":
        """The rule of 5n tokens. With a space, only its words and lengths. Raises RuleError."""
        if space is not None:
            space.check(tokens)
        return cls(from_tokens(tokens))

    def tokens(self) -> list[str] | None:
        """Tokens that read back to exactly this rule; None if it needs more than 4 iterations."""
        return None if self.states else to_tokens(self.expr)

    def latex(self) -> str:
        """The papers' notation, without dollars."""
        from nos_repro.rules.latex import print_latex

        states = [(operand_row(f"new({name})").latex, tree) for name, tree in self.states]
        parts = [rf"{letters} \leftarrow {print_latex(tree)}" for letters, tree in states]
        return r";\; ".join([*parts, print_latex(self.expr)])

    def normal(self) -> "Rule":
        """The rule in algebraic normal form (`normal`): for grouping and display, never run."""
        from nos_repro.rules.normal import normal_form

        if not self.states:
            return Rule(normal_form(self.expr))
        from nos_repro.rules.states import live

        # one tree: drops that differ in two of its parts must go on differing
        joined = self.expr
        for _, tree in self.states:
            joined = Binary(";", tree, joined)
        simple, trees = normal_form(joined), []
        for name, _ in reversed(self.states):
            assert isinstance(simple, Binary)
            trees.append((name, simple.x))
            simple = simple.y
        return Rule(simple, live(simple, tuple(reversed(trees))))

    def fingerprint(self) -> str:
        """A short hash of what the normal form does in a fixed probe (`fingerprint`).

        It takes the normal form, so that rounding never separates rules that algebra groups.
        """
        from nos_repro.rules.fingerprint import fingerprint

        normal = self.normal()
        return fingerprint(normal.expr, normal.states)

    def __repr__(self) -> str:
        return f"Rule({str(self)!r})"

    @cached_property
    def operands(self) -> tuple[OperandRow, ...]:
        """The rows of the distinct operands, in the order in which they are first read."""
        every = nodes(self.expr, self.states)
        names = dict.fromkeys(node.name for node in every if isinstance(node, Operand))
        return tuple(map(operand_row, names))

    @cached_property
    def averages(self) -> frozenset[str]:
        """Which of "m", "v", "gamma" an optimizer must keep."""
        return frozenset(name for node in self._trees for name in _averages(node))

    @property
    def _trees(self) -> list[Expr]:
        return [*(tree for _, tree in self.states), self.expr]

    @cached_property
    def kept_states(self) -> tuple[str, ...]:
        """The states that an optimizer must keep besides: those that are named, and those of
        functions such as `ema`."""
        return kept(*spelled_out(self.expr, self.states))

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
            isinstance(node, Unary) and unary_row(node.function).random
            for node in nodes(self.expr, self.states)
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
