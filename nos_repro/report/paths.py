"""Texts for a page, which is read on other machines too: folders and files by their names."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from nos_repro.experiments.settings_file import shipped

# fmt: off
QUOTED = re.compile(r"""(['"])/(?:[^'"\n]*/)?([^'"/\n]+)/?\1""")
BARE = re.compile(r"""(?<![\w<./~)\]}-])(?:file://)?/(?:[^\s/'"<>:,;]+/)+([^\s/'"<>:,;]*)""")
# fmt: on


def by_name(text: str, *folders: Path) -> str:
    """``text`` with ``folders`` by their names; one without a name, such as `.`, hides nothing."""
    for folder in folders:
        if folder.name:
            text = text.replace(str(folder), folder.name)
    return text


def last_parts(text: str) -> str:
    """``text`` with only the last part of every absolute path."""
    return BARE.sub(_last, QUOTED.sub(r"\1\2\1", text))


def _last(found: re.Match[str]) -> str:
    return found[1] or Path(found[0]).name


def file_of(name: str, scale: str) -> str:
    """The file name of the page of a study or search."""
    return f"{name}-{scale}.html"


def config_words(config: Path) -> str:
    """How a command names a study's or search's file."""
    ships = config.resolve() in {each.resolve() for each in shipped().values()}
    return shlex.quote(f"configs/{config.name}" if ships else config.name)


def results_words(results: Path) -> str:
    """How a command names a results folder; "" for the default one."""
    name = results.absolute().name
    return "" if name in ("results", "") else f" --results {shlex.quote(name)}"
