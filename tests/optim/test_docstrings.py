"""What `from nos_repro import ...` offers documents itself: every argument, examples that run."""

import doctest
import inspect
import pydoc
import re
from typing import Any

import pytest

import nos_repro

PUBLIC = [getattr(nos_repro, name) for name in nos_repro.__all__]
OPTIMIZERS = [nos_repro.AddSign, nos_repro.PowerSign, nos_repro.RuleOptimizer]


@pytest.mark.parametrize("public", PUBLIC, ids=lambda public: public.__name__)
def test_its_examples_run(public: Any) -> None:
    tests = doctest.DocTestFinder(recurse=False).find(public, public.__name__, globs={})
    assert any(test.examples for test in tests), "no example"
    for test in tests:
        assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test).failed == 0


@pytest.mark.parametrize("public", PUBLIC, ids=lambda public: public.__name__)
def test_its_help_fits_a_narrow_terminal(public: Any) -> None:
    assert max(map(len, (inspect.getdoc(public) or "").splitlines())) <= 80


@pytest.mark.parametrize("public", PUBLIC, ids=lambda public: public.__name__)
def test_every_argument_is_explained(public: Any) -> None:
    text = inspect.getdoc(public) or ""
    explained = set(re.findall(r"^    (?:\\?\*\*)?(\w+): ", text, re.MULTILINE))
    parameters = inspect.signature(public).parameters
    assert explained >= parameters.keys()
    if public in OPTIMIZERS:
        assert all(p.kind is not p.VAR_KEYWORD for p in parameters.values())
        assert "arXiv:1709.07417" in pydoc.render_doc(public)
