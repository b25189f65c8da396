"""Which tokens of a string live, that is, can change its rule.

`keep_left` drops its second operand: that token and its unary function are dead. A group whose
result no living token reads is dead as a whole. The last group lives: it is the update.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from nos_repro.rules.space import Space
from nos_repro.rules.tokens import GROUP


def living(
    space: Space, tokens: Int64[Tensor, "*strings length"]
) -> Bool[Tensor, "*strings length"]:
    """For each token, an index into `Space.choices(position)`, whether it lives."""
    keeps = space.binary.index("keep_left") if "keep_left" in space.binary else -1
    groups = tokens.view(*tokens.shape[:-1], space.iterations, len(GROUP))
    used = [torch.zeros_like(groups[..., 0, 0], dtype=torch.bool) for _ in range(space.iterations)]
    used[-1] = torch.ones_like(used[-1])
    found = []
    for iteration in reversed(range(space.iterations)):
        first, second, _, _, binary = groups[..., iteration, :].unbind(-1)
        lives = used[iteration]
        both = lives & (binary != keeps)
        for earlier in range(iteration):
            result = len(space.operands) + earlier
            reads = (lives & (first == result)) | (both & (second == result))
            used[earlier] = used[earlier] | reads
        found.append(torch.stack([lives, both, lives, both, lives], -1))
    return torch.cat(found[::-1], -1)
