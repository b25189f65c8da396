"""The verbs `bench` and `check-device`."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

from nos_repro.cli.common import Verbs, add_verb, format_argument, print_document, results_argument
from nos_repro.cli.terminal import check_results, place
from nos_repro.errors import ConfigError, unknown


def add_verbs(verbs: Verbs) -> None:
    parser = add_verb(verbs, "bench", bench,
                      "run the repository's benchmarks (ratios, interleaved)",
                      "bench --list", "bench optimizer-step")  # fmt: skip
    parser.add_argument("names", nargs="*", metavar="NAME", help="which (default: all)")
    parser.add_argument("--list", action="store_true", help="only list them")
    results_argument(parser)
    format_argument(parser)

    parser = add_verb(verbs, "check-device", check_device,
                      "check what this machine's GPU does with the suite, in five minutes",
                      "check-device", "check-device --html device.html",
                      "check-device --only steps --only hours --minutes 10",
                      "check-device --device cpu --quick")  # fmt: skip
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto",
                        help="what to check (default: auto, the GPU if there is one)")  # fmt: skip
    parser.add_argument("--minutes", type=float, default=5.0, metavar="N",
                        help="about how long (default: 5)")  # fmt: skip
    parser.add_argument("--only", action="append", default=[], metavar="SECTION",
                        help="only executions, updates, steps, resuming or hours; repeatable; the"
                        " result is not stored")  # fmt: skip
    parser.add_argument("--quick", action="store_true",
                        help="tiny models, to try the check itself; not stored")  # fmt: skip
    parser.add_argument("--html", type=place, metavar="FILE.html|DIR",
                        help="also write an HTML page")  # fmt: skip
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


def check_device(options: argparse.Namespace) -> int:
    from nos_repro.bench.device_check import SECTIONS
    from nos_repro.bench.device_check import check_device as checked
    from nos_repro.experiments.files import write_json
    from nos_repro.report.device_check import check_path, conclusion, section_table
    from nos_repro.report.documents.base import document
    from nos_repro.report.pages.write import check_folder, is_file, write_page

    check_results(options.results)
    for name in options.only:
        if name not in SECTIONS:
            raise ConfigError(f"--only: {unknown('section', name, SECTIONS)}")
    html: Path | None = options.html
    if html is not None:
        check_folder(html.parent if is_file(html) else html)
    stream = sys.stderr if options.format == "json" else sys.stdout

    def tell(section: dict[str, Any]) -> None:
        print(f"{section_table(section).text()}\n", file=stream, flush=True)

    found = document(
        "device",
        **checked(
            options.device,
            minutes=options.minutes,
            only=options.only,
            quick=options.quick,
            tell=tell,
        ),
    )
    print(conclusion(found), file=stream)
    if options.format == "json":
        print_document(found)
    if not options.quick and not options.only:
        path = check_path(options.results, found["device"])
        write_json(path, found)
        print(f"wrote {path}", file=sys.stderr)
    if html is not None:
        from nos_repro.report.pages.device_page import device_file, device_page

        path = html if is_file(html) else html / device_file(found)
        page = device_page(found, results=options.results)
        for each in write_page(page, path, standalone=is_file(html)):
            print(f"wrote {each}", file=sys.stderr)
    return 0 if found["holds"] else 1
