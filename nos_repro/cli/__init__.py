"""The command line: one file per group of verbs, which owns their arguments and functions.

The functions import late, so that `--help` is instant.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from nos_repro import __version__
from nos_repro.cli import (
    arena,
    benchmarks,
    checking,
    creating,
    duelling,
    judging,
    listing,
    models,
    reporting,
    rules,
    running,
    scoring,
    searching,
    tabling,
    tracking,
)
from nos_repro.cli.common import Help, examples_text
from nos_repro.cli.terminal import (
    PATHS_OF_OTHERS,
    said,
    say_error,
    settle_streams,
    silence_output,
)
from nos_repro.errors import EndsProgram, NosError, in_a_line, no_exit
from nos_repro.extras import advice, installed_versions

FAILED = 1
USER_ERROR = 2
INTERRUPTED = 130
GROUPS = (
    creating, checking, running, duelling, searching, tabling, reporting, judging, tracking, rules,
    models, listing, benchmarks, arena, scoring,
)  # fmt: skip


class Parser(argparse.ArgumentParser):
    """Says a mistake as the verbs do: one error, without the usage of all arguments."""

    def error(self, message: str) -> NoReturn:
        say_error(f"{message}\n  `{self.prog} --help` shows the arguments")
        self.exit(USER_ERROR)


class Version(argparse.Action):
    """Prints the versions of what the numbers depend on; torch is not imported for that."""

    def __call__(self, parser: argparse.ArgumentParser, *given: object) -> NoReturn:
        torch = installed_versions(("torch",)).get("torch", "not installed")
        print(f"nos-repro {__version__}, torch {torch}, Python {platform.python_version()}")
        parser.exit()


def make_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="nos-repro",
        description="Reproduce, use and search the optimizers of 'Neural Optimizer Search with"
        " Reinforcement Learning' (Bello et al., 2017).",
        epilog=examples_text(
            "run configs/table2.yaml --scale smoke", "new study my_study", "list studies"
        ),
        formatter_class=Help,
    )
    parser.add_argument(
        "-V", "--version", action=Version, nargs=0, help="show the versions and exit"
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB")
    for group in GROUPS:
        group.add_verbs(verbs)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit status (1: failed, 2: user mistake, 130: interrupted)."""
    collects = gc.isenabled()
    try:
        return _run(arguments)
    finally:
        if arguments is None and not gc.isenabled():
            gc.freeze()  # as the process ends, its memory goes at once, not object by object
        elif collects:
            gc.enable()


def _run(arguments: Sequence[str] | None) -> int:
    settle_streams()
    if arguments is None:
        os.environ.pop("MPLBACKEND", None)  # a notebook names one that only its Python has
    if "" not in sys.path:
        sys.path.append("")  # `nos-repro` finds modules in this folder, as `python -m` does
    parser = make_parser()
    options, words = parser.parse_known_args(arguments)
    if not hasattr(options, "verb"):
        parser.print_help()
        return USER_ERROR
    unknown_flags = [word for word in words if word.startswith("-")]
    if unknown_flags or (words and not hasattr(options, "overrides")):
        parser.error(f"unrecognized arguments: {' '.join(unknown_flags or words)}")
    if hasattr(options, "overrides"):
        options.overrides = [*options.overrides, *words]
    verb: Callable[[argparse.Namespace], int] = options.verb
    try:
        with no_exit():
            status = verb(options)
        sys.stdout.flush()  # a closed pipe is handled here; at the interpreter's exit it is noise
        return status
    except NosError as error:
        say_error(str(error))
        return error.status
    except ModuleNotFoundError as error:
        line = advice(error)
        if line is None:
            raise
        say_error(line)
        return USER_ERROR
    except KeyboardInterrupt:
        if arguments is None:
            _end_quietly()
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        silence_output()
        return FAILED
    except OSError as error:
        if error.filename is None:  # not a file: what is printed to, or the network
            silence_output()
        say_error(said(error))
        return USER_ERROR if error.errno in PATHS_OF_OTHERS else FAILED
    except EndsProgram as error:
        say_error(in_a_line(error))
        return FAILED
    except MemoryError:
        say_error("out of memory")
        return FAILED


def _end_quietly() -> None:
    """As this program is ending, another Ctrl-C changes nothing, and no worker is waited for."""
    for word in (signal.SIGINT, signal.SIGTERM):
        signal.signal(word, signal.SIG_IGN)
    processes = sys.modules.get("multiprocessing")
    for worker in processes.active_children() if processes is not None else ():
        worker.kill()
