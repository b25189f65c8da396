"""The verb `bench`."""

from __future__ import annotations

import argparse

from nos_repro.cli.common import Verbs, add_verb, results_argument


def add_verbs(verbs: Verbs) -> None:
    parser = add_verb(verbs, "bench", bench,
                      "run the repository's benchmarks (ratios, interleaved)")  # fmt: skip
    parser.add_argument("names", nargs="*", metavar="NAME", help="which (default: all)")
    parser.add_argument("--list", action="store_true", help="only list them")
    results_argument(parser)


def bench(options: argparse.Namespace) -> int:
    from nos_repro.bench import BENCHMARKS, run_benchmarks

    if options.list:
        print("\n".join(BENCHMARKS.names()))
        return 0
    return run_benchmarks(options.names, options.results)
