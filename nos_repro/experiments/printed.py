"""The numbers that the papers print for a rule. Their only source is the shipped studies."""

from collections.abc import Iterator

from nos_repro.experiments.settings_file import read_layers, read_values, shipped
from nos_repro.rules.catalog import lookup
from nos_repro.rules.rule import Rule


def printed_results(rule: Rule) -> Iterator[str]:
    """`table5, PowerSign: Valid Perplexity 68.5, Test Perplexity 64.8`: one line per row of a
    shipped study that trains the rule, in this form or in an algebraically equal one. A study based
    on a table of the paper quotes its numbers, and has no line of its own."""
    normal = rule.normal()
    for study, path in shipped().items():
        values, own = read_values(path), read_layers(path)[-1].get("rows", {})
        for name, row in values.get("rows", {}).items():
            numbers = own.get(name, {}).get("paper", {})
            if numbers and _rule_of(row["optimizer"]).normal() == normal:
                titles = values["columns"]
                cells = [f"{titles[column]} {number:g}" for column, number in numbers.items()]
                yield f"{study}, {name}: {', '.join(cells)}"


def _rule_of(optimizer: str) -> Rule:
    """The rule that a row of a paper's table trains, also for a baseline."""
    return lookup(optimizer.removeprefix("rule:").removesuffix("-tf"))
