"""The command line: one verb a function. Imports come late, so that `--help` is instant."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence

from nos_repro.cli.parser import make_parser
from nos_repro.errors import NosError

USER_ERROR = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit status (1: failed, 2: user mistake, 130: interrupted)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not where a notebook or a test took its place
            stream.reconfigure(errors="replace")  # in an old locale, `?` for a sign like ±
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
        status = verb(options)
        sys.stdout.flush()  # here a closed pipe is answered; at the interpreter's exit it is noise
        return status
    except NosError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
