"""A corpus for language models: spelled-out words.

task: {name: ptb_lstm, data: my_package.letters}
"""

from pathlib import Path

from nos_repro.data import CORPORA
from nos_repro.data.corpora import Lines, Texts

WORDS = "the update rule that the controller wrote trains a small network"


@CORPORA.register("letters", vocabulary=18)
def read_letters(data_dir: Path) -> Texts:
    """Three parts, each the words of its lines. The vocabulary counts `<unk>` and `<eos>` too."""
    lines = [list(word) for word in WORDS.split()]
    return Texts(Lines(lines * 40, "letters"), Lines(lines * 4, "letters"), Lines(lines, "letters"))
