"""The token form (sec. 3.1): strings of 5n words `op1 op2 u1 u2 b`, one group per iteration.

Iteration k computes b(u1(op1), u2(op2)) and adds it to the operand bank as `#k`; the last one is
the update. The words are the papers' and every other row of `primitives`; the softmax rows of a
controller are numbered by the words of its search space, in the space's own order.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence

from nos_repro.errors import RuleError, unknown
from nos_repro.registry import Table
from nos_repro.rules.parse import parse
from nos_repro.rules.primitives import BINARY, BINARY_2, OPERANDS, UNARY, UNARY_2
from nos_repro.rules.printing import print_number
from nos_repro.rules.rows import UnaryRow
from nos_repro.rules.second import parse_rule
from nos_repro.rules.tree import Binary, Expr, Number, Operand, Unary

MOST_ITERATIONS = 4
GROUP = ("op1", "op2", "u1", "u2", "b")

# Operands that are more than one name, or contain a number.
PHRASES = "sign(g) sign(m) 1 2 1e-4*w 1e-3*w 1e-2*w 1e-1*w rd10 rd20"

PHRASES_2 = "ema(g,0.9) ema(g,0.99) ema(g2,0.99) velocity(g,0.9)"


def _unary_tokens(table: Table[UnaryRow]) -> Iterator[tuple[str, tuple[str, float | None]]]:
    for name, row in table.items():
        if row.token and row.parameter is None:
            yield name, (name, None)
        for constant in row.constants:
            yield f"{name}{print_number(constant)}", (name, constant)


OPERAND_TOKENS: dict[str, Expr] = {
    **{name: Operand(name) for name, row in OPERANDS.items() if row.token},
    **{word: parse(word) for word in PHRASES.split()},
}
# The function and its constant; identity leaves no node.
UNARY_TOKENS: dict[str, tuple[str, float | None]] = {
    "identity": ("identity", None),
    **dict(_unary_tokens(UNARY)),
}
BINARY_TOKENS = (*(name for name, row in BINARY.items() if row.token), "keep_left")

# What the second edition adds.
OPERAND_TOKENS_2: dict[str, Expr] = {
    word: parse_rule(word, language=2)[0] for word in PHRASES_2.split()
}
UNARY_TOKENS_2 = dict(_unary_tokens(UNARY_2))
BINARY_TOKENS_2 = tuple(name for name, row in BINARY_2.items() if row.token)

_EVERY_OPERAND = {**OPERAND_TOKENS, **OPERAND_TOKENS_2}
_EVERY_UNARY = {**UNARY_TOKENS, **UNARY_TOKENS_2}
_EVERY_BINARY = (*BINARY_TOKENS, *BINARY_TOKENS_2)
_OPERAND_OF = {expr: token for token, expr in _EVERY_OPERAND.items()}
_UNARY_OF = {function: token for token, function in _EVERY_UNARY.items()}


def computed(iteration: int) -> str:
    """The token for the result of an iteration: `#1`, `#2`, `#3`."""
    return f"#{iteration}"


def from_tokens(tokens: Sequence[str]) -> Expr:
    """The tree of 5n tokens, n = 1 to 4. Raises RuleError, which points at the wrong token.

    The words of both editions are read: whether a string may have those of the second is for its
    space to say.
    """
    iterations, rest = divmod(len(tokens), len(GROUP))
    if rest or not 1 <= iterations <= MOST_ITERATIONS:
        raise RuleError(f"a rule has 5, 10, 15 or 20 tokens (op1 op2 u1 u2 b), got {len(tokens)}")
    bank = dict(OPERAND_TOKENS)
    more: list[Collection[str]] = [*[OPERAND_TOKENS_2] * 2, *[UNARY_TOKENS_2] * 2, BINARY_TOKENS_2]
    expr: Expr = Number(0.0)
    for iteration in range(iterations):
        start = iteration * len(GROUP)
        choices: list[Collection[str]] = [bank, bank, UNARY_TOKENS, UNARY_TOKENS, BINARY_TOKENS]
        for at, (choice, other) in enumerate(zip(choices, more, strict=True), start):
            if tokens[at] not in choice and tokens[at] not in other:
                raise RuleError(_wrong(tokens, at, choice))
        op1, op2, u1, u2, b = tokens[start : start + len(GROUP)]
        expr = _apply(u1, _operand(op1, bank))
        if b != "keep_left":
            expr = Binary(b, expr, _apply(u2, _operand(op2, bank)))
        bank[computed(iteration + 1)] = expr
    return expr


def _operand(token: str, bank: Mapping[str, Expr]) -> Expr:
    return bank[token] if token in bank else OPERAND_TOKENS_2[token]


def _apply(token: str, x: Expr) -> Expr:
    function, parameter = _EVERY_UNARY[token]
    return x if function == "identity" else Unary(function, x, parameter)


def _wrong(tokens: Sequence[str], at: int, choice: Collection[str]) -> str:
    """The error for one token, with a caret under it."""
    kind = ("operand", "operand", "unary", "unary", "binary")[at % len(GROUP)]
    first, _, rest = unknown(f"{kind} token", str(tokens[at]), choice).partition("\n")
    before = " ".join(map(str, tokens[:at]))
    margin = "    " + " " * (len(before) + bool(before))
    carets = "^" * max(1, len(str(tokens[at])))
    return "\n".join([first, "    " + " ".join(map(str, tokens)), margin + carets, rest])


def to_tokens(expr: Expr) -> list[str] | None:
    """Tokens that read back to exactly this tree, or None if it needs more than 4 iterations."""
    writer = _Writer()
    fits = writer.compute(expr) is not None
    return writer.tokens if fits else None


class _Writer:
    """Writes iterations, arguments first; a result that exists is used again."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.bank = dict(_OPERAND_OF)

    def compute(self, expr: Expr) -> str | None:
        """Writes the iteration that computes expr, and names its result."""
        match expr:
            case Binary(function, x, y) if expr not in _OPERAND_OF:
                left, right = self.argument(x), self.argument(y)
                if left is None or right is None or function not in _EVERY_BINARY:
                    return None
                group = [left[0], right[0], left[1], right[1], function]
            case _:
                left = self.argument(expr)
                if left is None:
                    return None
                other = next(token for token in OPERAND_TOKENS if token != left[0])
                group = [left[0], other, left[1], "identity", "keep_left"]
        self.tokens += group
        iteration = len(self.tokens) // len(GROUP)
        if iteration > MOST_ITERATIONS:
            return None
        return self.bank.setdefault(expr, computed(iteration))

    def argument(self, expr: Expr) -> tuple[str, str] | None:
        """The operand and the unary function that give expr; computes what is not there yet."""
        if expr in self.bank:
            return self.bank[expr], "identity"
        if isinstance(expr, Unary):
            token = _UNARY_OF.get((expr.function, expr.parameter))
            if token is None:
                return None
            operand = self.bank.get(expr.x) or self.compute(expr.x)
            return None if operand is None else (operand, token)
        if isinstance(expr, Binary):
            operand = self.compute(expr)
            return None if operand is None else (operand, "identity")
        return None
