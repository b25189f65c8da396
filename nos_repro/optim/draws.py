"""Random numbers as a pure function of (seed, step, tensor, site, element).

A counter-based generator: only the seed and the step need saving, every execution and every device
draws the same numbers, and the fused kernel needs no extra pass over memory. It is a 32-bit integer
hash (C. Wellons' triple32) with a key added before its first and after its second round; keys come
from BLAKE2b. Normals are made with Box and Muller's method, from uniforms of 24 bits (|x| < 5.9).

All arithmetic is on int32; it wraps around, and shifts are unsigned.
"""

import math
import struct
from hashlib import blake2b

import torch
from torch import Tensor

Key = tuple[int, int]

_BITS = 24
_SECOND = 0x3C6EF372  # tells the second uniform of a normal from the first


def make_key(seed: int, step: int, tensor: int, site: int) -> Key:
    """Two int32 that nothing else shares (up to the odds of a 64-bit hash)."""
    message = b"%d %d %d %d" % (seed, step, tensor, site)
    low, high = struct.unpack("<ii", blake2b(message, digest_size=8).digest())
    return low, high


def counter(like: Tensor, start: int = 0) -> Tensor:
    """The number of every element, in the order of memory."""
    end = start + like.numel()
    return torch.arange(start, end, dtype=torch.int32, device=like.device).view(like.shape)


def keep(elements: Tensor, key: Key | tuple[Tensor, Tensor], probability: float) -> Tensor:
    """False with the given probability: what a drop keeps."""
    return torch.ge(_bits(elements, *key), round(probability * 2**_BITS))


def normal(elements: Tensor, key: Key | tuple[Tensor, Tensor], dtype: torch.dtype) -> Tensor:
    """N(0, 1) of the given dtype."""
    low, high = key
    u1 = _uniform(_bits(elements, low, high), dtype)
    u2 = _uniform(_bits(elements, low, high ^ _SECOND), dtype)
    return torch.sqrt(-2 * torch.log(u1)) * torch.cos(2 * math.pi * u2)


def _uniform(bits: Tensor, dtype: torch.dtype) -> Tensor:
    """In the open interval (0, 1)."""
    return (bits.to(dtype) + 0.5) * 2.0**-_BITS


def _bits(x: Tensor, low: int | Tensor, high: int | Tensor) -> Tensor:
    """24 random bits for every counter."""
    x = x + low
    x = (x ^ _shift(x, 17)) * _int32(0xED5AD4BB)
    x = (x ^ _shift(x, 11)) * _int32(0xAC4C1B51)
    x = x + high
    x = (x ^ _shift(x, 15)) * _int32(0x31848BAB)
    x = x ^ _shift(x, 14)
    return _shift(x, 32 - _BITS)


def _shift(x: Tensor, n: int) -> Tensor:
    """To the right, zeros coming in from the left."""
    return (x >> n) & ((1 << (32 - n)) - 1)


def _int32(x: int) -> int:
    return x - (1 << 32) if x >= 1 << 31 else x
