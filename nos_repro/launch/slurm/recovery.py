"""Cleans up what earlier front ends left: batches without a number, packs that ended unobserved.

Only the process that is submitting may call this (`Ledger.submitting`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from nos_repro.errors import LaunchError
from nos_repro.launch.slurm import cluster
from nos_repro.launch.slurm.ledger import JobArray, Ledger, Message


def number(ledger: Ledger) -> bool:
    """Finds out, for every batch without a number, whether SLURM has it. False: no answer.

    A front end may have died after sbatch answered and before Submitit had put every job's pickle
    in place; a job without its pickle would wait for it in vain.
    """
    for batch in ledger.open:
        if batch.array is not None:
            continue
        array = cluster.find_by_name(batch.name)
        if array is None:
            return False
        if not array:
            close(batch, batch.open, "was never submitted")
            continue
        batch.array = array
        batch.save()
        pickles = batch.folder / "submitit"
        there = {path.name for path in pickles.glob("*_submitted.pkl")}
        lacking = [p for p in batch.open if f"{batch.task(p)}_submitted.pkl" not in there]
        close(batch, lacking, "was never submitted as a whole")
    return True


def bury(ledger: Ledger) -> bool:
    """Closes what is open but no longer on the cluster. False: no answer."""
    ledger.queued()
    standings = cluster.standings(ledger.open)
    if standings is None:
        return False
    for batch in ledger.open:
        dead = [p for p in batch.open if not standings.get((batch.name, p), cluster.GONE).alive]
        close(batch, dead, "ended while no process watched")
    return True


def close(batch: JobArray, packs: Iterable[int], reason: str) -> None:
    """Gives the packs up: if SLURM starts one again, it exits at once. That is enough; cancelling
    them on the cluster is only tried."""
    gone = list(packs)
    for pack in gone:
        batch.close(pack, reason)
    if batch.array is not None:
        with contextlib.suppress(LaunchError):
            cluster.cancel(batch.task(pack) for pack in gone)


def cancel_all(ledger: Ledger) -> list[str]:
    """Cancels everything queued from this ledger; returns SLURM's numbers of the cancelled jobs.

    Raises LaunchError if SLURM does not do it; then nothing is forgotten, and it can be tried
    again.
    """
    ledger.queued()
    if not number(ledger):
        raise LaunchError("squeue: SLURM does not answer; try again in a while")
    standings = cluster.standings(ledger.batches.values())
    if standings is None:
        raise LaunchError("squeue: SLURM does not answer; try again in a while")
    live = [
        ledger.batches[name].task(pack)
        for (name, pack), standing in sorted(standings.items())
        if standing.alive and standing.state != "COMPLETING"
    ]
    cluster.cancel(live)
    for batch in ledger.open:
        for pack in batch.open:
            for place in batch.unreported(pack):
                batch.say(pack, place, Message("cancelled", "cancelled by the verb `cancel`"))
            batch.close(pack, "cancelled")
    return live
