"""Settings that belong to a name: those of one task do not apply to another.

If a layer above names another task, search algorithm or launcher, keys that the layers below set
for the old one are dropped if the new one does not have them. A file that names one keeps it at the
scales of its base.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from nos_repro.experiments.layers import Values, at, merge, put
from nos_repro.experiments.overrides import command_line

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NamedSection:
    """A section, such as `task`, whose `name` decides which other keys it has.

    ``keys`` returns them (None: any); ``beside`` is another section with the same keys.
    """

    path: str
    keys: Callable[[str], Collection[str] | None]
    beside: str = ""

    def fit(self, files: Sequence[Values], scale: str, asked: Values) -> list[Values]:
        """The files without the keys that belong to other names than the one in effect at a
        ``scale``. Logs these if the name was ``asked`` for on the command line."""
        scales = [at(file, f"scales.{scale}") for file in files]
        tops = [self._name(file) for file in files]
        above = [self._name(changes) for changes in scales]
        said = _last([name for both in zip(tops, above, strict=True) for name in both])
        name = self._name(asked) or said
        fitted, dropped = [], []
        for number, file in enumerate(files):
            own = _last(tops[: number + 1])
            file, gone = self._without(file, own, name)
            if isinstance(scales[number], dict):
                own = _last([own, *above[: number + 1]])
                changes, more = self._without(scales[number], own, name, unnamed=True)
                file = {**file, "scales": {**file["scales"], scale: changes}}
                gone += more
            fitted.append(file)
            dropped += gone
        if dropped and name != said:
            keys = ", ".join(dict.fromkeys(dropped))
            log.warning("%s.name=%s leaves out what the file says for %s: %s",
                        self.path, name, said, keys)  # fmt: skip
        return fitted

    def _name(self, values: Any) -> str | None:
        section = at(values, self.path)
        name = section.get("name") if isinstance(section, dict) else None
        return name if isinstance(name, str) else None

    def _without(
        self, values: Values, own: str | None, name: str | None, *, unnamed: bool = False
    ) -> tuple[Values, list[str]]:
        """``values``, meant for the name ``own``, without the keys that ``name`` does not have.

        unnamed: without the name, too.
        """
        if own is None or name is None or own == name:
            return values, []
        keys = self.keys(name)
        gone: list[str] = []
        for path in filter(None, (self.path, self.beside)):
            section = at(values, path)
            if isinstance(section, dict) and keys is not None:
                strange = [key for key in section if key != "name" and key not in keys]
                kept = {key: value for key, value in section.items() if key not in strange}
                if unnamed:
                    kept.pop("name", None)
                values = put(values, path.split("."), kept)
                gone += [f"{path}.{key}" for key in strange]
        return values, gone


def merged_settings(
    files: Sequence[Values],
    scale: str,
    overrides: Sequence[str] = (),
    sections: Iterable[NamedSection] = (),
) -> Values:
    """A study or search of these files at a ``scale``, changed by the words of a command line."""
    asked = command_line(files, overrides)
    for section in sections:
        files = section.fit(files, scale, asked)
    return merge(files, scale, asked)


def _last(names: Sequence[str | None]) -> str | None:
    return next((name for name in reversed(names) if name is not None), None)
