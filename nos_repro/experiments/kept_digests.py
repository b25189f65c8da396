"""Digests of code that are kept for the next process, each with the sources that it was made of.

A kept one is used only if every module that was asked for then is the same now, or still missing.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from nos_repro.experiments import digest, source, syntax
from nos_repro.experiments.digest import Sources


class KeptDigests:
    """`Sources.digest`, with what earlier processes found, in a ``folder``."""

    def __init__(self, sources: Sources, folder: Path) -> None:
        self.sources = sources
        self.folder = folder

    def digest(self, roots: Sequence[str], *texts: str) -> str:
        key = hashlib.sha256(_reader() + orjson.dumps([roots, texts])).hexdigest()[:32]
        path = self.folder / f"{key}.digest.json"
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            kept: dict[str, Any] = orjson.loads(path.read_bytes())
            if all(self._content(name) == text for name, text in kept["modules"].items()):
                return str(kept["digest"])
        self.sources.asked.clear()
        found = self.sources.digest(roots, *texts)
        modules = {name: self._content(name) for name in sorted(self.sources.asked)}
        with suppress(OSError):  # it only saves time
            self.folder.mkdir(parents=True, exist_ok=True)
            scratch = path.with_suffix(f".{os.getpid()}")
            scratch.write_bytes(orjson.dumps({"digest": found, "modules": modules}))
            scratch.replace(path)
        return found

    def _content(self, name: str) -> str:
        """What a module is; "" for none."""
        return _content(self.sources, name)


@functools.cache
def _content(sources: Sources, name: str) -> str:
    path, text = sources.content(name)
    return "" if path is None else f"{path.name} {hashlib.sha256(text).hexdigest()[:32]}"


@functools.cache
def _reader() -> bytes:
    """The source of what makes digests: those of another version of it are not used."""
    files = (__file__, digest.__file__, source.__file__, syntax.__file__)
    return b"".join(Path(file).read_bytes() for file in files)
