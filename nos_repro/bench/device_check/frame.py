"""What the sections of a device's check share: their rows, their time, the device."""

from __future__ import annotations

import dataclasses
import gc
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

import torch

from nos_repro.launch.device_timings import Timing

T = TypeVar("T")
Value: TypeAlias = float | int | str | None


@dataclass(frozen=True)
class CheckRow:
    """One line: what was checked, the values by their titles, and whether what must hold does;
    None where nothing must."""

    what: str
    values: Mapping[str, Value]
    holds: bool | None = None


@dataclass
class SectionFound:
    """What a section has found. ``notes`` say what was left out; ``broke`` is its error, or ""."""

    name: str
    about: str
    budget_seconds: float
    seconds: float = 0.0
    rows: list[CheckRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    broke: str = ""

    @property
    def holds(self) -> bool:
        return not self.broke and all(row.holds is not False for row in self.rows)


@dataclass
class Checking:
    """What a section is given: the device, its time, and what other sections have timed."""

    device: str
    quick: bool
    deadline: float = 0.0
    """By `time.monotonic`."""
    timings: list[Timing] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def cuda(self) -> bool:
        return self.device == "cuda"

    @property
    def tiny(self) -> bool:
        """Whether the models are: those of the papers take a CPU hours."""
        return self.quick or not self.cuda

    def within(self, items: Iterable[T]) -> Iterator[T]:
        """The items for which there is time; a note says of how many there was none."""
        items = list(items)
        for number, item in enumerate(items):
            if number and time.monotonic() > self.deadline:
                self.notes.append(
                    f"{len(items) - number} of {len(items)} left out for lack of time: --minutes"
                    " gives more"
                )
                return
            yield item
            self.tidy()

    def wait(self) -> None:
        """Until the device has done its work."""
        if self.cuda:
            torch.cuda.synchronize()

    def tidy(self) -> None:
        """Gives memory back, and counts its peak from here on."""
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def peak_gb(self) -> float | None:
        """Of the memory that tensors took on the device; None on a CPU."""
        return round(torch.cuda.max_memory_allocated() / 1e9, 2) if self.cuda else None


def in_one_line(error: BaseException) -> str:
    """An error's kind and the first line of what it says."""
    first = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first[:200]}"


def failed(what: str, error: Exception) -> CheckRow:
    """The row of something that broke, where others go on."""
    return CheckRow(what, {"error": in_one_line(error)}, False)


def plain(found: SectionFound) -> dict[str, object]:
    """As it is stored."""
    return {**dataclasses.asdict(found), "holds": found.holds}
