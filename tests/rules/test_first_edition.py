"""The papers' language stays as it is: hashes of all that follows from its texts, taken before the
second edition was added."""

import itertools
import re
from collections.abc import Iterable
from hashlib import blake2b

import pytest
import torch

from nos_repro.errors import RuleError
from nos_repro.optim.export import export
from nos_repro.optim.kernel import KernelKind, source
from nos_repro.optim.native_source import native_source
from nos_repro.optim.program import lower
from nos_repro.optim.ternary import select_signs
from nos_repro.rules.catalog import CATALOG
from nos_repro.rules.rule import Rule
from nos_repro.rules.space import SPACES
from nos_repro.rules.tokens import BINARY_TOKENS, OPERAND_TOKENS, UNARY_TOKENS

RULES = [
    *dict.fromkeys(entry.text for entry in CATALOG.values()),
    "g3 * rd10 + annealed_noise - cd7 * w",
    "2 ** (cd3 * sign(g) * sign(m)) * gamma",
    "log(v) ** 2 - 1 / g + drop(1, 0.5) * g",
    "-sigmoid(neg(sign(g)) * 0.5) / m",
]
WRONG = ["exp(sgn(g)) * g", "g * q", "g; m", "u <- g", "sign(g", "clip(g)", "g // m"]


def digest(parts: Iterable[object]) -> str:
    text = "\n".join(map(str, parts))
    return blake2b(text.encode(), digest_size=8).hexdigest()


def kinds(text: str) -> Iterable[KernelKind]:
    program = select_signs(lower(Rule.parse(text).expr))
    flags = list(itertools.product((False, True), repeat=3))
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        for l2, decoupled, maximize in flags:
            yield KernelKind(program, dtype, torch.device("cpu"), l2, decoupled, maximize)


def error(text: str) -> str:
    with pytest.raises(RuleError) as raised:
        Rule.parse(text)
    return str(raised.value)


def exported(text: str) -> str:
    return re.sub(r"\(nos_repro [^)]*\)", "", export(f"rule: {text}"))


def test_texts_trees_tokens_and_fingerprints_are_those_of_before() -> None:
    rules = [Rule.parse(text) for text in RULES]
    assert digest(map(str, rules)) == "2743446fbca2f6b7"
    assert digest(rule.expr for rule in rules) == "0afca73af2b6b9ae"
    assert digest(rule.latex() for rule in rules) == "a2ce8a51d6cd7f2b"
    assert digest(rule.tokens() for rule in rules) == "b426c8230dd155de"
    assert digest(rule.normal() for rule in rules) == "0e2ba32bf2040fb6"
    assert digest(rule.fingerprint() for rule in rules) == "5f4336711ef184d9"


def test_programs_and_the_sources_of_kernels_are_those_of_before() -> None:
    assert digest(lower(Rule.parse(text).expr) for text in RULES) == "7709ad5450f7ea66"
    assert (
        digest(select_signs(lower(Rule.parse(text).expr)) for text in RULES) == "0e614b4e46d19bcd"
    )
    assert digest(source(kind) for text in RULES for kind in kinds(text)) == "b8c34478ea984413"
    assert (
        digest(native_source(kind) for text in RULES for kind in kinds(text)) == "e2900f30f33179b9"
    )


def test_exported_files_are_those_of_before() -> None:
    assert digest(map(exported, RULES)) == "01dc059574c5ebb0"


def test_words_and_spaces_are_those_of_before() -> None:
    words = [*OPERAND_TOKENS, "", *UNARY_TOKENS, "", *BINARY_TOKENS]
    spaces = [
        (name, space.operands, space.unary, space.binary, space.iterations, space.size)
        for name, space in SPACES.items()
    ]
    assert digest([words, spaces]) == "a9c5a2cd651d23c4"


def test_errors_are_those_of_before() -> None:
    assert digest(map(error, WRONG)) == "ab97b5b55196a1d4"
