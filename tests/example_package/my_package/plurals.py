"""A parallel text: a number of things, and one more of them.

task: {name: gnmt, data: my_package.plurals}
"""

from itertools import pairwise, product
from pathlib import Path

from nos_repro.data import PARALLEL_TEXTS
from nos_repro.data.parallel import ParallelCorpus, in_memory

NUMBERS = [
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
]
THINGS = [
    "cat",
    "dog",
    "house",
    "tree",
    "book",
    "stone",
    "river",
    "cloud",
    "chair",
    "table",
    "lamp",
    "door",
]
COLOURS = ["red", "green", "blue", "white", "black", "grey", "brown", "pink"]


@PARALLEL_TEXTS.register("plurals")
def plurals(languages: tuple[str, str], data_dir: Path) -> ParallelCorpus:
    """The lines of each part and their translations."""
    phrases = list(product(pairwise(NUMBERS), COLOURS, THINGS))
    source = [f"{number} {colour} {thing}" for (number, _), colour, thing in phrases]
    target = [f"{thing} {colour} {more}" for (_, more), colour, thing in phrases]
    parts = {"train": slice(0, None, 2), "val": slice(1, None, 16), "test": slice(3, None, 16)}
    return in_memory(
        "plurals", **{part: (source[chosen], target[chosen]) for part, chosen in parts.items()}
    )
