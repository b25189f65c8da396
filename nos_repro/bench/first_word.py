"""How long the reading verbs keep a user waiting for their first word.

Each in a new process, in turns with `import torch`, on the studies and results of the checkout.
Seconds of the clock, and their ratio to those of `import torch` in the same round. `commands` says
how to time an older commit beside it.
"""

from __future__ import annotations

from collections.abc import Iterator

from nos_repro.bench.commands import Command, checkouts
from nos_repro.bench.runner import BENCHMARKS, Measurement, Ratio, interleave

# fmt: off
VERBS = {
    "report":    ("report", "configs/table2.yaml", "--scale", "small"),
    "status":    ("status", "configs/table2.yaml", "--scale", "small"),
    "why":       ("why", "table2:PowerSign (cosine)", "--scale", "small"),
    "claims":    ("claims",),
    "verdicts":  ("verdicts", "configs/table2.yaml", "--scale", "small"),
    "rule":      ("rule", "powersign-ld"),
    "dashboard": ("dashboard", "configs/table2.yaml", "--scale", "small"),
    "--help":    ("--help",),
}
# fmt: on
SECONDS, SHARE, HELP_SECONDS = 0.5, 0.25, 0.3
ROUNDS = 7
TORCH = "import torch"


@BENCHMARKS.register("first-word")
def first_word() -> Iterator[Measurement]:
    """Seconds to the first word of each verb, and that over the seconds of `import torch`."""
    places = checkouts()
    commands = {
        f"{verb}{name}": Command("-m", "nos_repro", *words, checkout=place)
        for verb, words in VERBS.items()
        for name, place in places.items()
    }
    torch = Command("-c", TORCH)
    interleave({TORCH: torch, **commands}, rounds=ROUNDS)
    for command in (torch, *commands.values()):
        del command.first[:-ROUNDS]  # the warm-up
    yield Measurement(TORCH, Ratio.of(torch.first, "s"))
    for what, command in commands.items():
        ours = what in VERBS
        most = HELP_SECONDS if what == "--help" else SECONDS
        ratio = Ratio.between({"ours": command.first, "torch": torch.first}, "ours", "torch")
        yield Measurement(what, Ratio.of(command.first, "s"), at_most=most if ours else None)
        yield Measurement(f"{what} / {TORCH}", ratio, at_most=SHARE if ours else None)
