"""A log's lines are linked, so that a line that was edited, added or taken out is noticed.

The last value of each line is a digest of the line and of the one before it. Logs of older versions
have no links; their lines are covered by the first link that follows them.
"""

from __future__ import annotations

import hashlib
import re

KEY = "chain"
LINK = re.compile(rb',"chain":"([0-9a-f]{16})"\}\n')
LENGTH = len(b',"chain":"0123456789abcdef"}\n')


def unlinked(line: bytes) -> bytes:
    """The line without its link, if it has one."""
    start = max(0, len(line) - LENGTH)
    return line[:start] + b"}\n" if LINK.fullmatch(line, start) else line


class Chain:
    """The links of a log's lines, which are taken in from its beginning."""

    def __init__(self) -> None:
        self._unlinked = hashlib.sha256()
        self._last: str | None = None

    @property
    def last(self) -> str:
        """The last link, which depends on all lines so far."""
        return self._last or self._unlinked.hexdigest()[:16]

    def take(self, line: bytes) -> bool:
        """Takes a whole line in; says whether it can follow those before it."""
        found = LINK.fullmatch(line, max(0, len(line) - LENGTH))
        if found is not None:
            self._last = self._next(line[: found.start()])
            return self._last.encode() == found[1]
        self._unlinked.update(line)
        return self._last is None

    def linked(self, line: bytes) -> bytes:
        """Takes in a line that is about to be written; returns it with its link."""
        text = line.removesuffix(b"}\n")
        self._last = self._next(text)
        return text + f',"{KEY}":"{self._last}"}}\n'.encode()

    def copy(self) -> Chain:
        """Another one, which goes on from here."""
        other = Chain()
        other._unlinked, other._last = self._unlinked.copy(), self._last
        return other

    def _next(self, text: bytes) -> str:
        return hashlib.sha256(self.last.encode() + text).hexdigest()[:16]
