"""How many jobs may run at a time, over all arrays of a study together."""

from __future__ import annotations

from collections.abc import Mapping

from nos_repro.launch.slurm import cluster
from nos_repro.launch.slurm.ledger import JobArray


class Throttle:
    """`array_parallelism` places, shared out among arrays, the oldest first.

    SLURM keeps to the share of one array; what an array no longer needs, because fewer of its jobs
    are left, goes to the next. A job has its place until SLURM no longer has the job, which is a
    moment longer than until it has reported.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._shares: dict[str, int] = {}
        self._batches: dict[str, JobArray] = {}
        self._adopted: set[str] = set()

    @property
    def batches(self) -> list[JobArray]:
        """The arrays that have places."""
        return list(self._batches.values())

    @property
    def room(self) -> int:
        """Places that no array has."""
        return self.total - sum(self._shares.values())

    def give(self, batch: JobArray, places: int) -> None:
        """An array was submitted, to run ``places`` of its jobs at a time."""
        self._batches[batch.name] = batch
        self._shares[batch.name] = places

    def adopt(self, batch: JobArray) -> None:
        """An array that another process has submitted: nobody knows its share."""
        if batch.name not in self._batches:
            self.give(batch, min(self.total, len(batch.packs)))
            self._adopted.add(batch.name)

    def update(self, states: Mapping[str, str]) -> None:
        """Shares the places out again, given what SLURM still has."""
        left = self.total
        for name, batch in list(self._batches.items()):
            tasks = map(batch.task, range(len(batch.packs)))
            alive = sum(states.get(task) in cluster.LIVE for task in tasks)
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
