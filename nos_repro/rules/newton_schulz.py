"""The orthogonalisation of a matrix, as `torch.optim.Muon` does it.

Five steps of a Newton-Schulz iteration of degree five bring all singular values near 1 (0.7 to
1.2) and leave the singular vectors as they are. Like torch's, in bfloat16: the result has two or
three digits.
"""

import torch
from torch import Tensor


def orthogonal(x: Tensor) -> Tensor:
    """A matrix, or a batch of them, with all singular values near 1; zeros stay zeros."""
    if x.dim() > 2:
        return torch.stack([orthogonal(each) for each in x])
    tall = x.shape[0] > x.shape[1]
    y = x.bfloat16().T if tall else x.bfloat16()
    y = y / y.norm().clamp(min=1e-7)
    for _ in range(5):
        gram = y @ y.T
        by = torch.addmm(gram, gram, gram, beta=-4.7750, alpha=2.0315)
        y = torch.addmm(y, by, y, beta=3.4445)
    return (y.T if tall else y).to(x.dtype)
