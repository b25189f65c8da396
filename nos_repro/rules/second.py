"""The second edition's texts: states with names, then the update.

    language 2: u <- 0.9 * u + g; g + 0.9 * u

Each part before the last gives a state its new value. Before that part, and in it, the state's
name means the old value, and after it the new one; `old(u)` always means the old one. A text says
by its beginning that it is of this edition, unless a file says so for all of its texts.
"""

from __future__ import annotations

import ast
import keyword
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import ClassVar

from nos_repro.errors import RuleError, unknown
from nos_repro.rules.parse import LONGEST_TEXT, TAG, WORDS_2, Reader, parse
from nos_repro.rules.primitives import (
    ALIASES,
    BINARY,
    BINARY_2,
    OPERANDS_2,
    UNARY,
    UNARY_2,
    find_operand,
)
from nos_repro.rules.states import live
from nos_repro.rules.tree import LANGUAGES, Expr, Operand, States, new_value, old_value

NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*")
MOST_STATES = 16
RESERVED = {"e", "rd", "old", "new", "identity", "abs", "language", *WORDS_2, *UNARY, *BINARY}


def parse_rule(text: str, language: int = 1) -> tuple[Expr, States]:
    """The update's tree and the states of a text, in the edition that it names itself, or else in
    `language`. Raises RuleError."""
    if language not in LANGUAGES:
        raise RuleError(f"language must be 1 (the papers') or 2, got {language!r}")
    found = TAG.match(text)
    if found is not None and found[1] != "2":
        raise RuleError(unknown("edition of the language:", found[1], ["2"]))
    if found is None and language == 1:
        return parse(text), ()
    return _parse_second(re.sub(r"\s", " ", text), 0 if found is None else found.end())


def _parse_second(text: str, start: int) -> tuple[Expr, States]:
    if len(text) > LONGEST_TEXT:
        raise RuleError(f"a rule has at most {LONGEST_TEXT} characters")
    parts = []
    for part in text[start:].split(";"):
        parts.append((start, start + len(part)))
        start += len(part) + 1
    names = _names(text, parts[:-1])
    states: list[tuple[str, Expr]] = []
    for name, (begin, end) in zip(names, parts, strict=False):
        begin = text.index("<-", begin) + 2
        states.append((name, _reader(text, begin, end, names, [n for n, _ in states]).read()))
    begin, end = parts[-1]
    reader = _reader(text, begin, end, names, names)
    if "<-" in text[begin:end]:
        reader.fail("after the last state comes the update: u <- ...; u", begin, end)
    update = reader.read()
    found = tuple(states)
    used = {name for name, _ in live(update, found)}
    for name, (begin, _) in zip(names, parts, strict=False):
        if name not in used:
            reader.fail(f"the update does not depend on the state '{name}'", _first(text, begin))
    return update, found


def _reader(text: str, begin: int, end: int, names: list[str], assigned: list[str]) -> SecondReader:
    """Reads a part of the text in its place, so that carets point into the whole."""
    if not text[begin:end].strip():
        raise RuleError(f"an expression is missing: {text.strip()}")
    return SecondReader(" " * begin + text[begin:end], text, names, assigned)


def _first(text: str, begin: int) -> int:
    return begin + len(text[begin:]) - len(text[begin:].lstrip())


def _names(text: str, parts: list[tuple[int, int]]) -> list[str]:
    """The names of the states. Raises RuleError for what cannot be one."""
    names: list[str] = []
    for begin, end in parts:
        reader, first = SecondReader(text), _first(text, begin)
        name, arrow, _ = text[begin:end].partition("<-")
        name = name.strip()
        if not arrow:
            reader.fail("a part before the last one is a state: u <- 0.9 * u + g", first, end)
        if not NAME.fullmatch(name) or keyword.iskeyword(name):
            reader.fail("a state's name has letters, then digits: u, buf2", first, end)
        if name in RESERVED or name in ALIASES or find_operand(name):
            reader.fail(f"'{name}' is a word of the language: choose another name", first)
        if name in names:
            reader.fail(f"the state '{name}' has a new value already", first)
        names.append(name)
    if len(names) > MOST_STATES:
        raise RuleError(f"a rule has at most {MOST_STATES} states, got {len(names)}")
    return names


@dataclass
class SecondReader(Reader):
    """Reads one part of a text. names: the states; assigned: those whose new values are known."""

    names: list[str] = field(default_factory=list)
    assigned: list[str] = field(default_factory=list)
    unary: ClassVar[Collection[str]] = (*UNARY, *UNARY_2)
    callable: ClassVar[Collection[str]] = (
        *Reader.callable, *UNARY_2, *(name for name, row in BINARY_2.items() if row.token)
    )  # fmt: skip

    def operand(self, node: ast.Name) -> Expr:
        if node.id in self.names:
            return new_value(node.id) if node.id in self.assigned else old_value(node.id)
        if node.id in OPERANDS_2:
            return Operand(node.id)
        return super().operand(node)

    def call(self, node: ast.Call, depth: int) -> Expr:
        match node:
            case ast.Call(func=ast.Name(id="old"), args=[ast.Name(id=name)], keywords=[]):
                if name in self.names:
                    return old_value(name)
                self.fail_at(node.args[0], unknown("state", name, self.names))
            case ast.Call(func=ast.Name(id="old")):
                self.fail_at(node, "old is written old(u), with the name of a state")
        return super().call(node, depth)

    def unknown(self, kind: str, name: str, choice: Collection[str]) -> str:
        more = (*OPERANDS_2, *self.names) if kind == "operand" else ()
        return unknown(kind, name, [*choice, *more])
