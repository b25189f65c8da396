"""The processes that train one trial together, each on its slice of every batch.

Something else starts them (`srun`, torchrun, a test) and tells each its rank in the environment.
Process 0 leads: it alone holds the claim and writes the record, and the others do as it says. What
they agree on while all is well (gradients, losses, stops) goes through a process group of the
trial's own; what they must know when something fails goes through a key-value store that lives as
long as the processes.

A process blocked on gradients learns that a peer failed only when that peer exits (gloo offers
nothing else). A failure not shared by all therefore dissolves the group: the next trial is a
LaunchError in each process, and whatever started them ends them.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from torch._C._distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from nos_repro.errors import LaunchError, NosError
from nos_repro.experiments.lifeline import Lifeline

JOIN_SECONDS = 600.0
"""How long the processes wait for each other before a trial. While it trains, they notice if one
ends (`Lifeline`); one that lives in silence is given up by torch after 10 minutes (NCCL) or 30."""

VERDICT_SECONDS = 10.0
"""How long a process that failed waits to hear that the others failed too, from the same bug."""

PLACES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

T = TypeVar("T")
_trials = itertools.count()
_choices = itertools.count()


class Replicas:
    """A process that trains alone, and so agrees with itself."""

    rank = 0
    world = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def agree(self, *wishes: bool) -> tuple[bool, ...]:
        """Each wish, granted if any of the processes has it."""
        return wishes

    def mean(self, values: list[float]) -> list[float]:
        """The mean over the processes, of each value."""
        return values

    def add(self, sums: dict[str, float]) -> dict[str, float]:
        """The sum over the processes of each value; a process may lack some of them."""
        return sums

    def gather(self, value: T) -> list[T]:
        """The values of all processes, by rank."""
        return [value]

    def from_leader(self, make: Callable[[], T]) -> T:
        """What ``make`` returns in the leader, for all processes."""
        return make()

    def leader_first(self, make: Callable[[], T]) -> T:
        """What ``make`` returns in each process; the others begin when the leader is done."""
        return make()

    def say(self, word: str) -> None:
        """Sends the leader's next word on the trial."""

    def explain(self, error: Exception) -> tuple[str, str]:
        """Why the trial failed, in a line, and the traceback."""
        reason = str(error) if isinstance(error, NosError) else f"{type(error).__name__}: {error}"
        return reason, "".join(traceback.format_exception(error))


ALONE = Replicas()


@dataclass
class Group(Replicas):
    """This process among several, with a process group and a key prefix in the store."""

    nodes: int
    processes: int
    environment: ClusterEnvironment
    store: Store
    trial: Store
    rank: int = 0
    broken: bool = False

    def __post_init__(self) -> None:
        self.world = self.nodes * self.processes
        self._words = itertools.count()
        self.lifeline = Lifeline(self.rank, self.world)

    def agree(self, *wishes: bool) -> tuple[bool, ...]:
        flags = torch.tensor(wishes, dtype=torch.uint8)
        dist.all_reduce(flags, dist.ReduceOp.MAX)
        return tuple(bool(flag) for flag in flags.tolist())

    def mean(self, values: list[float]) -> list[float]:
        if not values:
            return values
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total)
        means: list[float] = (total / self.world).tolist()
        return means

    def add(self, sums: dict[str, float]) -> dict[str, float]:
        total: dict[str, float] = {}
        for own in self.gather(sums):
            for key, value in own.items():
                total[key] = total.get(key, 0.0) + value
        return total

    def gather(self, value: T) -> list[T]:
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def from_leader(self, make: Callable[[], T]) -> T:
        made: list[Any] = [make() if self.leads else None]
        dist.broadcast_object_list(made, src=0)
        value: T = made[0]
        return value

    def leader_first(self, make: Callable[[], T]) -> T:
        if not self.leads:
            self.from_leader(lambda: None)
            return make()
        try:
            return make()
        finally:  # if it fails, the others must fail as well
            self.from_leader(lambda: None)

    def say(self, word: str) -> None:
        self.trial.set(f"word/{next(self._words)}", word)

    def hear(self, seconds: float | None = None) -> str:
        """The leader's next word. Raises LaunchError if none comes, or the leader is lost."""
        key = f"word/{next(self._words)}"
        try:
            if seconds is not None:
                self.trial.wait([key], timedelta(seconds=seconds))
            word = _text(self.trial, key)
        except dist.DistError as error:
            raise LaunchError("the leading process is silent, or gone") from error
        if word.startswith("lost"):
            raise LaunchError(f"the leading process cannot go on ({word})")
        return word

    def explain(self, error: Exception) -> tuple[str, str]:
        """The leader's reason; that of a failed process, if the leader only noticed its silence.

        Raises LaunchError if a process vanished without a word: the machine's fault, not a bug.
        """
        self._break()
        if not self._lost_touch(error):
            try:
                others = [f"failed/{rank}" for rank in range(1, self.world)]
                self.trial.wait(others, timedelta(seconds=VERDICT_SECONDS))
            except dist.DistError:
                self._part(error)
            return super().explain(error)
        failed = [rank for rank in range(1, self.world) if self.trial.check([f"failed/{rank}"])]
        if told := [(*json.loads(self.trial.get(f"failed/{rank}")), rank) for rank in failed]:
            _, reason, trace, rank = min(told)
            self.trial.set(f"blamed/{rank}", "")
            where = f"process {rank} of {self.world}"
            return f"{where} failed: {reason}", f"In {where}:\n{trace}"
        raise LaunchError(
            f"one of the trial's {self.world} processes fell silent (killed, out of memory, stuck)"
        ) from error

    def verdict(self, error: Exception) -> str:
        """What the leader decides about a trial that met ``error`` in this process.

        Raises ``error`` if only this process failed: it must end, so that the others notice.
        """
        self._break()
        if self._lost_touch(error):
            return self.hear()
        with contextlib.suppress(dist.DistError, LaunchError):
            turn = self.trial.add("failures", 1)  # the first to fail is the one to blame
            self.trial.set(f"failed/{self.rank}", json.dumps([turn, *super().explain(error)]))
            word = self.hear(VERDICT_SECONDS)
            if not self.trial.check([f"blamed/{self.rank}"]):
                return word
        raise error

    def leave(self, error: BaseException) -> None:
        """Tells the others that this process is ending because of ``error``."""
        self._break()
        self._part(error)
        if self.leads:
            with contextlib.suppress(dist.DistError):
                self.say(f"lost: {type(error).__name__}: {error}")

    def _break(self) -> None:
        self.broken = True
        self.lifeline.wake()

    def _lost_touch(self, error: BaseException) -> bool:
        return self.lifeline.severed or lost_touch(error)

    def _part(self, error: BaseException) -> None:
        """Dissolves the group: it trains no further trial."""
        word = f"process {self.rank} of {self.world}: {type(error).__name__}: {error}"
        with contextlib.suppress(dist.DistError):
            self.store.set("gone", word)


def lost_touch(error: BaseException) -> bool:
    """Whether an error only says that another process is silent. gloo has no class for it."""
    if isinstance(error, dist.DistError):
        return True
    words = ("/gloo/", "NCCL")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


@contextmanager
def joined(
    nodes: int, processes: int, device: str, quiet: tuple[type[BaseException], ...] = ()
) -> Iterator[Replicas]:
    """The processes of a trial, from when all are there until it has ended.

    All of them run the same trials in the same order. An error that leaves the block in one of
    them dissolves the group, unless it is one of ``quiet``. Raises LaunchError if they are not the
    processes requested, or some do not arrive.
    """
    if nodes * processes == 1:
        yield ALONE
        return
    group = _join(nodes, processes, device)
    ended = False
    try:
        yield group
        ended = True
    except quiet:
        raise
    except BaseException as error:
        group.leave(error)
        raise
    finally:
        if group.broken:
            group.lifeline.cut()
            if dist.group.WORLD is not None:
                dist.group.WORLD.abort()  # GPUs may still wait for something that will not come
            _leave_in_turn(group, patient=ended)
        else:
            group.lifeline.say_goodbye()
        dist.destroy_process_group()


def _leave_in_turn(group: Group, *, patient: bool) -> None:
    """The leader's process holds the store, so it stays until the others have heard its last word,
    if it is ``patient``; not longer than VERDICT_SECONDS, for some of them may be gone."""
    with contextlib.suppress(dist.DistError):
        group.trial.set(f"left/{group.rank}", "")
        if group.leads and patient:
            others = [f"left/{rank}" for rank in range(1, group.world)]
            group.trial.wait(others, timedelta(seconds=VERDICT_SECONDS))


def from_leader(nodes: int, processes: int, choose: Callable[[], str]) -> str:
    """What ``choose`` returns in the leading process, for all of them, outside of a trial.

    Raises LaunchError as `joined` does.
    """
    if nodes * processes == 1:
        return choose()
    environment = find_environment(nodes, processes)
    rank, key = environment.global_rank(), f"choice/{next(_choices)}"
    try:
        store = _meet(environment.main_address, environment.main_port, rank, nodes * processes)
        if rank == 0:
            store.set(key, choose())
        return _text(store, key)
    except dist.DistError as error:
        raise LaunchError("the leading process is silent, or gone") from error


def _join(nodes: int, processes: int, device: str) -> Group:
    environment = find_environment(nodes, processes)
    rank, world = environment.global_rank(), nodes * processes
    try:
        store = _meet(environment.main_address, environment.main_port, rank, world)
        trial = PrefixStore(f"trial-{next(_trials)}", store)
        backend = "gloo"
        if device == "cuda":
            torch.cuda.set_device(node_devices(device, processes)[environment.local_rank()])
            backend = "cpu:gloo,cuda:nccl"
        _await_all(store, trial, rank, world)
        dist.init_process_group(backend, store=trial, rank=rank, world_size=world)
        group = Group(nodes, processes, environment, store, trial, rank)
    except RuntimeError as error:
        where = f"{environment.main_address}:{environment.main_port}"
        raise LaunchError(f"the {world} processes cannot meet at {where}: {error}") from error
    return group


def _text(store: Store, key: str) -> str:
    value: bytes = store.get(key)
    return value.decode()


@functools.cache
def _meet(address: str, port: int, rank: int, world: int) -> Store:
    """The store of these processes: it holds the port for as long as they live."""
    os.environ.update(MASTER_ADDR=address, MASTER_PORT=str(port))
    patience = timedelta(seconds=JOIN_SECONDS)
    store: Store = next(iter(rendezvous("env://", rank, world, timeout=patience)))[0]
    return store


def _await_all(store: Store, trial: Store, rank: int, world: int) -> None:
    """Returns when all processes have come to the trial."""
    trial.set(f"here/{rank}", "")
    all_here = [f"here/{other}" for other in range(world)]
    deadline = time.monotonic() + JOIN_SECONDS
    while not trial.check(all_here):
        if store.check(["gone"]):
            raise LaunchError(f"the processes parted in an earlier trial ({_text(store, 'gone')})")
        if time.monotonic() > deadline:
            missing = [str(r) for r in range(world) if not trial.check([f"here/{r}"])]
            raise LaunchError(
                f"after {JOIN_SECONDS:g} s these of {world} processes are missing: "
                + " ".join(missing)
            )
        time.sleep(0.02)


def find_environment(nodes: int, processes: int) -> ClusterEnvironment:
    """The place of this process among ``nodes`` times ``processes``, as SLURM says, else torchrun.
    Raises LaunchError if neither says that size."""
    given, world = os.environ, nodes * processes
    if "SLURM_PROCID" in given and given.get("SLURM_NTASKS") == str(world):
        asked = {"SLURM_NNODES": nodes, "SLURM_NTASKS_PER_NODE": processes}
        wrong = [f"{k}={given.get(k, '')}" for k, v in asked.items() if given.get(k) != str(v)]
        if not wrong:
            return SLURMEnvironment(auto_requeue=False)
    else:
        if all(name in given for name in PLACES) and given["WORLD_SIZE"] == str(world):
            return TorchElasticEnvironment()
        names = ("SLURM_PROCID", "SLURM_NTASKS", *PLACES)
        wrong = [f"{name}={given[name]}" for name in names if name in given]
    raise LaunchError(
        f"a trial of {world} processes ({nodes} x {processes} per node) was started differently:"
        f" {' '.join(wrong) or 'no process has a place in the environment'}\n"
        f"  start them with srun --nodes={nodes} --ntasks-per-node={processes}, or with torchrun"
        f" --nnodes={nodes} --nproc-per-node={processes}"
    )


def node_devices(device: str, processes: int) -> list[torch.device]:
    """The devices of this node's processes, by local rank. A launcher may show each process only
    its own GPU (`--gpus-per-task=1`). Raises LaunchError."""
    if device != "cuda":
        return [torch.device(device)] * processes
    count = torch.cuda.device_count()
    if 1 < count < processes or count == 0:
        needed = f"{processes} processes per node need as many GPUs"
        raise LaunchError(f"{needed}, this node shows {count}")
    return [torch.device("cuda", i if count > 1 else 0) for i in range(processes)]
