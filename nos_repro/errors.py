"""The errors that a user can cause: printed without a traceback, exit code 2.

Each says what is wrong, where, the nearest fix and the full choice. `assert` is for our own bugs.
"""

import contextlib
import sys
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path

NO_NUMBERS = "a mistake makes no record (experiments.digest)"


class NosError(Exception):
    """A mistake that the user can fix. ``status`` is the exit status of a command that meets it."""

    status = 2


class RuleError(NosError, ValueError):
    """An update rule that is not in the language."""


class ConfigError(NosError, ValueError):
    """A setting that is unknown, of the wrong type, or impossible."""


class SparseGradientError(ConfigError, RuntimeError):
    """A sparse gradient, which an update rule cannot use."""


class DataError(NosError):
    """A data set that is missing, incomplete or damaged."""


class LaunchError(NosError):
    """Trials that cannot be started where they were asked to run."""


class EndsProgram(RuntimeError):
    """A user's own code has called `sys.exit`."""


@contextlib.contextmanager
def no_exit() -> Iterator[None]:
    """What calls `sys.exit` in the block fails: else the whole command would end there, as if all
    were well."""
    try:
        yield
    except SystemExit as error:
        code = "" if error.code is None else error.code
        problem = f"it ends the program: sys.exit({code})"
        raise EndsProgram(problem).with_traceback(error.__traceback__) from None


LONGEST = 100
"""Characters of a name that an error prints."""
MOST_NAMES = 20
"""How many names of a choice an error prints."""


def unknown(what: str, given: str, choice: Iterable[str]) -> str:
    """Two lines: `unknown unary 'sgn'`, then the nearest spelling (if any) and the choice, of which
    at most 20 are printed."""
    shown = given if len(given) <= LONGEST else f"{given[:LONGEST]}..."
    shown = shown if shown.isprintable() else repr(shown)[1:-1]
    return f"unknown {what} '{shown}'\n  {nearest(given, choice)}"


def in_a_line(error: BaseException) -> str:
    """What an error says, with its kind and the last line of a user's own file that it went
    through; a user's mistake (NosError) speaks for itself."""
    import site
    import traceback

    said = " ".join(str(error).split())
    if isinstance(error, NosError):
        return said
    libraries = (str(Path(__file__).parent), sys.base_prefix, sys.prefix, *site.getsitepackages())
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(("<", *libraries))
    ]
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {said}{where}"


def nearest(given: str, choice: Iterable[str]) -> str:
    """`did you mean 'sign'?  one of: exp sign sqrt`, with at most 20 names of the choice."""
    names = sorted(choice)
    folded = {name.lower(): name for name in names}
    near = get_close_matches(given.lower()[:100], folded, n=1, cutoff=0.6)
    guess = f"did you mean '{folded[near[0]]}'?  " if near else ""
    more = f" ... ({len(names)} in all)" if len(names) > MOST_NAMES else ""
    return f"{guess}one of: {' '.join(names[:MOST_NAMES])}{more}"
