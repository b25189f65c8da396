"""Google's translation network (Wu et al. 2016): stacked LSTMs, attention from the bottom layer.

Inside, sequences have time first, [time, batch, width], as the fused LSTM kernels need it; word
pieces come in and go out as [batch, time].
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from nos_repro.data.wordpieces import PAD
from nos_repro.tasks.facts.gnmt import dropped_of
from nos_repro.tasks.recurrence import joined_at_each_call

BF16 = torch.bfloat16
FIRST_RESIDUAL = 2
"""Layers from the third on add their input to their output."""

DecoderState: TypeAlias = list[tuple[Tensor, Tensor]]
"""Hidden and cell of each decoder layer, [1, batch * beams, width]."""


class Memory(NamedTuple):
    """What the decoder sees of a batch of sources; `keys` are the attention's form of `values`."""

    keys: Float[Tensor, "batch source width"]
    values: Float[Tensor, "batch source width"]
    real: Bool[Tensor, "batch source"]


class Decoded(NamedTuple):
    """The decoder's output after each of its inputs, its attention, and its state at the end."""

    hidden: Float[Tensor, "time rows width"]
    attention: Float[Tensor, "batch queries source"]
    state: DecoderState


class Dropout(nn.Module):
    """Dropout that draws one byte per element: on the CPU it takes a third of torch's own time.

    The probability is rounded to a multiple of 1/256; what is kept is rescaled to match exactly.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.dropped = dropped_of(probability)

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        if not self.training or not self.dropped:
            return x
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64, device=x.device)
        words.random_(torch.iinfo(torch.int64).min, None)
        kept = words.view(torch.uint8)[: x.numel()].view(x.shape) >= self.dropped
        return x * kept * (256 / (256 - self.dropped))


class Layer(nn.LSTM):
    """An LSTM layer that runs in bfloat16 under bfloat16 autocast, on every device.

    cuDNN's LSTM under autocast is float16 whatever autocast's type is (torch's `AutocastRNN.cpp`),
    and most of an LSTM's gradients are subnormal in float16. So weights, input and state are cast
    here, outside autocast; on a CPU that is what autocast does, to the bit. cuDNN has LSTMs in
    bfloat16 from 9.13 on; with an older one torch's own kernels run, which are slower.
    """

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "time batch inputs"], state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Float[Tensor, "time batch width"], tuple[Tensor, Tensor]]:
        kind = x.device.type
        if not (torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == BF16):
            output, after = super().forward(x, state)
            return output, after
        if state is None:
            zeros = x.new_zeros(1, x.shape[1], self.hidden_size)
            state = zeros, zeros
        weights = [weight.to(BF16) for weight in self.parameters()]
        before = [value.to(BF16) for value in state]
        with torch.autocast(kind, enabled=False), joined_at_each_call():
            output, *last = torch.lstm(
                x.to(BF16), before, weights, True, 1, 0.0, self.training, False, False
            )
        return output, (last[0], last[1])


class Encoder(nn.Module):
    """A bidirectional layer, then unidirectional ones.

    The backward half reads each sentence reversed within its own length. So padding comes last in
    both directions and reaches no real position, and no sequence needs to be packed.
    """

    def __init__(self, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.forward_layer = Layer(width, width)
        self.backward_layer = Layer(width, width)
        above = (Layer(2 * width if i == 1 else width, width) for i in range(1, layers))
        self.layers = nn.ModuleList(above)
        self.dropout = Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "time batch width"], lengths: Int64[Tensor, " batch"]
    ) -> Float[Tensor, "time batch width"]:
        x = self.both_ways(self.dropout(x), lengths)
        for i, layer in enumerate(self.layers, start=1):
            out, _ = layer(self.dropout(x))
            x = x + out if i >= FIRST_RESIDUAL else out
        return x

    def both_ways(
        self, x: Float[Tensor, "time batch width"], lengths: Int64[Tensor, " batch"]
    ) -> Float[Tensor, "time batch twice"]:
        """The first layer: its forward and its backward output, side by side."""
        mirror = _mirror(len(x), lengths)
        backward, _ = self.backward_layer(_reorder(x, mirror))
        return torch.cat([self.forward_layer(x)[0], _reorder(backward, mirror)], dim=-1)


def _mirror(time: int, lengths: Int64[Tensor, " batch"]) -> Int64[Tensor, "time batch"]:
    """Where each place is read from when every sentence is reversed; padding stays in place."""
    places = torch.arange(time, device=lengths.device)[:, None]
    return torch.where(places < lengths, lengths - 1 - places, places)


def _reorder(
    x: Float[Tensor, "time batch width"], places: Int64[Tensor, "time batch"]
) -> Float[Tensor, "time batch width"]:
    time, batch, width = x.shape
    rows = places * batch + torch.arange(batch, device=x.device)
    return x.reshape(time * batch, width).index_select(0, rows.view(-1)).view(time, batch, width)


class Attention(nn.Module):
    """Bahdanau's, normalised: `g * (v / |v|) . tanh(W query + U key + b)` (Salimans & Kingma)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.direction = nn.Parameter(torch.empty(width))
        self.gain = nn.Parameter(torch.empty(1))
        self.bias = nn.Parameter(torch.empty(width))

    def forward(
        self, query: Float[Tensor, "batch queries width"], memory: Memory
    ) -> tuple[Float[Tensor, "batch queries width"], Float[Tensor, "batch queries source"]]:
        """The context and the weights of each query; padding gets weight 0."""
        both = self.query(query)[:, :, None] + (memory.keys + self.bias)[:, None]
        scores = both.tanh_() @ (self.gain * F.normalize(self.direction, dim=0)).to(both.dtype)
        scores = scores.float().masked_fill(~memory.real[:, None], -torch.inf)
        weights = scores.softmax(dim=-1)
        return weights.to(memory.values.dtype) @ memory.values, weights


class Decoder(nn.Module):
    """LSTM layers; the bottom one's output is the attention's query, the others get the context.

    *Departure*: Wu et al. speak of the bottom layer's output "in the previous decoding time step".
    Here it is that of the same step, and the context goes to the layers above, not back into the
    bottom one: the published numbers of parameters leave no room for it there. So with teacher
    forcing every layer runs over the whole sequence in one call.
    """

    def __init__(self, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.bottom = Layer(width, width)
        self.attention = Attention(width)
        self.layers = nn.ModuleList(Layer(2 * width, width) for _ in range(1, layers))
        self.dropout = Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "time rows width"], memory: Memory, state: DecoderState | None = None
    ) -> Decoded:
        """`rows` are the batch's sentences, each repeated for its beams; None: a state of zeros."""
        x, after = self.bottom(self.dropout(x), state[0] if state else None)
        states = [after]
        context, weights = self._attend(x, memory)
        for i, layer in enumerate(self.layers, start=1):
            below = self.dropout(torch.cat([x, context], dim=-1))
            out, after = layer(below, state[i] if state else None)
            x = x + out if i >= FIRST_RESIDUAL else out
            states.append(after)
        return Decoded(x, weights, states)

    def _attend(
        self, x: Float[Tensor, "time rows width"], memory: Memory
    ) -> tuple[Float[Tensor, "time rows width"], Float[Tensor, "batch queries source"]]:
        """All steps and beams of a sentence are queries to its one memory."""
        time, rows, width = x.shape
        batch = len(memory.keys)
        queries = x.view(time, batch, rows // batch, width).transpose(0, 1)
        context, weights = self.attention(queries.reshape(batch, -1, width), memory)
        context = context.view(batch, time, rows // batch, width).transpose(0, 1)
        return context.reshape(time, rows, width), weights


class Network(nn.Module):
    """Encoder, decoder, one table of embeddings for both languages, and the classifier.

    All weights come from U(-init, init); the attention's gain starts at 1 / sqrt(width).
    """

    def __init__(
        self, vocabulary: int, width: int, layers: int, dropout: float, init: float, share: bool
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.target_embedding = None if share else nn.Embedding(vocabulary, width)
        self.encoder = Encoder(width, layers, dropout)
        self.decoder = Decoder(width, layers, dropout)
        self.classifier = nn.Linear(width, vocabulary)
        for weight in self.parameters():
            nn.init.uniform_(weight, -init, init)
        nn.init.constant_(self.decoder.attention.gain, width**-0.5)

    def encode(self, source: Int64[Tensor, "batch source"]) -> Memory:
        real = source != PAD
        x = self.encoder(self.embedding(source.t()), real.sum(dim=1))
        values = x.transpose(0, 1).contiguous()
        return Memory(self.decoder.attention.key(values), values, real)

    def decode(
        self, pieces: Int64[Tensor, "rows time"], memory: Memory, state: DecoderState | None = None
    ) -> Decoded:
        """Runs the decoder over given pieces (teacher forcing), or over one step of a search."""
        table = self.embedding if self.target_embedding is None else self.target_embedding
        decoded: Decoded = self.decoder(table(pieces.t()), memory, state)
        return decoded
