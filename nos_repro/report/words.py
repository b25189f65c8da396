"""What a reader is told in whole words: titles, and which version of the paper is meant."""

from __future__ import annotations

import re

from nos_repro.experiments.settings_file import shipped

# fmt: off
VERSIONS = {"002": "arXiv version", "000": "ICML version"}
TITLES = {
    "convnet_rules":      "Rules of a long run on the small ConvNet",
    "edition2":           "Rules of the language's second edition",
    "figure5_rosenbrock": "Rosenbrock's function",
    "filter":             "Found rules in a long run on the Wide ResNet",
    "filter_search":      "Our search's best rules in a longer run",
    "icml_figure5":       "Two found rules on the small ConvNet",
    "modern":             "Today's optimizers on the small ConvNet",
    "modern_gnmt":        "Today's optimizers on GNMT, English to German",
    "modern_nasnet":      "Today's optimizers on NASNet-A",
    "modern_numbers":     "Today's optimizers on number names",
    "modern_ptb":         "Today's optimizers on an LSTM language model",
    "modern_wrn":         "Today's optimizers on the Wide ResNet",
    "numbers":            "Translating number names",
    "proxies":            "Table 6 at other small scales",
    "rosenbrock_starts":  "Rosenbrock's function from many starts",
    "search":             "Search for update rules",
    "search_4bit":        "Search for update rules with gradients of 4 bits",
    "search_icml":        "Search for update rules, without decays",
    "stepwise":           "Stepwise decay against cosine decay on the Wide ResNet",
    "table1":             "Wide ResNet without learning-rate decay",
    "table2":             "Wide ResNet with learning-rate decay",
    "table3":             "NASNet-A mobile on ImageNet",
    "table4":             "GNMT, English to German",
    "table5":             "LSTM language model on Penn Treebank",
    "table6":             "Found rules and baselines on the Wide ResNet",
    "translation_rules":  "Rules of a long run in translation",
    "variations":         "PowerSign and AddSign with other constants",
}
"""Of the studies and searches that ship; one's own is called by its name."""
OURS = {"edition2", "modern", "modern_gnmt", "modern_nasnet", "modern_numbers", "modern_ptb",
        "modern_wrn", "numbers", "proxies", "rosenbrock_starts", "search_4bit"}
"""Those of them that put a sentence of ours to the test, not one of the paper's."""
# fmt: on
_PLACED = re.compile(r"(?<![\w.,])(00[02]) (?=sec\.|abstract|Table|Figure)")
_NEXT = re.compile(r", (?=00[02] )")
_NAMED = re.compile(r"(?<![\w.,])(00[02])(?![\w.])")


def is_shipped(name: str) -> bool:
    """Whether a study or search of this name ships with the suite."""
    return name in shipped()


def is_the_papers(name: str) -> bool:
    """Whether the sentence that a study or search puts to the test is the paper's."""
    return is_shipped(name) and name not in OURS


def title_of(name: str) -> str:
    """What people call a study or search."""
    return TITLES.get(name, name) if is_shipped(name) else name.replace("_", " ")


def headline(name: str, source: str, scale: str, what: str) -> str:
    """Two lines above a figure: what it is, then at which scale ``what`` was trained."""
    place = f" ({versions(source)})" if source else ""
    return f"{title_of(name)}{place}\nscale {scale}: {what}"


def versions(text: str) -> str:
    """`002 Table 2, 000 Figure 7` as `arXiv version, Table 2; ICML version, Figure 7`; `(000 says
    ...)` likewise."""
    text = _NEXT.sub("; ", text)
    text = _PLACED.sub(lambda found: f"{VERSIONS[found[1]]}, ", text)
    return _NAMED.sub(lambda found: f"the {VERSIONS[found[1]]}", text)
