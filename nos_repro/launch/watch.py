"""A worker process ends with the one that started it."""

from __future__ import annotations

import multiprocessing
import os

WATCH_SECONDS = 1.0
"""How often a worker looks whether its fork server is there."""


def leave_with_parent() -> None:
    """Ends this worker when the process that started it ends, for whatever reason, or the fork
    server does: the parent takes that for the end of all its workers, and starts others. For a
    thread of its own."""
    parent, server = multiprocessing.parent_process(), os.getppid()
    assert parent is not None
    while parent.is_alive() and os.getppid() == server:
        parent.join(WATCH_SECONDS)
    os._exit(1)
