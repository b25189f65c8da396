"""Parameters that are spread over processes: each process updates its own part of a DTensor.

That is how FSDP2 (`fully_shard`) and tensor parallelism hold parameters and gradients. Averages are
DTensors like their parameter, so that `torch.distributed.checkpoint` saves and reshards them.
"""

import inspect
import sys
from collections.abc import Iterable
from typing import Any, TypeGuard

import torch
from torch import Tensor

from nos_repro.errors import ConfigError

_NUMBER = "_nos_repro_number"


def number_parameters(params: Iterable[Tensor]) -> None:
    """Numbers the parameters of a model in this order, for rules that draw.

    A rule draws by the number of its parameter, which otherwise is its place in the optimizer. Call
    it where the processes have optimizers of different parameters, as with
    `ZeroRedundancyOptimizer` and pipeline stages, with all parameters in the same order everywhere.
    """
    for number, p in enumerate(params):
        setattr(p, _NUMBER, number)


def check_numbered(params: Iterable[Tensor]) -> None:
    """Refuses parameters without a number in a process's part of a `ZeroRedundancyOptimizer`.

    Every process would draw for its first parameter what another draws for its own first.
    """
    if _in_zero_redundancy() and not all(hasattr(p, _NUMBER) for p in params):
        raise ConfigError(
            "a rule that draws cannot tell which parameters ZeroRedundancyOptimizer has given to"
            " this process\n"
            "  first call nos_repro.optim.sharding.number_parameters(model.parameters()) in every"
            " process"
        )


def _in_zero_redundancy() -> bool:
    """Whether a `ZeroRedundancyOptimizer` of several processes is making its local optimizer."""
    module = sys.modules.get("torch.distributed.optim.zero_redundancy_optimizer")
    frame = inspect.currentframe() if module is not None else None
    while module is not None and frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, module.ZeroRedundancyOptimizer):
            return bool(caller.world_size > 1)
        frame = frame.f_back
    return False


def number_of(p: Tensor, place: int) -> int:
    """The number that a parameter draws with; `place` is that in its optimizer."""
    return int(getattr(p, _NUMBER, place))


def is_dtensor(x: Tensor) -> TypeGuard[Any]:
    """Whether a tensor is spread over processes."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(x, module.DTensor)


def is_in_parts(x: Tensor) -> bool:
    """Whether each process has a part of a tensor: of a DTensor, or of what FSDP1 has flattened."""
    spread = is_dtensor(x) and any(
        not placement.is_replicate() and x.device_mesh.size(axis) > 1
        for axis, placement in enumerate(x.placements)
    )
    return spread or bool(getattr(x, "_fsdp_flattened", False))


def local_part(x: Tensor) -> Tensor:
    """This process's part of a tensor, which shares its memory."""
    if not is_dtensor(x):
        return x
    part: Tensor = x.to_local()
    return part


def spread_of(x: Tensor) -> Any:
    """What tells one way of spreading a tensor from another."""
    return (x.device_mesh, x.placements) if is_dtensor(x) else None


def local_gradient(g: Tensor, p: Tensor) -> Tensor:
    """This process's part of a gradient, spread as its parameter is."""
    if is_dtensor(g) and is_dtensor(p) and g.placements != p.placements:
        g = g.redistribute(p.device_mesh, p.placements)
    return local_part(g)


def like_parameter(part: Tensor, p: Tensor) -> Tensor:
    """A tensor with this local part, spread as the parameter is."""
    if not is_dtensor(p):
        return part
    spread: Tensor = type(p).from_local(
        part, p.device_mesh, p.placements, run_check=False, shape=p.shape, stride=p.stride()
    )
    return spread


def is_any(x: Tensor) -> bool:
    """Whether an element of a tensor is not 0, here or in another process."""
    found = x.any()
    return bool(found.full_tensor() if is_dtensor(found) else found)


def local_indices(p: Tensor) -> list[Tensor] | None:
    """For every dimension, which indices of the whole tensor this process has; None if all.

    Raises ConfigError if the local part is not what the placements say.
    """
    part = local_part(p)
    if not is_dtensor(p) or part.shape == p.shape:
        return None
    indices = [torch.arange(n, device=part.device) for n in p.shape]
    coordinates = p.device_mesh.get_coordinate()
    if coordinates is None:
        return [x[:n] for x, n in zip(indices, part.shape, strict=True)]
    for axis, placement in enumerate(p.placements):
        if placement.is_replicate() or placement.is_partial():
            continue
        whole = indices[placement.dim].chunk(getattr(placement, "split_factor", 1))
        size, place = p.device_mesh.size(axis), coordinates[axis]
        pieces = [piece.chunk(size)[place : place + 1] for piece in whole]
        indices[placement.dim] = torch.cat([x[:0] for x in whole] + [x for y in pieces for x in y])
    found = tuple(len(x) for x in indices)
    if found != tuple(part.shape):
        raise ConfigError(
            f"a rule that draws cannot tell which elements of a parameter {tuple(p.shape)} with"
            f" placements {p.placements} are here: {tuple(part.shape)}, expected {found}"
        )
    return indices
