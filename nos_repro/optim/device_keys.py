"""The keys of draws, made on a device: `draws.make_key` where the step is a tensor.

An update in a CUDA graph must draw anew at every replay, when no Python runs. So the step's number
is written in decimals, and the message hashed with BLAKE2b (RFC 7693), by operations on tensors:
int64 wraps around as the 64-bit words of BLAKE2b do.
"""

from functools import cache

import torch
from torch import Tensor

from nos_repro.errors import ConfigError

BLOCK = 128  # bytes of a message: one block
DIGITS = 18  # of a step's number, at most
_START = (
    0x6A09E667F3BCC908, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B, 0xA54FF53A5F1D36F1,
    0x510E527FADE682D1, 0x9B05688C2B3E6C1F, 0x1F83D9ABFB41BD6B, 0x5BE0CD19137E2179,
)  # fmt: skip
_PARAMETERS = 0x01010000 ^ 8  # no key, a digest of 8 bytes
_ORDER = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
    (14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3),
    (11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4),
    (7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8),
    (9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13),
    (2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9),
    (12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11),
    (13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10),
    (6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5),
    (10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0),
)
ROUNDS = 12


def keys_at(seed: int, t: Tensor, tensors: tuple[int, ...], sites: int) -> Tensor:
    """`make_key(seed, t, tensor, site)` as int64 [tensors, sites, 2], on the device of t.

    t: a whole number of int64, without dimensions. Nothing waits for it. Raises ConfigError for a
    seed of more than 60 digits.
    """
    words, lengths = _messages(seed, t, tensors, sites)
    first = _compressed(words, lengths)
    keys = torch.stack([first & 0xFFFFFFFF, (first >> 32) & 0xFFFFFFFF], dim=-1)
    return keys.view(len(tensors), sites, 2)


def _messages(seed: int, t: Tensor, tensors: tuple[int, ...], sites: int) -> tuple[Tensor, Tensor]:
    """The messages as words [16, messages], and their lengths in bytes."""
    known = _known(seed, tensors, sites, t.device)
    numbers = t // known.powers  # [DIGITS], the last digit first
    digits = (numbers > 0).sum().clamp(min=1)
    before = known.first + digits
    decimals = numbers % 10 + ord("0")
    place = known.place
    written = decimals.gather(0, (before - 1 - place).clamp(0, DIGITS - 1))
    rest = known.rest.gather(1, (place - before).clamp(min=0).expand(len(known.rest), -1))
    message = torch.where(
        place < known.first, known.seed, torch.where(place < before, written, rest)
    )
    words = (message.view(-1, BLOCK // 8, 8) << known.shifts).sum(-1)
    return words.T, known.lengths + before


class _Known:
    """What does not depend on the step: the bytes of the seed and of what follows the step."""

    def __init__(self, seed: int, tensors: tuple[int, ...], sites: int, device: torch.device):
        first = b"%d " % seed
        rest = [b" %d %d" % (tensor, site) for tensor in tensors for site in range(sites)]
        if len(first) + DIGITS + max(map(len, rest)) > BLOCK:
            raise ConfigError(f"seed must have at most 60 digits with capturable=True, got {seed}")

        def tensor(values: object) -> Tensor:
            return torch.tensor(values, dtype=torch.int64, device=device)

        self.first = len(first)
        self.seed = tensor(list(first.ljust(BLOCK, b"\0")))
        self.rest = tensor([list(x.ljust(BLOCK, b"\0")) for x in rest])
        self.lengths = tensor([len(x) for x in rest])
        self.powers = tensor([10**k for k in range(DIGITS)])
        self.place = torch.arange(BLOCK, device=device)
        self.shifts = 8 * torch.arange(8, device=device)


_known = cache(_Known)


def _compressed(words: Tensor, lengths: Tensor) -> Tensor:
    """The first word of the digest: BLAKE2b's function F on one, the last, block."""
    start, order = _constants(words.device)
    v = start.expand(-1, words.shape[1]).clone()
    v[12] ^= lengths
    v[14] = ~v[14]
    a, b, c, d = v.view(4, 4, -1).unbind()
    for r in range(ROUNDS):
        chosen = words[order[r % len(order)]]
        a, b, c, d = _mixed(a, b, c, d, chosen[0:8:2], chosen[1:8:2])
        b, c, d = b.roll(-1, 0), c.roll(-2, 0), d.roll(-3, 0)
        a, b, c, d = _mixed(a, b, c, d, chosen[8::2], chosen[9::2])
        b, c, d = b.roll(1, 0), c.roll(2, 0), d.roll(3, 0)
    first: Tensor = a[0] ^ c[0] ^ start[0]
    return first


def _mixed(a: Tensor, b: Tensor, c: Tensor, d: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    """BLAKE2b's function G on four columns at once."""
    a = a + b + x
    d = _turned(d ^ a, 32)
    c = c + d
    b = _turned(b ^ c, 24)
    a = a + b + y
    d = _turned(d ^ a, 16)
    c = c + d
    return a, _turned(b ^ c, 63), c, d


def _turned(x: Tensor, bits: int) -> Tensor:
    """The words rotated to the right."""
    return ((x >> bits) & ((1 << (64 - bits)) - 1)) | (x << (64 - bits))


@cache
def _constants(device: torch.device) -> tuple[Tensor, Tensor]:
    """The words before the first round [16, 1], and which word of the message comes when."""
    first = [_START[0] ^ _PARAMETERS, *_START[1:], *_START]
    signed = [x - (1 << 64) if x >> 63 else x for x in first]
    order = torch.tensor(_ORDER, device=device)
    return torch.tensor(signed, dtype=torch.int64, device=device).view(-1, 1), order
