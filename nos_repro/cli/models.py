"""The verbs that use a trained model: translate, generate."""

from __future__ import annotations

import argparse
import sys

from nos_repro.cli.common import Verbs, add_verb, trust_argument
from nos_repro.cli.terminal import place, print_utf8
from nos_repro.errors import ConfigError

MOST_WORDS = 1_000_000
"""More words take hours, and are printed at their end."""


def add_verbs(verbs: Verbs) -> None:
    parser = add_verb(verbs, "translate", translate, "translate text with a trained model",
                      "translate results/numbers/small/trials/ID 'twenty-one'")  # fmt: skip
    _model_arguments(parser)
    parser.add_argument("text", nargs="*", metavar="TEXT",
                        help="one sentence each (default: standard input)")  # fmt: skip

    parser = add_verb(verbs, "generate", generate, "continue a text with a trained language model",
                      "generate results/table5/small/trials/ID 'the company said'",
                      "generate results/table5/small/trials/ID --temperature 0")  # fmt: skip
    _model_arguments(parser)
    parser.add_argument("text", nargs="?", default="", metavar="TEXT",
                        help="the text to continue: words separated by spaces")  # fmt: skip
    parser.add_argument("--words", type=int, default=60, metavar="N",
                        help="number of words (default: 60)")  # fmt: skip
    parser.add_argument("--temperature", type=float, default=1.0, metavar="T",
                        help="1 (default): sample from the model's distribution; 0: always take the"
                        " likeliest word")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, metavar="N",
                        help="sampling seed (default: 0)")  # fmt: skip


def _model_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=place, metavar="CHECKPOINT",
                        help="a trial's checkpoint.pt, or its folder")  # fmt: skip
    parser.add_argument("--data", type=place, metavar="DIR",
                        help="where the text is that the model was trained on")  # fmt: skip
    trust_argument(parser)


def translate(options: argparse.Namespace) -> int:
    from nos_repro.data import data_folder
    from nos_repro.data.parallel import split_lines
    from nos_repro.data.text import decode_text
    from nos_repro.experiments.trained import load_trained
    from nos_repro.tasks.base import Translator

    task, data = load_trained(options.checkpoint, data_folder(options.data), trust=options.trust)
    if not isinstance(task, Translator):
        raise ConfigError(f"{options.checkpoint} is not a checkpoint of a model that translates")
    if options.text:
        lines, where = [_utf8(text) for text in options.text], "TEXT"
    else:
        where = "standard input"
        lines = split_lines(decode_text(sys.stdin.buffer.read(), where), where)
    print_utf8()
    for line in task.translate_lines(lines, data, where):
        print(line)
    return 0


def generate(options: argparse.Namespace) -> int:
    from nos_repro.data import data_folder
    from nos_repro.experiments.trained import load_trained
    from nos_repro.tasks.base import LanguageModel

    if not 1 <= options.words <= MOST_WORDS:
        raise ConfigError(f"--words must be from 1 to {MOST_WORDS:,}, got {options.words}")
    if options.temperature != 0 and not 0.01 <= options.temperature <= 100:
        raise ConfigError(f"--temperature must be 0, or 0.01 to 100, got {options.temperature}")
    if not 0 <= options.seed < 2**63:
        raise ConfigError(f"--seed must be at least 0 and below 2**63, got {options.seed}")
    task, data = load_trained(options.checkpoint, data_folder(options.data), trust=options.trust)
    if not isinstance(task, LanguageModel):
        raise ConfigError(f"{options.checkpoint} is not a checkpoint of a language model")
    print_utf8()
    text, words, temperature = _utf8(options.text), options.words, options.temperature
    print(task.continue_text(text, data, words, temperature=temperature, seed=options.seed))
    return 0


def _utf8(word: str) -> str:
    """The argument, which must be text."""
    try:
        word.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"TEXT is not UTF-8: {word!r}") from None
    return word
