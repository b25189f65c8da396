"""Beam search of Multi30k's 1,000 test sentences at beam 8, two cores, against plain loops.

Needs Multi30k. The model is that of `configs/table4.yaml` at scale small after one epoch, since an
untrained one never ends a sentence. The plain loop handles one sentence and one hypothesis at a
time, as a first version would; this package's own search, one sentence at a time, is timed too.
Both do the same search in the same precision; they translate a sample of the sentences, and their
seconds are scaled up to the whole set.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from nos_repro.bench.gnmt_training import CORES, small_gnmt
from nos_repro.bench.runner import BENCHMARKS, Measurement, Ratio, interleave
from nos_repro.data.wordpieces import BEGIN, END, PAD
from nos_repro.launch.work import keep_freed_memory
from nos_repro.tasks.gnmt import GNMT
from nos_repro.tasks.gnmt_beam import BeamOptions
from nos_repro.tasks.gnmt_model import DecoderState, Memory, Network

BEAM, STEPS, ROUNDS, SAMPLE = 8, 450, 3, 10
FASTER, SECONDS = 20.0, 12.0


@BENCHMARKS.register("gnmt-decoding")
def gnmt_decoding() -> Iterator[Measurement]:
    """Seconds for the whole test set, and the speed-up over both loops."""
    threads = torch.get_num_threads()
    torch.set_num_threads(CORES)
    keep_freed_memory()
    try:
        run = small_gnmt(beam=BEAM, bleu_every=0)
        assert isinstance(run.task, GNMT)
        task = run.task
        for batch in itertools.islice(run.data.train_batches(0), STEPS):
            run.train_step(batch)
        task.eval()
        batches = [batch.source for batch in run.data.test_batches()]
        rows = [row for batch in batches for row in batch]
        sample = [row[row != PAD][None] for row in rows[:: len(rows) // SAMPLE]]
        seconds = interleave(
            {
                "ours": lambda: [task.translate(batch) for batch in batches],
                "one by one": lambda: [task.translate(source) for source in sample],
                "plain": lambda: [plain_search(task, source) for source in sample],
            },
            rounds=ROUNDS,
        )
        whole = len(rows) / len(sample)
        faster = {
            loop: Ratio.of([whole * b / a for a, b in zip(seconds["ours"], taken, strict=True)])
            for loop, taken in seconds.items()
            if loop != "ours"
        }
        what = f"{len(rows):,} sentences, beam {BEAM}, {CORES} cores"
        yield Measurement(what, Ratio.of(seconds["ours"], "s"), at_most=SECONDS)
        written = sum(int((task.translate(batch) != PAD).sum()) for batch in batches)
        yield Measurement("word pieces per translation", Ratio.of([written / len(rows)], "pieces"))
        yield Measurement(
            "times faster than hypothesis by hypothesis", faster["plain"], at_least=FASTER
        )
        yield Measurement("times faster than our own, sentence by sentence", faster["one by one"])
    finally:
        torch.set_num_threads(threads)


@dataclass
class _Hypothesis:
    pieces: list[int]
    log_p: float
    coverage: Tensor
    state: DecoderState | None


def plain_search(task: GNMT, source: Int64[Tensor, "one source"]) -> list[int]:
    """The same search in the same precision, one sentence and one hypothesis at a time."""
    with task.autocast(source):
        return search_plainly(task.network, source, task.search)


@torch.no_grad()
def search_plainly(
    network: Network, source: Int64[Tensor, "one source"], search: BeamOptions
) -> list[int]:
    """`beam_search` of one sentence, written as plainly as possible."""
    memory = network.encode(source)
    limit = search.limits(memory.real.sum(dim=1))
    alive = [_Hypothesis([], 0.0, torch.zeros(source.shape[1]), None)]
    finished: list[tuple[float, float, list[int]]] = []
    for _ in range(int(limit)):
        continued: list[_Hypothesis] = []
        for hypothesis in alive:
            continued += _continue(network, memory, hypothesis, search.beam)
        continued.sort(key=lambda hypothesis: -hypothesis.log_p)
        ended = [h for h in continued[: search.beam] if h.pieces[-1] == END]
        finished += [(_score(search, h), h.log_p, h.pieces) for h in ended]
        alive = [h for h in continued if h.pieces[-1] != END][: search.beam]
        if finished:
            best, log_p, _ = max(finished)
            enough = len(finished) >= search.beam and alive[0].log_p <= log_p
            if enough or alive[0].log_p / float(search.lp(limit)) <= best:
                break
    return max(finished)[2] if finished else alive[0].pieces


def _continue(
    network: Network, memory: Memory, hypothesis: _Hypothesis, beam: int
) -> list[_Hypothesis]:
    last = hypothesis.pieces[-1] if hypothesis.pieces else BEGIN
    decoded = network.decode(torch.tensor([[last]]), memory, hypothesis.state)
    log_p = network.classifier(decoded.hidden[0, 0]).float().log_softmax(dim=0)
    log_p[[PAD, BEGIN]] = -torch.inf
    best, pieces = log_p.topk(min(2 * beam, len(log_p) - 2))
    coverage = hypothesis.coverage + decoded.attention[0, 0]
    return [
        _Hypothesis([*hypothesis.pieces, piece], hypothesis.log_p + value, coverage, decoded.state)
        for value, piece in zip(best.tolist(), pieces.tolist(), strict=True)
    ]


def _score(search: BeamOptions, hypothesis: _Hypothesis) -> float:
    coverage = float(hypothesis.coverage.clamp(1e-30, 1.0).log().sum())
    lp = float(search.lp(len(hypothesis.pieces)))
    return hypothesis.log_p / lp + search.coverage_penalty * coverage
