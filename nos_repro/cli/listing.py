"""The verb `list`."""

from __future__ import annotations

import argparse
import textwrap

from nos_repro.cli.common import Verbs, add_verb, format_argument, print_document, reads
from nos_repro.cli.terminal import columns

LISTED = ("studies", "searches", "tables", "tasks", "data", "optimizers", "schedules", "rules",
          "spaces", "algorithms")  # fmt: skip
LONG = "rules"
"""Of this kind there are too many to print them with all others."""


def add_verbs(verbs: Verbs) -> None:
    parser = add_verb(verbs, "list", list_names,
                      "list what a file or command can name, each with a line about it",
                      "list", "list rules", "list spaces --format json")  # fmt: skip
    parser.add_argument("kind", nargs="?", choices=LISTED, metavar="KIND",
                        help=f"one of: {', '.join(LISTED)} (default: all)")  # fmt: skip
    format_argument(parser)


@reads
def list_names(options: argparse.Namespace) -> int:
    from nos_repro.report.inventory import inventory

    found = inventory(*filter(None, [options.kind]))
    if options.format == "json":
        from nos_repro.report.documents.base import document

        print_document(document("list", **found))
        return 0
    for kind, names in found.items():
        if options.kind is None:
            print(f"{kind}:")
            if kind == LONG:
                print(
                    f"  {len(names)} that the papers print, and any text; `list rules` shows them"
                )
                continue
        width = max((len(each.name) for each in names), default=0)
        for each in names:
            head = f"  {each.name:<{width}}  "
            print(textwrap.fill(each.about, columns(), initial_indent=head,
                                subsequent_indent=" " * len(head), break_long_words=False)
                  if each.about else head.rstrip())  # fmt: skip
    return 0
