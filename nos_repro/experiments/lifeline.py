"""How a process of a trial notices at once that another one has ended, whatever it waits for."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from datetime import timedelta

import torch
import torch.distributed as dist

log = logging.getLogger(__name__)

NEVER = timedelta(days=3650)
GOODBYE_SECONDS = 60.0
"""How long a process that leaves waits for the others' goodbyes."""
WAKE_SECONDS = 40.0
"""How long a process that waits for one that has ended has to notice, before it is ended too."""


class Lifeline:
    """Connections between the leader and each of the other processes that carry one goodbye.

    The kernel closes those of a process that ends in any way, and whoever listens at the other end
    hears of it: without this, NCCL would wait ten minutes for gradients that do not come. Then the
    process group is aborted, which ends NCCL's waits with an error; a process that is still waiting
    after WAKE_SECONDS (gloo's waits for a third process cannot be aborted) ends. All processes of
    the default group make one, in the same order.
    """

    def __init__(self, rank: int, world: int) -> None:
        group = dist.new_group(backend="gloo", timeout=NEVER)
        assert isinstance(group, dist.ProcessGroup)
        self._group = group
        self._awake = threading.Event()
        self.severed = False
        """Whether another process has ended: what fails then, fails because of that."""
        self._peers = range(1, world) if rank == 0 else [0]
        self._listeners = [
            threading.Thread(target=self._listen, args=(peer,), daemon=True) for peer in self._peers
        ]
        for listener in self._listeners:
            listener.start()

    def say_goodbye(self) -> None:
        """Leaves the others in peace: they do not take this process for dead."""
        self._awake.set()
        for peer in self._peers:
            with contextlib.suppress(RuntimeError):  # it has ended
                dist.send(torch.ones(1), dst=peer, group=self._group)
        for listener in self._listeners:
            listener.join(GOODBYE_SECONDS)

    def wake(self) -> None:
        """This process has noticed that something is wrong."""
        self._awake.set()

    def cut(self) -> None:
        """Leaves without a goodbye, though this process may live on."""
        self._awake.set()
        self._group.abort()

    def _listen(self, peer: int) -> None:
        try:
            dist.recv(torch.ones(1), src=peer, group=self._group)
        except (RuntimeError, ValueError):
            self.severed = True
            if not self._awake.is_set():
                log.warning("process %d of this trial has ended", peer)
                if dist.group.WORLD is not None:
                    dist.group.WORLD.abort()
            if not self._awake.wait(WAKE_SECONDS):
                log.error("this process waits in vain for others, and ends")
                os._exit(1)
