"""Messages between the evaluator and a candidate's process: a length, then JSON.

Nothing but plain values is sent. The weights and gradients are in memory that both share.
"""

from __future__ import annotations

import json
import select
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Any

LONGEST = 1 << 20
"""Bytes of a message."""
TICK = 0.05
"""Seconds between two looks at a process that is waited for."""
_LENGTH = struct.Struct("!I")


class Closed(Exception):
    """The other end is gone."""


class Garbled(Exception):
    """What came is not a message."""


class Channel:
    """One end of a pair of sockets."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end

    def send(self, message: Mapping[str, Any]) -> None:
        """Raises Closed."""
        text = json.dumps(message).encode()
        try:
            self.end.sendall(_LENGTH.pack(len(text)) + text)
        except OSError:
            raise Closed from None

    def receive(self, watch: Callable[[], None] | None = None) -> dict[str, Any]:
        """The next message. ``watch`` is called while none comes, and may raise.

        Raises Closed and Garbled.
        """
        (length,) = _LENGTH.unpack(self._read(_LENGTH.size, watch))
        if length > LONGEST:
            raise Garbled(f"a message of {length:,} bytes")
        try:
            message = json.loads(self._read(length, watch))
        except (ValueError, RecursionError):
            raise Garbled("not JSON") from None
        if not isinstance(message, dict):
            raise Garbled("not an object")
        return message

    def _read(self, size: int, watch: Callable[[], None] | None) -> bytes:
        data = b""
        while len(data) < size:
            while watch is not None and not select.select([self.end], [], [], TICK)[0]:
                watch()
            try:
                part = self.end.recv(size - len(data))
            except OSError:
                raise Closed from None
            if not part:
                raise Closed
            data += part
        return data
