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
def test_a_text_of_ten_times_the_size_takes_hardly_more_memory() -> None:
    (small, *_), (large, *_) = prepare(20_000, 1000), prepare(200_000, 1000)
    assert large.value.median < small.value.median + 0.25
