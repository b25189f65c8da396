"""YAML 1.2 as study files use it: mappings, lists, text, numbers, true, false and null.

YAML 1.1, which PyYAML reads, takes `1:30` for 90, `010` for 8 and `no` for false. Here none of
these is a number; and what is one keeps its text, since only the schema knows which is meant:
`account: 1e5`.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

import yaml

from nos_repro.errors import ConfigError

Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# fmt: off
TRUTHS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
NULLS = ("", "~", "null", "Null", "NULL")
GUESSED = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}
"""What YAML 1.1 takes for a truth value, and how to write that."""
PLAIN_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
NUMBER = re.compile(
    r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
GUESS = re.compile(
    r"[-+]?0[0-9_]+(\.[0-9_]*)?([eE][-+]?[0-9]+)?|[-+]?0o[0-7]+|[-+]?0x[0-9a-fA-F_]+|[-+]?0b[01_]+"
    r"|[-+]?[0-9][0-9_]*_[0-9_]*(\.[0-9_]*)?|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"
)
"""What YAML 1.1, or another language, takes for a number."""
# fmt: on

MOST_DIGITS = 400
"""No number here needs more; Python itself refuses those of 4,300."""
MOST_VALUES = 300_000
"""A study of 10,000 rows has fewer."""

UNQUOTED = "!unquoted"
TEXT, LIST, MAPPING = (f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map"))


class Unusual(str):
    """An unquoted word that can be meant as text or not: `1e5`, `010`, `no`, `1:30`.

    ``value`` is what it is where the schema has no text: the number `1e5`, the truth value `True`;
    None if only YAML 1.1 would guess one, where ``plain`` says what to write instead.
    """

    __slots__ = ("plain", "value")
    value: Any
    plain: str

    def __new__(cls, text: str, value: Any, plain: str = "") -> Unusual:
        word = super().__new__(cls, text)
        word.value, word.plain = value, plain
        return word

    @property
    def advice(self) -> str:
        """What to write instead of a guess."""
        return f"{str(self)!r} is ambiguous: write {self.plain}, or put it in quotes as text"

    def __deepcopy__(self, memo: Any) -> Unusual:
        return self


def word(text: str) -> Any:
    """What an unquoted word is: null, a truth value, a number, Unusual, or text."""
    if text in NULLS:
        return None
    if text in TRUTHS:
        return TRUTHS[text] if text.islower() else Unusual(text, TRUTHS[text])
    if text[0] not in "+-.0123456789":
        guess = GUESSED.get(text.lower())
        return text if guess is None else Unusual(text, None, guess)
    if len(text) > MOST_DIGITS:
        if text.lstrip("+-").isdigit():
            raise ConfigError(f"a number is too large: {text[:20]}... has {len(text):,} digits")
        return text
    if PLAIN_INTEGER.fullmatch(text):
        return int(text)
    if NUMBER.fullmatch(text):
        value = _number(text)
        return value if repr(value) == text else Unusual(text, value)
    return Unusual(text, None, _plain(text)) if GUESS.fullmatch(text) else text


def _number(text: str) -> int | float:
    digits = text.lower().replace(".inf", "inf").replace(".nan", "nan")
    return int(digits) if digits.lstrip("+-").isdigit() else float(digits)


def _plain(text: str) -> str:
    """How to write a number that YAML 1.1 guesses; a base of 60 has no other form."""
    digits = text.replace("_", "").lstrip("+")
    if ":" in digits:
        return "a plain number, e.g. 1.5"
    try:
        return str(int(digits, 0))
    except ValueError:
        return re.sub(r"^(-?)0+(?=[0-9])", r"\1", digits)


class _Words(Loader):  # type: ignore[misc]
    """Leaves what an unquoted word means to `word`."""

    yaml_implicit_resolvers: ClassVar[dict[Any, Any]] = {None: [(UNQUOTED, re.compile(""))]}


def read_yaml(text: str) -> Any:
    """The contents of a file, or of a value on the command line. Raises ConfigError."""
    try:
        node = yaml.compose(text, Loader=_Words)
        return None if node is None else _Values().of(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
        raise ConfigError(f"not valid YAML: {where}{error.problem}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"not valid YAML: {' '.join(str(error).split())}") from None
    except UnicodeEncodeError:
        raise ConfigError("not valid YAML: it is not UTF-8") from None
    except RecursionError:
        raise ConfigError("not valid YAML: nested too deep") from None


class _Values:
    """The values of a document's nodes. Aliases may name one node many times, each inside another,
    so the values are counted."""

    def __init__(self) -> None:
        self.made = 0

    def of(self, node: yaml.Node) -> Any:
        self.made += 1
        if self.made > MOST_VALUES:
            raise _wrong(node, f"more than {MOST_VALUES:,} values, aliases counted")
        if isinstance(node, yaml.MappingNode) and node.tag == MAPPING:
            return self.of_mapping(node)
        if isinstance(node, yaml.SequenceNode) and node.tag == LIST:
            return [self.of(child) for child in node.value]
        if isinstance(node, yaml.ScalarNode) and node.tag in (UNQUOTED, TEXT):
            return word(node.value) if node.tag == UNQUOTED else node.value
        raise _wrong(node, f"the tag {node.tag} has no meaning here")

    def of_mapping(self, node: yaml.MappingNode) -> dict[str, Any]:
        below: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _wrong(key, "a key must be a word or text")
            if key.tag == UNQUOTED and key.value == "<<":
                below = {**self.merged(value), **below}
            elif key.value in own:
                raise _wrong(key, f"found duplicate key {key.value}")
            else:
                own[key.value] = self.of(value)
        return {**below, **own}

    def merged(self, node: yaml.Node) -> dict[str, Any]:
        """What `<<: *other` or `<<: [*one, *other]` adds; the first one named wins."""
        found = self.of(node)
        parts = found if isinstance(found, list) else [found]
        if not all(isinstance(part, dict) for part in parts):
            raise _wrong(node, "<< needs a mapping, or a list of mappings")
        return {key: value for part in reversed(parts) for key, value in part.items()}


def _wrong(node: yaml.Node, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def numbers(value: Any, where: str | None = None) -> Any:
    """``value`` with each unusual number as a number.

    What only YAML 1.1 would guess, such as `no` and `1:30`, is text; but if ``where`` says which
    key has the value, one that takes more than text, it is refused: raises ConfigError.
    """
    if isinstance(value, dict):
        return {key: numbers(part, where and f"{where}.{key}") for key, part in value.items()}
    if isinstance(value, list):
        return [numbers(part, where and f"{where}[{n}]") for n, part in enumerate(value)]
    if not isinstance(value, Unusual):
        return value
    if value.value is None and where:
        raise ConfigError(f"{where}: {value.advice}")
    return str(value) if value.value is None else value.value


def texts(value: Any) -> Any:
    """``value`` with each unusual word as text, for what a schema reads later."""
    if isinstance(value, dict):
        return {key: texts(part) for key, part in value.items()}
    if isinstance(value, list):
        return [texts(part) for part in value]
    return str(value) if isinstance(value, Unusual) else value
