"""What several groups of verbs share: arguments, and how what they name is opened."""

from __future__ import annotations

import argparse
import functools
import gc
import signal
import sys
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from nos_repro.cli.terminal import check_results, columns, command, place
from nos_repro.errors import ConfigError

if TYPE_CHECKING:
    from nos_repro.experiments.schema import Study
    from nos_repro.experiments.store import Store
    from nos_repro.report.search.history import History

ADDED_ROW = "+rows.NAME={optimizer: ...} adds a row to a study"

Verb: TypeAlias = Callable[[argparse.Namespace], int]
Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


class Help(argparse.HelpFormatter):
    """As wide as the terminal, from 80 to 120 columns; examples keep their lines."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=columns() - 2)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:  # examples
            return text
        return textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent)


def examples_text(*examples: str) -> str:
    """The end of a help: each example is what follows the program's name."""
    return "\n".join(["examples:", *(f"  {command()} {words}" for words in examples)])


def add_verb(
    verbs: Verbs, name: str, verb: Verb, help_text: str, *examples: str
) -> argparse.ArgumentParser:
    """``examples`` are words that follow the program's name."""
    parser = verbs.add_parser(
        name,
        help=help_text,
        description=help_text,
        epilog=examples_text(*examples),
        formatter_class=Help,
    )
    parser.set_defaults(verb=verb)
    return parser


def study_arguments(
    parser: argparse.ArgumentParser, what: str = "a study file, e.g. configs/table2.yaml"
) -> None:
    file_arguments(parser, what, f"task.width=2; {ADDED_ROW}")
    rows_argument(parser)


def either_arguments(parser: argparse.ArgumentParser) -> None:
    file_arguments(
        parser, "a study's or search's file, e.g. configs/table2.yaml", f"seed=1; {ADDED_ROW}"
    )


def file_arguments(parser: argparse.ArgumentParser, what: str, override: str) -> None:
    parser.add_argument("config", metavar="CONFIG", help=what)
    overrides_argument(parser, f"settings that override the file's, e.g. {override}")
    scale_argument(parser)
    results_argument(parser)


def overrides_argument(parser: argparse.ArgumentParser, help_text: str) -> None:
    parser.add_argument("overrides", nargs="*", default=[], metavar="KEY=VALUE", help=help_text)


def scale_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scale", help="one of the scales in the file (default: paper; the first,"
                        " if none has that name)")  # fmt: skip


def rows_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", action="append", default=[], metavar="ROW",
                        help="only this row, or these: 'PowerSign*'; repeatable")  # fmt: skip


def results_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--results", type=place, default=Path("results"), metavar="DIR",
                        help="where records are kept (default: results)")  # fmt: skip


def format_argument(parser: argparse.ArgumentParser, *forms: str) -> None:
    """Besides text and JSON, the verb prints ``forms``."""
    parser.add_argument("--format", choices=("text", *forms, "json"), default="text",
                        help="json: a document for programs, of the schema in"
                        " nos_repro/report/documents/schema.json (default: text)")  # fmt: skip


def data_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=place, metavar="DIR",
                        help="where the data sets are (default: $NOS_REPRO_DATA, else a folder in"
                        " the user's cache)")  # fmt: skip


def trust_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--trust", action="store_true",
                        help="import the modules that a checkpoint's or search's folder names: this"
                        " runs their code")  # fmt: skip


def threads_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=int, default=1, metavar="N",
                        help="CPU cores per trial (default: 1)")  # fmt: skip


def machine_arguments(parser: argparse.ArgumentParser) -> None:
    data_argument(parser)
    parser.add_argument("--workers", type=int, metavar="N",
                        help="trials at a time (default: one per core, or per GPU; 0: in this"
                        " process)")  # fmt: skip
    threads_argument(parser)


def training_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--retry", action="store_true", help="try the trials that failed again")
    parser.add_argument("--checkpoint-seconds", type=float, default=60.0, metavar="S",
                        help="time between checkpoints of a trial (default: 60); longer where"
                        " saving would take over 2 %% of the time")  # fmt: skip


def wandb_argument(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--wandb", choices=("off", "auto", "offline", "online"), default="off",
                        help=f"log {what} to W&B; auto: online when logged in, else offline"
                        " (default: off)")  # fmt: skip
    parser.add_argument("--wandb-artifacts", action="append", default=[],
                        choices=("checkpoints", "tables"), metavar="KIND",
                        help="with --wandb, also upload the last checkpoints, or the tables and"
                        " records: checkpoints or tables; repeatable")  # fmt: skip


def open_study(options: argparse.Namespace, *, trying: bool = False) -> tuple[Study, Store]:
    """The verb's study and its store. ``trying``: as in `load_study`, for a verb that trains."""
    from nos_repro.experiments.load import load_study
    from nos_repro.experiments.store import Store
    from nos_repro.report.figures.base import figure_of

    check_results(options.results)
    study = load_study(
        find_settings(options),
        scale=options.scale,
        overrides=options.overrides,
        rows=options.rows,
        check=figure_of,
        trying=trying,
    )
    return study, Store(options.results, study.study, study.scale)


def find_settings(options: argparse.Namespace) -> Path:
    """The file that the verb is about; sets the scale if none is asked for."""
    from nos_repro.experiments.layers import scale_in_effect
    from nos_repro.experiments.settings_file import find_config, read_values

    path = find_config(options.config)
    if options.scale is None:
        try:
            options.scale = scale_in_effect(read_values(path))
        except ConfigError:  # loading the file says what is wrong with it
            options.scale = "paper"
    return path


def history_of(options: argparse.Namespace) -> History | None:
    """The search that the verb's file declares; None where it declares a study."""
    from nos_repro.experiments.settings_file import is_search

    path = find_settings(options)
    if not is_search(path):
        return None
    from nos_repro.report.search.history import read_history

    check_results(options.results)
    if options.rows:
        raise ConfigError(f"{path}: --rows chooses among a study's rows; a search has none")
    history = read_history(
        path,
        options.results,
        scale=options.scale,
        overrides=options.overrides,
        trust=options.trust,
    )
    warn_of(history.problems)
    return history


def warn_of(problems: Iterable[str]) -> None:
    for problem in problems:
        print(f"warning: {problem}", file=sys.stderr)


def stop_like_ctrl_c() -> None:
    """Has SIGTERM stop this process the way Ctrl-C does: every running trial saves its state."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def print_document(found: dict[str, Any]) -> None:
    from nos_repro.report.documents.base import written

    print(written(found))


def reads(verb: Verb) -> Verb:
    """A verb that only reads and prints, without Python's garbage collector.

    Thousands of records are millions of objects, none of them garbage before the end; the
    collector would walk them all again and again: a fifth of the time. `main` turns it on again.
    """

    @functools.wraps(verb)
    def without_collector(options: argparse.Namespace) -> int:
        gc.disable()
        return verb(options)

    return without_collector
