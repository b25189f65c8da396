"""The benchmarks of full-size data, at a size of seconds."""

import re

from nos_repro.bench import image_scan, search_report


def test_a_small_set_of_images_is_listed_within_its_share_of_the_budget_s_count():
    (row,) = image_scan.scan(40, 4)
    assert row.what == "40 files listed"
    assert row.at_most == 5 * 40 / image_scan.IMAGENET


def test_a_small_search_is_reported_and_measured(monkeypatch):
    monkeypatch.delenv("NOS_REPRO_BENCH_BEFORE", raising=False)
    monkeypatch.setattr(search_report, "ROUNDS", 1)
    (row,) = search_report.measure(60)
    assert re.fullmatch("report: 60 draws", row.what)
    assert 0 < row.value.median < 60
