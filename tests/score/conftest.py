"""The process that starts candidates, shared by all tests: it takes seconds to start."""

from collections.abc import Iterator

import pytest

from nos_repro.score.process import Nursery


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    with Nursery() as started:
        yield started
