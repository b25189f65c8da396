"""What the command line is given besides words: its streams, and the paths of files."""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import os
import re
import shutil
import sys
from pathlib import Path

from nos_repro.errors import ConfigError

LONGEST = 100
"""Characters of a path that an error shows."""
PATHS_OF_OTHERS = (
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES,
    errno.EPERM, errno.EEXIST, errno.EROFS,
)  # fmt: skip
"""What the system says of a path that the user may have meant otherwise."""


FEWEST_COLUMNS, MOST_COLUMNS = 80, 120
"""Of what is printed; where there is no terminal it has the most."""


def columns() -> int:
    """The width of the terminal, as far as what is printed follows it."""
    given = shutil.get_terminal_size((MOST_COLUMNS, 24)).columns
    return min(max(given, FEWEST_COLUMNS), MOST_COLUMNS)


def command() -> str:
    """What this program is called by, for commands that it proposes."""
    return "nos-repro" if Path(sys.argv[0]).name == "nos-repro" else "python -m nos_repro"


def settle_streams() -> None:
    """Streams that take any text. A closed one (`>&-`) is opened to nothing, else the next file
    that is opened would take its place; in an old locale a sign like ± becomes `?`."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not where a notebook or a test took its place
            stream.reconfigure(errors="replace")


def print_utf8() -> None:
    """What is printed from here on is data for another program: UTF-8 in every locale."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")


def silence_output() -> None:
    """Nobody reads on, or nothing fits any more: what is left unprinted is not tried again."""
    with contextlib.suppress(io.UnsupportedOperation):  # not a stream of the system
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def place(text: str) -> Path:
    """A file or folder that a word of the command line names; `~` is the user's home folder."""
    try:
        if not text.strip():
            raise argparse.ArgumentTypeError("name a file or folder, not nothing")
        path = Path(text).expanduser()
        path.stat()
    except FileNotFoundError:
        return path
    except NotADirectoryError:
        what = "part of the path is a file, not a folder"
        raise argparse.ArgumentTypeError(f"{shown(text)}: {what}") from None
    except (OSError, ValueError, RuntimeError) as error:
        problem = error.strerror if isinstance(error, OSError) else str(error)
        raise argparse.ArgumentTypeError(f"{shown(text)}: {problem}") from None
    return path


def file_place(text: str) -> Path:
    """A `place` for a file to be written."""
    path = place(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text}: is a folder; name a file")
    return path


def shown(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def check_results(folder: Path) -> None:
    """Raises ConfigError for what cannot be a folder of results."""
    if folder.is_symlink() and not folder.exists():
        raise ConfigError(f"--results {folder}: is a link to {folder.readlink()}, which is missing")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--results {folder}: is a file, not a folder")


def say_error(text: str) -> None:
    """Prints the error; of a word without end only its beginning."""
    short = re.sub(r"\S{1000,}", lambda word: f"{word[0][:LONGEST]}...", text)
    with contextlib.suppress(OSError):  # if nothing can be said, the exit status says it
        print(f"error: {short}", file=sys.stderr)


def said(error: OSError) -> str:
    """An error of the system in one line: which file, and what is wrong."""
    problem = error.strerror or str(error)
    return f"{shown(str(error.filename))}: {problem}" if error.filename is not None else problem
