"""The process that starts candidates, shared by the tests of a file: it takes seconds to start."""

from collections.abc import Iterator

import pytest

from nos_repro.score.process import Nursery


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as started:
        yield started
