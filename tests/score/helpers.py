"""Candidates' files that tests write, and what the evaluator finds of them."""

import textwrap
from pathlib import Path

from nos_repro.score.candidate import read_candidate
from nos_repro.score.fault import Fault, OutOfTime
from nos_repro.score.probes import probe
from nos_repro.score.process import Nursery, ProcessLimits

LIMITS = ProcessLimits(seconds=60.0, call_seconds=5.0, memory=512 << 20)

PLAIN = """
import torch

{above}

class Plain(torch.optim.Optimizer):
    def __init__(self, params, lr):
        super().__init__(params, {{"lr": lr}})
{made}

    @torch.no_grad()
    def step(self):
{before}
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p -= group["lr"] * p.grad
{after}
"""
"""Gradient descent, with something added."""


def plain(*, above: str = "", made: str = "", before: str = "", after: str = "") -> str:
    """The source of gradient descent with code above the class, in its `__init__`, or in `step`
    before or after the update."""

    def inside(text: str) -> str:
        return textwrap.indent(textwrap.dedent(text).strip(), " " * 8)

    return PLAIN.format(
        above=textwrap.dedent(above), made=inside(made), before=inside(before), after=inside(after)
    )


def write(folder: Path, source: str) -> str:
    file = folder / "mine.py"
    file.write_text(source, encoding="utf-8")
    return str(file)


def fault_of(
    nursery: Nursery, given: str, limits: ProcessLimits = LIMITS
) -> Fault | OutOfTime | None:
    """Why the probes refuse a candidate; None if it passes them all."""
    nursery.begin(limits)
    try:
        probe(read_candidate(given), nursery)
    except (Fault, OutOfTime) as error:
        return error
    return None
