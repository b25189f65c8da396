"""The verb `bench`."""

from __future__ import annotations

import argparse
import sys
from functools import partial

from nos_repro.cli.common import Verbs, add_verb, format_argument, print_document, results_argument


def add_verbs(verbs: Verbs) -> None:
    parser = add_verb(verbs, "bench", bench,
                      "run the repository's benchmarks (ratios, interleaved)",
                      "bench --list", "bench optimizer-step")  # fmt: skip
    parser.add_argument("names", nargs="*", metavar="NAME", help="which (default: all)")
    parser.add_argument("--list", action="store_true", help="only list them")
    results_argument(parser)
    format_argument(parser)


def bench(options: argparse.Namespace) -> int:
    from nos_repro.bench import BENCHMARKS, run_benchmarks

    if options.list:
        print("\n".join(BENCHMARKS.names()))
        return 0
    as_json = options.format == "json"
    stream = sys.stderr if as_json else sys.stdout
    say = partial(print, file=stream, flush=True)
    records, missed = run_benchmarks(options.names, options.results, say)
    if as_json:
        from nos_repro.report.documents.base import document

        print_document(document("bench", benchmarks=records))
    return 1 if missed else 0
