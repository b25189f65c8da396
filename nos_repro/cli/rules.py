"""The verbs about an update rule by itself: rule, export."""

from __future__ import annotations

import argparse

from nos_repro.cli.common import Verbs, add_verb, format_argument, print_document
from nos_repro.rules.tree import LANGUAGES


def add_verbs(verbs: Verbs) -> None:
    parser = add_verb(verbs, "rule", rule, "explain an update rule, given its text or its name",
                      "rule powersign", "rule 'exp(sign(g) * sign(m)) * g'",
                      "rule 'u <- 0.9 * u + g; u' --language 2")  # fmt: skip
    parser.add_argument("rule", metavar="RULE",
                        help="e.g. 'exp(sign(g)*sign(m)) * g', or powersign")  # fmt: skip
    _language_argument(parser)
    format_argument(parser)

    parser = add_verb(verbs, "export", export,
                      "write an update rule as one file that needs torch alone",
                      "export powersign-cd > powersign.py",
                      "export 'rule: g + drop(m, 0.3)' --name Mine > mine.py")  # fmt: skip
    parser.add_argument("rule", metavar="RULE", help="as for the verb rule, or 'rule: TEXT'")
    parser.add_argument(
        "--name", metavar="NAME", help="class name (default: derived from the rule)"
    )
    _language_argument(parser)


def _language_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--language", type=int, choices=LANGUAGES, default=1,
                        help="the edition of the language that a text is written in: 1, the"
                        " papers' (default), or 2")  # fmt: skip


def rule(options: argparse.Namespace) -> int:
    from nos_repro.experiments.printed import printed_results
    from nos_repro.rules.catalog import lookup
    from nos_repro.rules.explain import explain

    found = lookup(options.rule, options.language)
    if options.format == "json":
        from nos_repro.report.documents.rule import rule_document

        print_document(rule_document(found, printed_results))
    else:
        print(explain(found, printed_results))
    return 0


def export(options: argparse.Namespace) -> int:
    from nos_repro.optim.export import export

    print(export(options.rule, options.name, options.language), end="")
    return 0
