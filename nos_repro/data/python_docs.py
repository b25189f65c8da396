"""The embedded corpus: Python's own documentation (`pydoc_data.topics`), no download.

*Departure*: no paper trains on it; it lets the language model's study run on a fresh machine
(scale `smoke`), and its numbers mean nothing else. Each version of Python brings its own text.
"""

from __future__ import annotations

from pathlib import Path

from nos_repro.data.corpora import CORPORA, Lines, Texts

SOURCE = "pydoc_data.topics (of this Python)"


@CORPORA.register("pydoc", vocabulary=2000)
def read_pydoc(data_dir: Path) -> Texts:
    """One paragraph per line, in the order of the topics. Of ten, one is held out for validation
    and one for the test.

    Words are lower case, punctuation marks are words (torchtext's `basic_english`).
    """
    from pydoc_data.topics import topics  # half a megabyte that only this corpus needs

    from torchtext.data.utils import get_tokenizer

    tokenize = get_tokenizer("basic_english")
    paragraphs = (text for name in sorted(topics) for text in topics[name].split("\n\n"))
    lines = [words for text in paragraphs if (words := tokenize(text))]
    held_out = (lines[8::10], lines[9::10])
    train = [line for number, line in enumerate(lines) if number % 10 < 8]
    return Texts(*(Lines(part, SOURCE) for part in (train, *held_out)))
