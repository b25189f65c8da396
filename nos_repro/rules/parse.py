"""Text to tree, with a whitelist over Python's own grammar (`ast`); nothing is ever evaluated.

`^` is read as `**` with the precedence of a power, `[...]` as brackets, `e**x` as `exp(x)`.
Every error shows the text with a caret under what is wrong.
"""

import ast
import math
import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NoReturn

from nos_repro.errors import RuleError, unknown
from nos_repro.rules.primitives import (
    ALIASES,
    BINARY,
    BINARY_2,
    OPERANDS,
    OPERANDS_2,
    PERIODIC_DECAY,
    UNARY,
    UNARY_2,
    find_operand,
    unary_row,
)
from nos_repro.rules.tree import Binary, Expr, Number, Operand, Unary

LONGEST_TEXT = 4000
DEEPEST = 100
SHOWN = 80  # characters of the text that an error shows
CALLABLE = [*UNARY, *(row.name for row in BINARY.values() if row.infix is None)]
TAKES_ABS = [row.name for row in UNARY.values() if row.reads == "size"]
OPERATORS: dict[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.Pow: "**",
}
FOREIGN = re.compile(r"[^A-Za-z0-9_ .,+\-*/^%@()\[\]]")
GLUED = re.compile(r"(?<![\w.])(?>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)[A-Za-z_]")


TAG = re.compile(r"\s*language\s+(\w+)\s*:")
"""What a text of the second edition begins with."""
WORDS_2 = (
    *(*OPERANDS_2, *UNARY_2),
    *(name for name, row in BINARY_2.items() if row.token),
)


def parse(text: str) -> Expr:
    """The tree of a rule in text, in the papers' language. Raises RuleError."""
    return Reader(re.sub(r"\s", " ", text)).read()


def is_tagged(text: str) -> bool:
    """Whether a text says itself which edition of the language it is written in."""
    return TAG.match(text) is not None


@dataclass
class Reader:
    """Reads one text, and keeps it so that errors can point into it.

    shown: the text that errors show, if it is longer than the part that is read.
    """

    text: str
    shown: str = ""
    operands: ClassVar[Collection[str]] = (*OPERANDS, "cd2", "rd10", "rd20")
    unary: ClassVar[Collection[str]] = UNARY
    callable: ClassVar[Collection[str]] = CALLABLE

    def read(self) -> Expr:
        if not self.text.strip():
            raise RuleError("the rule is empty; an example: exp(sign(g) * sign(m)) * g")
        if len(self.text) > LONGEST_TEXT:
            self.fail(f"a rule has at most {LONGEST_TEXT} characters", LONGEST_TEXT)
        if odd := FOREIGN.search(self.text):
            self.fail(f"{odd[0]!a} is not allowed in a rule", odd.start())
        if glued := GLUED.search(self.text):
            self.fail("a number runs into a word; write a * between them", glued.end() - 1)
        source = self.text.replace("^", "**")
        self.indent = len(source) - len(source.lstrip())
        try:
            root = ast.parse(source.strip(), mode="eval").body
        except SyntaxError as error:
            # Python also raises this for 200 nested brackets, without a position.
            if error.offset is None or "too many nested" in str(error.msg):
                raise RuleError("the brackets are nested too deep") from None
            self.fail("not a valid expression", self.column(error.offset - 1))
        except (RecursionError, MemoryError):
            raise RuleError(f"the rule is nested deeper than {DEEPEST} levels") from None
        return self.expr(root, 0)

    @cached_property
    def columns(self) -> list[int]:
        """Where each character came from: `^` becomes `**`, and the text longer."""
        columns = [at for at, sign in enumerate(self.text) for _ in sign.replace("^", "**")]
        return [*columns, len(self.text)]

    def column(self, offset: int) -> int:
        return self.columns[max(0, min(offset + self.indent, len(self.columns) - 1))]

    def fail(self, message: str, start: int, end: int | None = None) -> NoReturn:
        """Raises RuleError: the message's first line, the text with carets, the other lines."""
        first, _, rest = message.partition("\n")
        end = max(start + 1, start + 1 if end is None else end)
        left = max(0, start - SHOWN // 2)
        shown = re.sub(r"[^ -~]", "?", (self.shown or self.text)[left : left + SHOWN])
        carets = "^" * max(1, min(end, left + SHOWN) - start)
        lines = [first, "    " + shown, "    " + " " * (start - left) + carets]
        raise RuleError("\n".join([*lines, rest] if rest else lines))

    def fail_at(self, node: ast.expr, message: str) -> NoReturn:
        assert node.end_col_offset is not None
        self.fail(message, self.column(node.col_offset), self.column(node.end_col_offset))

    def expr(self, node: ast.expr, depth: int) -> Expr:
        if depth > DEEPEST:
            self.fail_at(node, f"the rule is nested deeper than {DEEPEST} levels")
        match node:
            case ast.Constant():
                return Number(self.number(node))
            case ast.Name():
                return self.operand(node)
            case ast.Call(func=ast.Name()):
                return self.call(node, depth)
            case ast.BinOp():
                return self.binary(node, depth)
            case ast.UnaryOp(op=ast.UAdd(), operand=x):
                return self.expr(x, depth + 1)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant() as x) if self.number(x):
                return Number(-self.number(x))
            case ast.UnaryOp(op=ast.USub(), operand=x):
                return Unary("neg", self.expr(x, depth + 1))
            case ast.List(elts=[x]):
                return self.expr(x, depth + 1)
            case _:
                self.fail_at(node, "this is not in the language of update rules")

    def number(self, node: ast.expr) -> float:
        """A literal, or the paper's 10^-4 where only a constant is allowed."""
        match node:
            case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
                if abs(value) < 1e300:
                    return float(value)
                self.fail_at(node, "this number is too large")
            case ast.UnaryOp(op=ast.USub(), operand=x):
                return -self.number(x)
            case ast.BinOp(op=ast.Pow(), left=ast.Constant(value=10), right=x):
                power = self.number(x)
                return 10.0**power if abs(power) < 300 else math.nan
            case _:
                self.fail_at(node, "expected a number here, such as 1e-4")

    def operand(self, node: ast.Name) -> Expr:
        name = ALIASES.get(node.id, node.id)
        if match := PERIODIC_DECAY.fullmatch(name):
            name = match[1] + match[2]  # rd_10 is rd10
        if find_operand(name):
            return Operand(name)
        if name == "e":
            return Number(math.e)
        if name in self.callable:
            kind = "binary" if _is_binary(name) else "unary"
            self.fail_at(node, f"{kind} '{name}' needs its argument: {_usage(name)}")
        if name == "rd":
            self.fail_at(node, "restart decay needs its number of periods: rd10, rd20")
        self.fail_at(node, self.unknown("operand", name, self.operands))

    def unknown(self, kind: str, name: str, choice: Collection[str]) -> str:
        """The message for a word that is not in the language."""
        hint = (
            "\n  it is a word of the second edition: begin the text with 'language 2:', or give"
            " language: 2 in the file"
        )
        return unknown(kind, name, choice) + hint * (name in WORDS_2)

    def call(self, node: ast.Call, depth: int) -> Expr:
        assert isinstance(node.func, ast.Name)
        name = node.func.id
        if name not in self.callable and name not in ("identity", "abs"):
            self.fail_at(node.func, self.unknown("unary", name, self.unary))
        arguments = _arguments(name)
        if len(node.args) != len(arguments) or node.keywords:
            self.fail_at(node.func, f"{name} is written {_usage(name)}")
        if name == "abs":
            inside = " and ".join(TAKES_ABS)
            self.fail_at(node.func, f"abs is allowed only inside {inside}, which take |x| anyway")
        if name in TAKES_ABS:
            node.args[0] = _without_abs(node.args[0])
        x = self.expr(node.args[0], depth + 1)
        if name == "identity":
            return x
        if _is_binary(name):
            return Binary(name, x, self.expr(node.args[1], depth + 1))
        return Unary(name, x, self.parameter(name, node.args[1]) if arguments[1:] else None)

    def parameter(self, function: str, node: ast.expr) -> float:
        value = self.number(node)
        row = unary_row(function)
        low, high = row.parameter_range
        if not low < value < high:
            limit = f"between {low:g} and {high:g}" if high < math.inf else f"above {low:g}"
            self.fail_at(node, f"the {row.parameter} of {function} must be {limit}")
        return value

    def binary(self, node: ast.BinOp, depth: int) -> Expr:
        function = OPERATORS.get(type(node.op))
        if function is None:
            assert node.left.end_col_offset is not None
            between = self.text[self.column(node.left.end_col_offset) :]
            sign = re.search(r"//|%|@", between)
            assert sign is not None
            start = self.column(node.left.end_col_offset) + sign.start()
            self.fail(unknown("binary", sign[0], BINARY), start, start + len(sign[0]))
        if function == "**" and isinstance(node.left, ast.Name) and node.left.id == "e":
            return Unary("exp", self.expr(node.right, depth + 1))
        return Binary(function, self.expr(node.left, depth + 1), self.expr(node.right, depth + 1))


def _arguments(name: str) -> list[str]:
    """The names of a function's arguments."""
    if _is_binary(name):
        return ["x", "y"]
    parameter = None if name in ("identity", "abs") else unary_row(name).parameter
    return ["x"] if parameter is None else ["x", parameter]


def _is_binary(name: str) -> bool:
    return name in BINARY or name in BINARY_2


def _usage(name: str) -> str:
    return f"{name}({', '.join(_arguments(name))})"


def _without_abs(node: ast.expr) -> ast.expr:
    match node:
        case ast.Call(func=ast.Name(id="abs"), args=[x], keywords=[]):
            return x
        case _:
            return node
