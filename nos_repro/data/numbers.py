"""The embedded parallel text: English and German names of numbers, from num2words.

Real language with reordering (forty-two is zweiundvierzig) and no download. *Departure*: no paper
trains on it; it lets the translation study run on a fresh machine.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import random
from pathlib import Path

from nos_repro.data.parallel import PARALLEL_TEXTS, Pairs, ParallelCorpus, Text
from nos_repro.errors import ConfigError

SEED = 2017
DIGITS = 12
"""Numbers of 1 to 12 digits, about as many of each: the long ones are several German words, so
that BLEU has four words in a row to count."""

# fmt: off
SIZES = {"test": 500, "val": 500, "train": 20_000}
# fmt: on


@PARALLEL_TEXTS.register("numbers")
def numbers(languages: tuple[str, str], data_dir: Path) -> ParallelCorpus:
    """The names of numbers in two languages that num2words knows."""

    def read(part: str, most: int | None) -> Pairs:
        return number_names(part, languages, most)

    version = importlib.metadata.version("num2words")
    facts = f"{version} {SEED} {DIGITS} {SIZES} {languages}"
    return ParallelCorpus("number names", read, lambda: hashlib.sha256(facts.encode()).hexdigest())


def number_names(part: str, languages: tuple[str, str], most: int | None = None) -> Pairs:
    """The names of the numbers of a part (the first `most`); no number is in two parts.

    Raises ConfigError for a language that num2words does not know.
    """
    from num2words import num2words  # slow to import, and only this set needs it

    numbers = _numbers()[part][:most]
    sides = []
    for tongue in languages:
        try:
            names = [num2words(number, lang=tongue) for number in numbers]
        except NotImplementedError:
            raise ConfigError(f"task.languages: num2words does not know '{tongue}'") from None
        sides.append(Text.whole(f"number names ({part}, {tongue})", names))
    return Pairs(*sides)


def _numbers() -> dict[str, list[int]]:
    draw = random.Random(SEED)
    drawn: dict[int, None] = {}  # a set that keeps its order
    while len(drawn) < sum(SIZES.values()):
        digits = draw.randint(1, DIGITS)
        drawn[draw.randrange(10 ** (digits - 1), 10**digits)] = None
    numbers = list(drawn)
    draw.shuffle(numbers)
    parts = {}
    for part, size in SIZES.items():
        parts[part], numbers = numbers[:size], numbers[size:]
    return parts
