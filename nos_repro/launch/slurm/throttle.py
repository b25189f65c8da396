"""Limits how many jobs run at a time, over all arrays of a study together."""

from __future__ import annotations

from nos_repro.launch.slurm import cluster
from nos_repro.launch.slurm.ledger import JobArray


class Throttle:
    """`array_parallelism` places, shared among arrays, oldest first.

    SLURM enforces each array's share; places that an array no longer needs, because it has fewer
    jobs left, go to the next. A job keeps its place until SLURM has dropped the job, a moment after
    it has reported.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._shares: dict[str, int] = {}
        self._batches: dict[str, JobArray] = {}
        self._adopted: set[str] = set()

    @property
    def batches(self) -> list[JobArray]:
        """The arrays that hold places."""
        return list(self._batches.values())

    @property
    def room(self) -> int:
        """Places that no array holds."""
        return self.total - sum(self._shares.values())

    def give(self, batch: JobArray, places: int) -> None:
        """Notes that an array was submitted, to run ``places`` of its jobs at a time."""
        self._batches[batch.name] = batch
        self._shares[batch.name] = places

    def adopt(self, batch: JobArray) -> None:
        """Takes in an array that another process has submitted, whose share is unknown."""
        if batch.name not in self._batches:
            self.give(batch, min(self.total, len(batch.packs)))
            self._adopted.add(batch.name)

    def update(self, standings: cluster.Standings) -> None:
        """Redistributes the places, given what SLURM still has."""
        left = self.total
        for name, batch in list(self._batches.items()):
            packs = range(len(batch.packs))
            alive = sum(standings.get((name, pack), cluster.GONE).alive for pack in packs)
            if not alive:
                del self._batches[name], self._shares[name]
                continue
            share = max(1, min(left, alive))
            unsure = share > self._shares[name] or name in self._adopted
            if unsure and len(batch.packs) > 1:
                cluster.throttle(str(batch.array), share)
                self._adopted.discard(name)
            self._shares[name] = share
            left -= share
