"""Beam search against greedy and exhaustive search, and against itself sentence by sentence."""

import itertools

import pytest
import torch
from torch import Tensor

from nos_repro.bench.gnmt_decoding import search_plainly
from nos_repro.data.wordpieces import BEGIN, END, PAD
from nos_repro.tasks.gnmt_beam import BeamOptions, _top, beam_search
from nos_repro.tasks.gnmt_model import Decoded, DecoderState, Memory, Network


def network(vocabulary: int, seed: int = 0, width: int = 6) -> Network:
    torch.manual_seed(seed)
    net = Network(vocabulary, width, 2, 0.0, 1.5, True).double()
    net.classifier.weight.data.mul_(2)  # opinions strong enough to tell searches apart
    return net.eval()


class Short(BeamOptions):
    """Translations of at most 4 pieces, so that all can be listed."""

    def limits(self, source_lengths: Tensor) -> Tensor:
        return torch.full_like(source_lengths, 4)


def sources(vocabulary: int, count: int, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 7, (count,), generator=draw)
    ids = torch.randint(4, vocabulary, (count, 7), generator=draw)
    places = torch.arange(7)
    ids = torch.where(places == lengths[:, None], END, ids)
    ids = torch.where(places > lengths[:, None], PAD, ids)
    return ids[:, : int(lengths.max()) + 1]


def trimmed(source: Tensor) -> Tensor:
    return source[:, : int((source != PAD).sum())]


def until_end(row: Tensor) -> list[int]:
    return row[row != PAD].tolist()


@torch.no_grad()
def greedy(net: Network, source: Tensor, limit: int) -> list[int]:
    """The most likely piece, again and again."""
    memory, state, piece, pieces = net.encode(source), None, BEGIN, []
    while len(pieces) < limit and piece != END:
        decoded = net.decode(torch.tensor([[piece]]), memory, state)
        logits, state = net.classifier(decoded.hidden[0, 0]), decoded.state
        logits[[PAD, BEGIN]] = -torch.inf
        piece = int(logits.argmax())
        pieces.append(piece)
    return pieces


@torch.no_grad()
def score(net: Network, source: Tensor, pieces: list[int], search: BeamOptions) -> float:
    """Equation 14 of Wu et al. for one translation, by teacher forcing."""
    decoded = net.decode(torch.tensor([[BEGIN, *pieces[:-1]]]), net.encode(source))
    log_p = net.classifier(decoded.hidden[:, 0]).log_softmax(dim=1)
    total = log_p.gather(1, torch.tensor(pieces)[:, None]).sum()
    lp = ((5 + len(pieces)) / 6) ** search.length_penalty
    coverage = decoded.attention[0].double().sum(dim=0).clamp(max=1)
    return float(total / lp + search.coverage_penalty * coverage.log().sum())


@pytest.mark.parametrize("seed", range(4))
def test_a_beam_of_1_is_greedy(seed: int) -> None:
    net, source, search = network(12, seed), sources(12, 9, seed), BeamOptions(beam=1)
    found, _ = beam_search(net, source, search)
    for row, sentence in zip(found, source, strict=True):
        one = trimmed(sentence[None])
        assert until_end(row) == greedy(net, one, int(search.limits(torch.tensor([one.shape[1]]))))


@pytest.mark.parametrize("penalties", [(0.0, 0.0), (0.2, 0.2), (1.0, 0.6)])
@pytest.mark.parametrize("seed", range(3))
def test_a_beam_as_wide_as_all_translations_finds_the_best(
    penalties: tuple[float, float], seed: int
) -> None:
    vocabulary = 6
    net, source = network(vocabulary, seed), sources(vocabulary, 4, seed)
    search = Short(200, *penalties)
    words = [piece for piece in range(vocabulary) if piece not in (PAD, BEGIN, END)]
    every = [
        [*written, END]
        for length in range(4)
        for written in itertools.product(words, repeat=length)
    ]
    found, scores = beam_search(net, source, search)
    for row, best, sentence in zip(found, scores, source, strict=True):
        one = trimmed(sentence[None])
        expected = max(every, key=lambda pieces: score(net, one, pieces, search))
        assert until_end(row) == expected
        assert float(best) == pytest.approx(score(net, one, expected, search), abs=1e-5)


@pytest.mark.parametrize("beam", [2, 5])
@pytest.mark.parametrize("seed", range(3))
def test_a_batch_is_translated_as_its_sentences_are_one_by_one(beam: int, seed: int) -> None:
    net, source = network(12, seed), sources(12, 12, seed)
    together, scores = beam_search(net, source, BeamOptions(beam=beam))
    for row, total, sentence in zip(together, scores, source, strict=True):
        alone, own = beam_search(net, trimmed(sentence[None]), BeamOptions(beam=beam))
        assert until_end(row) == until_end(alone[0])
        assert float(total) == pytest.approx(float(own[0]), abs=1e-5)


@pytest.mark.parametrize("penalties", [(0.0, 0.0), (0.2, 0.2), (1.0, 0.6)])
@pytest.mark.parametrize("beam", [2, 4, 8])
def test_the_search_is_that_of_one_hypothesis_after_another(
    beam: int, penalties: tuple[float, float]
) -> None:
    net, source, search = network(12, beam), sources(12, 8, beam), BeamOptions(beam, *penalties)
    found, _ = beam_search(net, source, search)
    for row, sentence in zip(found, source, strict=True):
        assert until_end(row) == search_plainly(net, trimmed(sentence[None]), search)


@pytest.mark.parametrize("seed", range(3))
def test_the_score_is_that_of_the_translation(seed: int) -> None:
    """What is summed along the way, re-ordered with the beams, is what teacher forcing says."""
    net, source, search = network(12, seed), sources(12, 12, seed), BeamOptions(4, 0.6, 0.3)
    found, scores = beam_search(net, source, search)
    for row, total, sentence in zip(found, scores, source, strict=True):
        expected = score(net, trimmed(sentence[None]), until_end(row), search)
        assert float(total) == pytest.approx(expected, abs=1e-5)


class Counting(Network):
    """Sure to write 4, 5, 6 and so on to the last piece; to end is always its second choice."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__(vocabulary, vocabulary, 2, 0.0, 0.1, True)
        self.vocabulary = vocabulary
        self.classifier = torch.nn.Identity()

    def decode(self, pieces: Tensor, memory: Memory, state: DecoderState | None = None) -> Decoded:
        rows = len(pieces)
        following = torch.where(pieces[:, 0] < 4, 4, pieces[:, 0] + 1)
        following[following == self.vocabulary] = END
        logits = torch.full((1, rows, self.vocabulary), -9.0)
        logits[:, :, END] = 0.0
        logits[0, torch.arange(rows), following] = 5.0
        batch, source = memory.real.shape
        attention = torch.full((batch, rows // batch, source), 1 / source)
        return Decoded(logits, attention, [(torch.zeros(1, rows, 1), torch.zeros(1, rows, 1))])


@pytest.mark.parametrize("beam", [1, 2, 5])
def test_unlikely_short_translations_do_not_end_the_search_for_a_likely_long_one(beam: int) -> None:
    """One ends at every step: a search that only counted them would stop after as many steps."""
    found, _ = beam_search(Counting(16), sources(12, 3), BeamOptions(beam=beam))
    assert [until_end(row) for row in found] == [[*range(4, 16), END]] * 3


def test_a_model_that_never_ends_is_cut_at_its_limit() -> None:
    net, source, search = network(12), sources(12, 5), BeamOptions(beam=3)
    net.classifier.bias.data[END] = -1e9
    found, scores = beam_search(net, source, search)
    limits = search.limits((source != PAD).sum(dim=1)).tolist()
    assert [len(until_end(row)) for row in found] == limits
    assert scores.isfinite().all()


@pytest.mark.parametrize("columns", [7, 512, 1000, 8000])
@pytest.mark.parametrize("count", [1, 2, 10, 16])
def test_the_fast_top_is_torchs(columns: int, count: int) -> None:
    torch.manual_seed(columns + count)
    values = torch.randn(20, columns)
    count = min(count, columns)
    best, index = _top(values, count)
    expected, places = values.topk(count, dim=1)
    assert torch.equal(best, expected)
    assert torch.equal(index, places)
