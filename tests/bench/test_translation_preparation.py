"""The benchmark of a text's preparation, at a size of seconds and, if asked, of WMT14."""

import pytest

from nos_repro.bench.translation_preparation import prepare


def test_a_small_text_is_prepared_and_measured() -> None:
    rows = {row.what: row for row in prepare(3000, 500)}
    assert 0.05 < rows["3,000 pairs: peak memory of all processes"].value.median < 2
    assert rows["3,000 pairs: peak memory of all processes"].met
    assert rows["3,000 pairs: core time of choosing lines to learn from"].value.median > 0
    assert rows["3,000 pairs: core time of reading and storing meanwhile"].value.median > 0
    assert rows["projected: 4,500,000 pairs on 8 cores"].at_most == 5


@pytest.mark.slow
@pytest.mark.drill
def test_a_text_of_twice_the_size_takes_hardly_more_memory() -> None:
    """With a sample for the word pieces that is smaller than either."""
    (small, *_), (large, *_) = (prepare(count, 1000, lines=5000) for count in (120_000, 240_000))
    assert large.value.median < small.value.median + 0.15
