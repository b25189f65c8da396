"""Preparing a translation text of WMT14's size: peak memory and seconds.

The pairs are made up: words of Zipf's law, with the lengths of WMT14's sentences. The preparation
runs as a driver's would, in a process of its own that starts one per core; their memory is summed
as the kernel shares it out (PSS), a few times per second.

NOS_REPRO_BENCH_PAIRS=200000 takes fewer pairs. Everything but learning the word pieces, which reads
a bounded sample, takes time in proportion to the pairs; "projected" assumes both, and that reading
and writing are not shared out among the cores.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from nos_repro.bench.commands import PACKAGE
from nos_repro.bench.runner import BENCHMARKS, Measurement, Ratio
from nos_repro.data.cores import available_cores
from nos_repro.data.wordpieces import MOST_LINES

WMT14 = 4_500_000
CORES = 8
VOCABULARY = 32_000
WORDS = 400_000
"""Different words of each language."""

PREPARE = """
import json, resource, sys, time
from pathlib import Path
from nos_repro.data import translation, wordpieces
from nos_repro.data.parallel import find_parallel_text

def spent():
    use = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return [each.ru_utime + each.ru_stime for each in use]

learned = translation._learned

def noted(*given):
    global middle
    pieces = learned(*given)
    middle = spent()
    return pieces

translation._learned = noted
folder, vocabulary, wordpieces.MOST_LINES = Path(sys.argv[1]), *map(int, sys.argv[2:])
limits = translation.Limits(100, True)
corpus = find_parallel_text("wmt14", ("en", "de"), folder)
start, before = time.perf_counter(), spent()
translation.encoded_training(corpus, folder, vocabulary=vocabulary, most=None, limits=limits)
seconds, after = time.perf_counter() - start, spent()
print(json.dumps([seconds, *zip(before, middle, after)]))
"""


@BENCHMARKS.register("translation-preparation")
def translation_preparation() -> Iterator[Measurement]:
    """Peak memory against 2 GB, and minutes on 8 cores against 5."""
    yield from prepare(int(os.environ.get("NOS_REPRO_BENCH_PAIRS", WMT14)), VOCABULARY)


def prepare(count: int, vocabulary: int, lines: int = MOST_LINES) -> Iterator[Measurement]:
    """The measurements for that many pairs, if pieces are learnt from at most so many ``lines`` of
    each language."""
    with tempfile.TemporaryDirectory() as folder:
        write_pairs(Path(folder) / "wmt14", count)
        words = [sys.executable, "-c", PREPARE, folder, str(vocabulary), str(lines)]
        with subprocess.Popen(
            words, cwd=PACKAGE, env={**os.environ, "PYTHONPATH": str(PACKAGE)},
            stdout=subprocess.PIPE, encoding="utf-8",
        ) as process:  # fmt: skip
            peak = Peak(process.pid)
            told, _ = process.communicate()
            peak.end()
        seconds, (began, learned, ended), others = json.loads(told)
        learning, workers = others[1] - others[0], others[2] - others[1]
        reading, alone = learned - began, ended - learned
    yield Measurement(
        f"{count:,} pairs: peak memory of all processes", Ratio.of([peak.gigabytes], "GB"),
        at_most=2.0,
    )  # fmt: skip
    here = f"{available_cores()} core{'s' if available_cores() > 1 else ''}"
    yield Measurement(f"{count:,} pairs: on {here}", Ratio.of([seconds], "s"))
    for what, spent in (
        ("choosing lines to learn from", reading),
        ("learning the word pieces", learning),
        ("encoding, by several processes", workers),
        ("reading and storing meanwhile", alone),
    ):
        yield Measurement(f"{count:,} pairs: core time of {what}", Ratio.of([spent], "s"))
    learning *= min(WMT14, lines) / min(count, lines)
    minutes = (learning + (reading + alone + workers / CORES) * WMT14 / count) / 60
    yield Measurement(
        f"projected: {WMT14:,} pairs on {CORES} cores", Ratio.of([minutes], "min"), at_most=5.0
    )


class Peak:
    """The largest memory that a process and all below it have at once, while they run."""

    def __init__(self, pid: int) -> None:
        self.gigabytes = 0.0
        self._pid = pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.2):
            kilobytes = sum(_share(pid) for pid in _family(self._pid))
            self.gigabytes = max(self.gigabytes, kilobytes * 1024 / 1e9)


def _family(pid: int) -> list[int]:
    """The process and all below it."""
    found = [pid]
    for parent in found:
        try:
            for children in Path(f"/proc/{parent}/task").glob("*/children"):
                found += map(int, children.read_text("ascii").split())
        except OSError:  # it has ended
            continue
    return found


def _share(pid: int) -> int:
    """Its proportional share of memory, in kB; memory that processes share counts once."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    except (OSError, StopIteration):
        return 0


def write_pairs(folder: Path, count: int) -> None:
    """Writes a text of that many pairs under the names of WMT14; validation and test are short."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng(14)
    lengths = np.clip(draw.lognormal(3.1, 0.5, count), 1, 60).astype(np.int64)
    for number, language in enumerate(("en", "de")):
        words = _words(np.random.default_rng(number))
        with (folder / f"train.{language}").open("w", encoding="utf-8") as file:
            for start in range(0, count, 10_000):
                file.write(_sentences(words, lengths[start : start + 10_000], draw))
        for part in ("newstest2013", "newstest2014"):
            text = _sentences(words, lengths[:100], draw)
            (folder / f"{part}.{language}").write_text(text, encoding="utf-8")


def _words(draw: np.random.Generator) -> np.ndarray:
    """Made-up words, the frequent ones short."""
    syllables = np.array([a + b for a in "bdfghklmnprstvwz" for b in ("a", "e", "i", "o", "u", "en",
                         "er", "st", "\u00e4", "ung")], dtype=object)  # fmt: skip
    count = 1 + (np.log10(np.arange(1, WORDS + 1)) + draw.random(WORDS)).astype(int)
    chosen = draw.integers(0, len(syllables), (WORDS, int(count.max())))
    return np.array(
        ["".join(syllables[row[:n]]) for row, n in zip(chosen, count, strict=True)], dtype=object
    )


def _sentences(words: np.ndarray, lengths: np.ndarray, draw: np.random.Generator) -> str:
    """Lines of these numbers of words, drawn by Zipf's law."""
    ranks = np.exp(draw.random(int(lengths.sum())) * np.log(WORDS)).astype(np.int64) - 1
    text = words[ranks].tolist()
    ends = lengths.cumsum()
    lines = [" ".join(text[end - length : end]) for end, length in zip(ends, lengths, strict=True)]
    return "\n".join(lines) + "\n"
