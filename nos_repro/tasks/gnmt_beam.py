"""Beam search over all sentences and hypotheses of a batch at once (Wu et al. 2016, sec. 7).

A step is one tensor program over every hypothesis of every sentence that is not done; only the
steps are a loop. Whatever depends on a hypothesis (its pieces, its probability, the decoder's
state, the attention summed so far) is re-ordered with it, and sentences that are done are left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from nos_repro.data.wordpieces import BEGIN, END, PAD
from nos_repro.tasks.gnmt_model import DecoderState, Memory, Network


@dataclass(frozen=True)
class BeamOptions:
    """How wide to search, and with which score: `log P / lp + cp` (Wu et al., equation 14).

    `lp = ((5 + |Y|) / 6) ** length_penalty`, and `cp = coverage_penalty * sum_i log(min(sum_j p_ij,
    1))` over the source's pieces i and the translation's j, with END on both sides.
    """

    beam: int = 5
    length_penalty: float = 0.2
    coverage_penalty: float = 0.2

    def limits(self, source_lengths: Int64[Tensor, " batch"]) -> Int64[Tensor, " batch"]:
        """The most pieces of a translation. It depends only on its own source."""
        return 2 * source_lengths + 10

    def lp(self, length: Int64[Tensor, " batch"] | int) -> Tensor:
        """The length penalty for translations of that length."""
        return ((5 + torch.as_tensor(length)) / 6) ** self.length_penalty

    def cp(
        self, coverage: Float[Tensor, "batch beam source"], real: Bool[Tensor, "batch source"]
    ) -> Float[Tensor, "batch beam"]:
        """The coverage penalty for each hypothesis' total attention to the source's pieces."""
        seen = coverage.clamp(1e-30, 1.0).log().masked_fill(~real[:, None], 0.0)
        return self.coverage_penalty * seen.sum(dim=-1)


@dataclass
class Found:
    """The best finished translation of each sentence, and how many have finished."""

    pieces: Int64[Tensor, "sentences longest"]
    score: Float[Tensor, " sentences"]
    log_p: Float[Tensor, " sentences"]
    count: Int64[Tensor, " sentences"]

    def offer(
        self,
        which: Int64[Tensor, " batch"],
        pieces: Int64[Tensor, "batch longest"],
        score: Float[Tensor, " batch"],
        log_p: Float[Tensor, " batch"],
    ) -> None:
        """One candidate for each of some sentences; a score of -inf means there is none."""
        better = score > self.score[which]
        self.pieces[which[better]] = pieces[better]
        self.log_p[which[better]] = log_p[better]
        self.score[which[better]] = score[better]


@dataclass
class Alive:
    """The hypotheses that go on: `beam` for each of the sentences `which`, which are not done."""

    which: Int64[Tensor, " batch"]
    pieces: Int64[Tensor, "batch beam longest"]
    log_p: Float[Tensor, "batch beam"]
    coverage: Float[Tensor, "batch beam source"]
    memory: Memory
    state: DecoderState | None

    def go_on(
        self,
        keep: Bool[Tensor, " batch"],
        parent: Int64[Tensor, "batch beam"],
        piece: Int64[Tensor, "batch beam"],
        log_p: Float[Tensor, "batch beam"],
        place: int,
    ) -> None:
        """Each hypothesis becomes its parent with one more piece; some sentences leave."""
        batch, beam = parent.shape
        rows = (torch.arange(batch, device=parent.device)[:, None] * beam + parent)[keep].view(-1)
        self.pieces = self.pieces.flatten(0, 1)[rows].view(-1, beam, self.pieces.shape[2])
        self.pieces[:, :, place] = piece[keep]
        self.coverage = self.coverage.flatten(0, 1)[rows].view(-1, beam, self.coverage.shape[2])
        self.log_p = log_p[keep]
        assert self.state is not None
        self.state = [(h.index_select(1, rows), c.index_select(1, rows)) for h, c in self.state]
        if not bool(keep.all()):
            self.which = self.which[keep]
            self.memory = Memory(*(part[keep] for part in self.memory))


@torch.no_grad()
def beam_search(
    network: Network, source: Int64[Tensor, "batch source"], search: BeamOptions
) -> tuple[Int64[Tensor, "batch longest"], Float[Tensor, " batch"]]:
    """The best translation of each sentence, with PAD after its END, and its score.

    At each step the `beam` best continuations that do not end go on; one that ends, and is among
    the `beam` best of all, is a candidate. A sentence is done when no hypothesis can overtake the
    best candidate any more, when it has had `beam` candidates and no hypothesis is as likely as the
    best of them, or at its limit; if nothing has ended by then, the best unfinished hypothesis is
    taken. (The number of candidates is not enough: a confident model has one at nearly every step,
    and all but one of them are improbable.)
    """
    batch, beam, device = len(source), search.beam, source.device
    memory = network.encode(source)
    limits = search.limits(memory.real.sum(dim=1))
    longest = int(limits.max())
    found = Found(
        torch.full((batch, longest), PAD, device=device),
        torch.full((batch,), -torch.inf, device=device),
        torch.full((batch,), -torch.inf, device=device),
        torch.zeros(batch, dtype=torch.long, device=device),
    )
    log_p = torch.full((batch, beam), -torch.inf, device=device)
    log_p[:, 0] = 0.0  # at first there is one hypothesis
    alive = Alive(
        which=torch.arange(batch, device=device),
        pieces=torch.full((batch, beam, longest), PAD, device=device),
        log_p=log_p,
        coverage=torch.zeros((batch, beam, source.shape[1]), device=device),
        memory=memory,
        state=None,
    )
    for place in range(longest):
        _step(network, search, found, alive, limits, place)
        if not len(alive.which):
            break
    return found.pieces, found.score


def _step(
    network: Network, search: BeamOptions, found: Found, alive: Alive, limits: Tensor, place: int
) -> None:
    """Chooses the piece at `place` of every hypothesis."""
    beam, length = search.beam, place + 1
    score, parent, piece = _continue(network, alive, 2 * beam, place)
    cp = search.cp(alive.coverage, alive.memory.real)
    lp = search.lp(length).to(cp)

    ended = (piece == END) & score.isfinite()
    first = ended[:, :beam]  # an end that is not among the best of all is not a candidate
    final = (score[:, :beam] / lp + cp.gather(1, parent[:, :beam])).masked_fill(~first, -torch.inf)
    best, rank = final.max(dim=1)
    pieces = _histories(alive, parent.gather(1, rank[:, None]))[:, 0]
    pieces[:, place] = END
    found.offer(alive.which, pieces, best, score.gather(1, rank[:, None])[:, 0])
    found.count[alive.which] += first.sum(dim=1)

    score, order = score.masked_fill(ended, -torch.inf).topk(min(beam, score.shape[1]), dim=1)
    parent, piece = parent.gather(1, order), piece.gather(1, order)
    own = limits[alive.which]
    bound = score[:, 0] / search.lp(own).to(score)
    at_limit = length >= own
    enough = found.count[alive.which] >= beam
    settled = enough & (score[:, 0] <= found.log_p[alive.which])
    done = settled | (bound <= found.score[alive.which]) | at_limit
    if bool(at_limit.any()):
        unfinished = (score[:, 0] / lp + cp.gather(1, parent[:, :1])[:, 0]).masked_fill(
            ~at_limit | found.score[alive.which].isfinite(), -torch.inf
        )
        pieces = _histories(alive, parent[:, :1])[:, 0]
        pieces[:, place] = piece[:, 0]
        found.offer(alive.which, pieces, unfinished, score[:, 0])
    alive.go_on(~done, parent, piece, score, place)


def _continue(
    network: Network, alive: Alive, wanted: int, place: int
) -> tuple[Float[Tensor, "b wanted"], Int64[Tensor, "b wanted"], Int64[Tensor, "b wanted"]]:
    """The best continuations of each sentence: their log P, the beam they go on from, the piece.

    The attention is added to each hypothesis' coverage.
    """
    batch, beam, _ = alive.pieces.shape
    last = alive.pieces[:, :, place - 1] if place else torch.full_like(alive.pieces[:, :, 0], BEGIN)
    decoded = network.decode(last.reshape(-1, 1), alive.memory, alive.state)
    alive.state = decoded.state
    alive.coverage = alive.coverage + decoded.attention.view_as(alive.coverage)
    logits = network.classifier(decoded.hidden[0]).float()
    log_p = alive.log_p - logits.logsumexp(dim=1).view(batch, beam)
    logits[:, [PAD, BEGIN]] = -torch.inf  # never written; their probability is lost
    best, pieces = _top(logits, min(wanted, logits.shape[1]))
    totals = (log_p[:, :, None] + best.view(batch, beam, -1)).flatten(1)
    score, index = totals.topk(min(wanted, totals.shape[1]), dim=1)
    parent = index // best.shape[1]
    return score, parent, pieces.view(batch, -1).gather(1, index)


def _top(
    values: Float[Tensor, "rows columns"], count: int
) -> tuple[Float[Tensor, "rows count"], Int64[Tensor, "rows count"]]:
    """`values.topk(count)`, several times as fast if the rows are long.

    The `count` greatest values lie in the `count` blocks with the greatest maxima.
    """
    rows, columns = values.shape
    block = max(1, math.isqrt(columns // count))
    if columns < 512 or columns // block <= 2 * count:
        return values.topk(count, dim=1)
    spare = -columns % block
    if spare:
        values = torch.nn.functional.pad(values, (0, spare), value=-torch.inf)
    blocks = values.view(rows, -1, block)
    _, chosen = blocks.amax(dim=2).topk(count, dim=1)
    near = blocks.gather(1, chosen[:, :, None].expand(-1, -1, block)).flatten(1)
    best, index = near.topk(count, dim=1)
    return best, chosen.gather(1, index // block) * block + index % block


def _histories(
    alive: Alive, parent: Int64[Tensor, "batch some"]
) -> Int64[Tensor, "batch some longest"]:
    """A copy of the pieces of the given hypotheses of each sentence."""
    longest = alive.pieces.shape[2]
    return alive.pieces.gather(1, parent[:, :, None].expand(-1, -1, longest))
