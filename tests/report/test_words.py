"""What studies and searches are called."""

from nos_repro.experiments.settings_file import shipped
from nos_repro.report.words import OURS, TITLES


def test_every_study_and_search_that_ships_has_a_title_and_no_other_has_one() -> None:
    assert shipped().keys() == TITLES.keys()
    assert TITLES.keys() >= OURS
