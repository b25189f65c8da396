"""The verb `report`: one study or search, or everything that a results folder holds."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nos_repro.cli.closing import after_report, after_search_report, say_next
from nos_repro.cli.common import (
    Verbs,
    add_verb,
    find_settings,
    format_argument,
    history_of,
    open_study,
    print_document,
    reads,
    results_argument,
    rows_argument,
    scale_argument,
    trust_argument,
    warn_of,
)
from nos_repro.cli.terminal import check_results, place
from nos_repro.errors import ConfigError

if TYPE_CHECKING:
    from nos_repro.report.collection import Collection
    from nos_repro.report.search.history import History


def add_verbs(verbs: Verbs) -> None:
    parser = add_verb(verbs, "report", report, "show a study's table or a search's report",
                      "report configs/table2.yaml --scale small",
                      "report configs/table2.yaml --scale small --format latex",
                      "report search --scale small --html search.html",
                      "report --all --html pages", "report --all my_study.yaml")  # fmt: skip
    parser.add_argument("overrides", nargs="*", default=[], metavar="CONFIG|KEY=VALUE",
                        help="a study's or search's file, and settings that override it;"
                        " +rows.NAME={optimizer: ...} adds a row")  # fmt: skip
    scale_argument(parser)
    results_argument(parser)
    rows_argument(parser)
    format_argument(parser, "markdown", "latex")
    trust_argument(parser)
    parser.add_argument("--all", action="store_true",
                        help="one line per study and search that has records, at every scale; each"
                        " CONFIG is one of your own, besides those that ship")  # fmt: skip
    parser.add_argument("--across", action="store_true",
                        help="show instead how each scale of a study that has records orders its"
                        " rows: as the paper's numbers do, as the longest runs do, and at what"
                        " cost")  # fmt: skip
    parser.add_argument("--claims", type=place, metavar="FILE",
                        help="with --all: claims of your own besides the papers'")  # fmt: skip
    parser.add_argument("--write", action="store_true",
                        help="also write tables and figures next to the records; with --all also"
                        " the claims")  # fmt: skip
    parser.add_argument("--html", type=place, metavar="FILE.html|DIR",
                        help="also write an HTML page: FILE.html holds everything; in a folder it"
                        " is called STUDY-SCALE.html and shares assets/ with others. With --all a"
                        " folder: index.html, and one page per study and search")  # fmt: skip
    parser.add_argument(
        "--standalone",
        action="store_true",
        help="with --html DIR: every page holds everything, and needs no assets/",
    )
    parser.add_argument("--card", type=place, metavar="DIR",
                        help="with --all: also write a reproduction card: the verdicts as JSON, a"
                        " badge, and metadata that make the folder an RO-Crate")  # fmt: skip


@reads
def report(options: argparse.Namespace) -> int:
    if options.all:
        return _report_all(options)
    if options.claims is not None:
        raise ConfigError("--claims is for --all; `claims --file` judges them")
    if options.card is not None:
        raise ConfigError("--card is for --all: it counts every study, search and claim")
    if not options.overrides:
        raise ConfigError("name a study or search, e.g. configs/table2.yaml; --all is all of them")
    options.config, *options.overrides = options.overrides
    if options.standalone and options.html is None:
        raise ConfigError("--standalone is for --html; add it, or leave --standalone out")
    from nos_repro.experiments.settings_file import is_table

    if options.write and (options.overrides or options.rows):
        raise ConfigError("--write is for the whole study's table; leave out --rows and overrides")

    if options.across:
        return _report_across(options)
    if is_table(find_settings(options)):
        return _report_table(options)
    history = history_of(options)
    return _report_study(options) if history is None else _report_search(history, options)


def _report_across(options: argparse.Namespace) -> int:
    from nos_repro.experiments.settings_file import (
        is_search,
        is_table,
        named,
        read_values,
        shipped,
    )
    from nos_repro.report.claims.results import Results
    from nos_repro.report.scale_orders import scale_orders, scales_table

    chosen = {"--scale": options.scale, "--rows": options.rows, "overrides": options.overrides,
              "--write": options.write, "--html": options.html}  # fmt: skip
    for name, value in chosen.items():
        if value:
            raise ConfigError(f"--across is about all scales of a whole study; leave out {name}")
    check_results(options.results)
    path = find_settings(options)
    if is_table(path) or is_search(path):
        raise ConfigError(f"--across is for a study; {options.config} is none")
    name = str(read_values(path)["study"])
    files = shipped() if name in shipped() else named([options.config])
    results = Results(options.results, files, options.trust)
    found = scale_orders(name, results)
    if options.format == "json":
        from nos_repro.report.documents.study import scales_document

        print_document(scales_document(found))
    else:
        print(getattr(scales_table(found), options.format)())
    warn_of(results.problems)
    return 0


def _report_table(options: argparse.Namespace) -> int:
    from nos_repro.report.nosbench.tables import nosbench_tables
    from nos_repro.search.table.analysis import analyse
    from nos_repro.search.table.loaded import load
    from nos_repro.search.table.settings import load_table_settings

    check_results(options.results)
    if options.rows:
        raise ConfigError("--rows chooses among a study's rows; a table of rules has none")
    settings = load_table_settings(
        find_settings(options), scale=options.scale, overrides=options.overrides
    )
    page = _page(options, f"nosbench-{settings.table}")
    folder = settings.folder(options.results)
    found = analyse(load(folder))
    if options.format == "json":
        from nos_repro.report.documents.nosbench import nosbench_document

        print_document(nosbench_document(found))
    else:
        tables = nosbench_tables(found)
        print("\n\n".join(getattr(table, options.format)() for table in tables))
    if options.write:
        from nos_repro.report.nosbench.card import write_card

        write_card(folder)
        _say_written(folder / "README.md")
    if page is not None:
        from nos_repro.report.pages.nosbench_page import nosbench_page
        from nos_repro.report.pages.write import write_page

        table_page = nosbench_page(found.table, _words(options), results=options.results)
        _say_written(*write_page(table_page, page, standalone=_standalone(options)))
    return 0


def _report_study(options: argparse.Namespace) -> int:
    from nos_repro.experiments.selection import outcomes
    from nos_repro.report.study.duels import duel_line, read_duels
    from nos_repro.report.study.files import write_report
    from nos_repro.report.study.table import study_table

    study, store = open_study(options)
    page = _page(options, study.study)
    rows = outcomes(study, store)
    duels = list(read_duels(store.root, store.problems))
    if options.format == "json":
        from nos_repro.report.documents.study import study_document
        from nos_repro.report.study.verdict import judge_study

        cells = judge_study(study, rows)
        print_document(study_document(study, rows, cells, store.problems, duels=duels))
    else:
        print(getattr(study_table(study, rows), options.format)())
    if options.format == "text" and duels:
        print("\n".join(["", "duels:", *(f"  {duel_line(each)}" for each in duels)]))
    if options.write:
        _say_written(*write_report(study, rows, store.root))
    if page is not None:
        from nos_repro.report.collection import FoundStudy
        from nos_repro.report.pages.study_page import study_page
        from nos_repro.report.pages.write import write_page
        from nos_repro.report.study.verdict import judge_study

        found = FoundStudy(study, rows, store, judge_study(study, rows))
        standalone = _standalone(options)
        _say_written(*write_page(study_page(found, _words(options)), page, standalone=standalone))
    warn_of(store.problems)
    if options.format == "text":
        say_next(after_report(options, study, rows))
    return 0


def _report_search(history: History, options: argparse.Namespace) -> int:
    from nos_repro.report.search.files import print_report, write_search_report

    page = _page(options, history.asked.search)
    if options.format == "json":
        from nos_repro.report.documents.search import search_document

        print_document(search_document(history, history.problems))
    else:
        print(print_report(history, options.format))
    if options.write:
        _say_written(*write_search_report(history))
    if page is not None:
        from nos_repro.report.pages.search_page import search_page
        from nos_repro.report.pages.write import write_page

        standalone = _standalone(options)
        _say_written(
            *write_page(search_page(history, _words(options)), page, standalone=standalone)
        )
    if options.format == "text":
        say_next(after_search_report(options, history))
    return 0


def _page(options: argparse.Namespace, name: str) -> Path | None:
    """Where to write the page; raises before anything is printed if that is impossible."""
    if options.html is None:
        return None
    from nos_repro.report.pages.write import page_path

    return page_path(options.html, name, options.scale)


def _standalone(options: argparse.Namespace) -> bool:
    """Who names a file wants one file; pages in a folder share what they can."""
    from nos_repro.report.pages.write import is_file

    return options.standalone or is_file(options.html)


def _words(options: argparse.Namespace) -> str:
    """The words that name the study on a command line."""
    from nos_repro.experiments.settings_file import find_config
    from nos_repro.report.paths import config_words

    config = config_words(find_config(options.config))
    rows = [word for row in options.rows for word in ("--rows", row)]
    return f"{config} {shlex.join(['--scale', options.scale, *options.overrides, *rows])}"


def _report_all(options: argparse.Namespace) -> int:
    from nos_repro.experiments.settings_file import named
    from nos_repro.report.claims.results import Results
    from nos_repro.report.collection import read_collection, summary

    if options.standalone and options.html is None:
        raise ConfigError("--standalone is for --html; add it, or leave --standalone out")
    _check_all(options)
    check_results(options.results)
    collection = read_collection(
        Results(options.results, named(options.overrides), options.trust), options.claims
    )
    if options.format == "json":
        from nos_repro.report.documents.collection import collection_document

        print_document(collection_document(collection))
    else:
        print("\n".join(summary(collection)))
    if options.write:
        _write_all(collection)
    if options.html is not None:
        from nos_repro.report.pages.write import write_pages

        _say_written(*write_pages(collection, options.html, standalone=options.standalone))
    if options.card is not None:
        from nos_repro.report.card import write_card

        _say_written(*write_card(collection, options.card))
    warn_of([*collection.left_out, *collection.problems])
    if options.format == "text" and options.html is None:
        words = ["--all", *options.overrides]
        words += [] if options.results == Path("results") else ["--results", str(options.results)]
        say_next({f"report {shlex.join(words)} --html pages": "a page for each of them"})
    return 1 if collection.broken else 0


def _check_all(options: argparse.Namespace) -> None:
    """`--all` takes files besides those that ship, and no selection."""
    given = {
        "--scale": options.scale,
        "--rows": options.rows,
    }
    for name, value in given.items():
        if value:
            raise ConfigError(f"--all is every study and search at every scale; leave out {name}")
    if options.format not in ("text", "json"):
        raise ConfigError(f"--format {options.format} is for one study or search, not for --all")
    if options.html is not None:
        from nos_repro.report.pages.write import check_folder

        check_folder(options.html)


def _write_all(collection: Collection) -> None:
    from nos_repro.report.collection import write_collection

    for path in write_collection(collection):
        _say_written(path)
    if collection.broken:
        print("warning: claims.md was not written: some records cannot be read", file=sys.stderr)


def _say_written(*paths: Path) -> None:
    for path in paths:
        print(f"wrote {path}", file=sys.stderr)
