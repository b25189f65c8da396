"""Random numbers as a pure function of (seed, step, tensor, site, place of the element).

A counter-based generator, Philox 2x32 with 10 rounds (Salmon et al., "Parallel random numbers: as
easy as 1, 2, 3", 2011): only the seed and the step need saving, every execution, device, memory
layout and sharding draws the same numbers, and the fused kernel needs no extra pass over memory.
The counter is an element's row-major index in its whole tensor; keys come from BLAKE2b. Normals
are made with Box and Muller's method, from uniforms of 24 bits (|x| < 5.9).

All arithmetic is on int64, of which the lower 32 bits count: it wraps around, and `>> 32` brings
copies of the sign into the upper half.
"""

import struct
from hashlib import blake2b

import torch
from torch import Tensor

Key = tuple[int, int]

_ROUNDS = 10
_MULTIPLIER = 0xD256D193
_WEYL = 0x9E3779B9
_LOWER = 0xFFFFFFFF
# cos(2 pi x) as a polynomial in x^2 for |x| <= 1/2, within 2e-10
_COSINE = (
    -1.4531123087649511,
    7.800131431854929,
    -26.404668185549863,
    60.24213133805908,
    -85.45665831477154,
    64.93938907589205,
    -19.739208743453883,
    0.9999999998855529,
)


def make_key(seed: int, step: int, tensor: int, site: int) -> Key:
    """Two numbers of 32 bits that nothing else shares (up to the odds of a 64-bit hash)."""
    message = b"%d %d %d %d" % (seed, step, tensor, site)
    low, high = struct.unpack("<II", blake2b(message, digest_size=8).digest())
    return low, high


def keep(places: Tensor, key: Key | tuple[Tensor, Tensor], probability: float) -> Tensor:
    """False with the given probability: what a drop keeps. `places` are int64."""
    word, _ = random_words(places, key)
    return torch.ge(word, round(probability * 2**32))


def normal(places: Tensor, key: Key | tuple[Tensor, Tensor], dtype: torch.dtype) -> Tensor:
    """N(0, 1) of the given dtype. `places` are int64."""
    word, other = random_words(places, key)
    uniform = ((word >> 8).to(dtype) + 0.5) * 2.0**-24
    turn = ((other >> 8).to(dtype) + 0.5) * 2.0**-24 - 0.5
    square = turn * turn
    cosine = square * _COSINE[0] + _COSINE[1]
    for coefficient in _COSINE[2:]:
        cosine = cosine * square + coefficient
    return torch.sqrt(-2 * torch.log(uniform)) * cosine


def random_words(places: Tensor, key: Key | tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Two random words of 32 bits for every place."""
    return _philox(places, (places >> 32) + key[1], key[0])


def _philox(x: Tensor, y: Tensor, key: int | Tensor) -> tuple[Tensor, Tensor]:
    """The block of Philox 2x32-10 for the counter (x, y)."""
    for _ in range(_ROUNDS):
        product = (x & _LOWER) * _MULTIPLIER
        x, y = (product >> 32) ^ y ^ key, product
        key = key + _WEYL
    return x & _LOWER, y & _LOWER
