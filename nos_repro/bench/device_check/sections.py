"""The sections of a device's check, and how they are run."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import torch

from nos_repro.bench.device_check.executions import executions
from nos_repro.bench.device_check.frame import Checking, CheckRow, SectionFound, in_one_line, plain
from nos_repro.bench.device_check.hours import hours
from nos_repro.bench.device_check.resuming import resuming
from nos_repro.bench.device_check.steps import steps
from nos_repro.bench.device_check.updates import updates
from nos_repro.errors import ConfigError
from nos_repro.experiments.build import choose_device
from nos_repro.experiments.provenance import provenance


class Section(NamedTuple):
    """``share``: of the whole time."""

    find: Callable[[Checking], Iterator[CheckRow]]
    share: float
    about: str


MOST_MINUTES = 10_000
# fmt: off
SECTIONS = {
    # in the order of their importance
    "executions": Section(executions, 0.25, "The three executions of a rule agree"),
    "updates":    Section(updates,    0.10, "Time of an optimizer's update"),
    "steps":      Section(steps,      0.45, "A training step of every model"),
    "resuming":   Section(resuming,   0.15, "A run goes on from its checkpoint"),
    "hours":      Section(hours,      0.05, "GPU-hours per table of the paper"),
}
# fmt: on


def check_device(
    device: str = "auto",
    *,
    minutes: float = 5.0,
    only: Sequence[str] = (),
    quick: bool = False,
    tell: Callable[[dict[str, Any]], None] = lambda section: None,
) -> dict[str, Any]:
    """Runs the sections, all or ``only`` some, and returns what they have found. ``tell`` gets each
    as it ends. Raises ConfigError if there is no such device."""
    device = choose_device(device)
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: PyTorch sees no GPU here; --device cpu checks this CPU")
    if not 0 < minutes < MOST_MINUTES:
        raise ConfigError(
            f"--minutes must be a positive number below {MOST_MINUTES:,}, got {minutes:g}"
        )
    began = time.monotonic()
    check = Checking(device, quick, deadline=began)
    sections = []
    chosen = {name: SECTIONS[name] for name in SECTIONS if not only or name in only}
    whole = sum(section.share for section in chosen.values())
    for name, section in chosen.items():
        budget = 60 * minutes * section.share / whole
        check.deadline += budget  # what an earlier one has left is the next one's
        found = plain(run_section(name, section, check, budget))
        tell(found)
        sections.append(found)
    return {
        "device": provenance(device)["device"],
        "accelerator": check.cuda,
        "quick": quick,
        "holds": all(section["holds"] for section in sections),
        "seconds": round(time.monotonic() - began, 1),
        "sections": sections,
        "timings": list(map(dataclasses.asdict, check.timings)),
        "provenance": provenance(device),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def run_section(name: str, section: Section, check: Checking, budget: float) -> SectionFound:
    """What a section finds; if it breaks, with what it has found by then."""
    found = SectionFound(name, section.about, budget)
    check.notes = found.notes
    began = time.monotonic()
    try:
        for row in section.find(check):
            found.rows.append(row)
    except Exception as error:  # noqa: BLE001 whatever breaks, the next section runs
        found.broke = in_one_line(error)
    check.tidy()
    found.seconds = round(time.monotonic() - began, 1)
    return found
