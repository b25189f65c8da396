"""The rules that the papers list, and how one is explained."""

import re
from collections import Counter

import pytest

from nos_repro.errors import NosError, RuleError, unknown
from nos_repro.rules.catalog import CATALOG, lookup, printed_at
from nos_repro.rules.explain import explain
from nos_repro.rules.rule import Rule


def of(paper, table):
    return [entry for entry in CATALOG.values() if (entry.paper, entry.table) == (paper, table)]


def test_every_table_has_all_its_rows():
    tables = re.compile("(icml-)?table[0-9]-")
    rows = Counter((e.paper, e.table) for name, e in CATALOG.items() if tables.match(name))
    assert rows == {
        ("002", "Table 1"): 14, ("002", "Table 2"): 16, ("002", "Table 3"): 3,
        ("002", "Table 4"): 2,  ("002", "Table 5"): 4,  ("002", "Table 6"): 4 + 28,
        ("000", "Table 1"): 4 + 16, ("000", "Table 2"): 2,
    }  # fmt: skip


def test_table_6_prints_one_rule_twice():
    rules = Counter(entry.rule.normal() for entry in of("002", "Table 6"))
    assert [str(rule) for rule, n in rules.items() if n > 1] == ["sign(m) * sqrt(g)"]


def test_both_papers_print_the_same_sixteen_rules():
    later = {entry.rule for entry in of("002", "Table 6")}
    assert {entry.rule for entry in of("000", "Table 1")} <= later


@pytest.mark.parametrize("entry", CATALOG.values(), ids=lambda entry: entry.name)
def test_every_entry_parses_prints_and_is_explained(entry):
    assert Rule.parse(str(entry.rule)) == entry.rule
    assert Rule.parse(str(entry.rule.normal())).normal() == entry.rule.normal()
    assert entry in printed_at(entry.rule)
    assert entry.rule.latex().count("{") == entry.rule.latex().count("}")
    assert re.fullmatch("[a-z0-9.-]+", entry.name)
    assert entry.place in explain(lookup(entry.name))


def test_the_families_take_any_decay():
    assert lookup("powersign-rd7") == Rule.parse("exp(rd7 * (sign(g) * sign(m))) * g")
    assert lookup("addsign") == Rule.parse("(1 + sign(g) * sign(m)) * g")
    assert lookup("addsign-ld") == CATALOG["table1-addsign-ld"].rule
    for name in ("powersign-rd", "addsign-cd0", "powersign-xy"):
        with pytest.raises(RuleError, match=r"unknown decay.*\n.*cd\{n\}"):
            lookup(name)


def test_a_misspelt_name_is_answered_with_the_nearest():
    with pytest.raises(RuleError, match="did you mean the name 'powersign-ld'"):
        lookup("powersing-ld")


def test_explain_shows_what_a_rule_costs_and_where_it_is_printed():
    text = explain(Rule.parse("g * exp(sign(m) * sign(g))"))
    for said in (
        "exp(sign(g) * sign(m)) * g",
        "1 average (m): 4 bytes per parameter in float32, Adam 8",
        "sign(m) sign(g) identity identity *",
        "002 Table 6, rule 16",
        "└─ exp",
        r"\hat{m}",
        "powersign: base**(f * (sign(g) * sign(m))) * g with f = 1, base = e",
    ):
        assert said in text, text
    assert "needed, since it reads a decay" in explain(Rule.parse("g * ld"))
    assert "0 averages: 0 bytes" in explain(Rule.parse("g"))
    assert explain(Rule.parse("g * gamma * 3")).endswith("not printed")
    assert "002 sec. 5.1 (addsign)" in explain(Rule.parse("g + sign(g) * sign(m) * g"))
    assert "of its normal form" in explain(Rule.parse("m * 0.5 * 2"))


def test_explain_looks_up_the_numbers_of_the_printed_rule():
    def results(rule):
        return [f"the numbers of {rule}"]

    for text in ("m", "m / 2 * 2", "sqrt(m * m) * sign(m)"):
        assert explain(Rule.parse(text), results).endswith("their numbers  the numbers of m"), text
    assert "numbers" not in explain(Rule.parse("g * exp(m)"), results)


def test_explain_of_a_shared_part_draws_both():
    assert explain(Rule.parse("g * g")).count("─ g") == 2


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("exp(sign(g) * sign(m)) * g", r"e^{\mathrm{sign}(g) * \mathrm{sign}(\hat{m})} * g"),
        ("m / sqrt(v)", r"\frac{\hat{m}}{\sqrt{|\hat{v}|}}"),
        ("drop(m, 0.3) * exp(1e-3 * w)", r"\mathrm{drop}(\hat{m}, 0.3) * e^{10^{-3} * w}"),
        ("(1 + g) * g2", r"\left(1 + g\right) * g^2"),
        ("g2**m", r"{\left(g^2\right)}^{\hat{m}}"),
        ("-(g - m)", r"-\left(g - \hat{m}\right)"),
        ("3e-5 * g", r"3 \cdot 10^{-5} * g"),
        ("rd10 * g", "rd_{10} * g"),
    ],
)
def test_latex_is_the_papers_notation(text, latex):
    assert Rule.parse(text).latex() == latex


def test_unknown_names_the_nearest_and_the_choice():
    assert unknown("unary", "sgn", ["sign", "exp"]) == (
        "unknown unary 'sgn'\n  did you mean 'sign'?  one of: exp sign"
    )
    assert "did you mean" not in unknown("unary", "zzz", ["sign", "exp"])
    assert issubclass(RuleError, NosError)
