"""The papers' numbers for a rule, from the studies that ship. The cells are those in the PDFs."""

import pytest

from nos_repro.cli import main
from nos_repro.experiments.printed import printed_results
from nos_repro.rules.rule import Rule

EXPECTED = {
    # 002 Tables 1 and 2; a family, in another form than the file's
    "g * exp(ld * sign(m) * sign(g))": [
        "table1, PowerSign-ld: Best Test 93.6, Final Test 93.4",
        "table2, PowerSign-ld (cosine): Best Test 95.3, Final Test 95.2",
        "table2, PowerSign-ld (linear cosine): Best Test 95.3, Final Test 95.2",
    ],
    # 002 Table 6 prints it twice
    "sign(m) * sqrt(g)": [
        "table6, sign(m) * sqrt(g): Final Val 92.2, Final Test 91.8, Best Val 92.9, Best Test 92.2",
        "table6, sign(m) * sqrt(g) (again): "
        "Final Val 91.7, Final Test 91.1, Best Val 92.3, Best Test 91.6",
    ],
    # a baseline
    "rmsprop": [
        "table1, RMSProp: Best Test 92.3, Final Test 91.6",
        "table2, RMSProp (cosine): Best Test 93.6, Final Test 93.5",
        "table3, RMSProp: Top-1 Accuracy 73.5, Top-5 Accuracy 91.5",
        "table6, RMSProp: Final Val 90.7, Final Test 90.3, Best Val 91.4, Best Test 90.3",
    ],
    "g * gamma": [],
}


@pytest.mark.parametrize(("text", "lines"), EXPECTED.items())
def test_a_rules_numbers_are_those_of_every_table_that_has_it(text: str, lines: list[str]) -> None:
    assert list(printed_results(Rule.parse(text))) == lines


def test_the_verb_rule_shows_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rule", "table5-addsign"]) == 0
    text = capsys.readouterr().out
    assert "table5, AddSign: Valid Perplexity 68.8, Test Perplexity 65.2" in text
    assert main(["rule", "g * gamma"]) == 0
    assert "numbers" not in capsys.readouterr().out
