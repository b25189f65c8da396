"""Sharded training (FSDP2, `device.shard`): each of the processes that train a trial together holds
a part of every weight, of its gradient and of what the optimizer keeps for it.

A layer's whole weights are gathered when it runs, forward and backward, and freed afterwards. What
is saved and what is evaluated is whole, so that a checkpoint is the one of a run without shards.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn, optim
from torch.optim import Optimizer

from nos_repro.errors import ConfigError
from nos_repro.experiments.trial import Training
from nos_repro.optim.rule_optimizer import RuleOptimizer
from nos_repro.optim.sharding import is_dtensor
from nos_repro.optim.tensorflow import TensorFlowOptimizer
from nos_repro.tasks.base import Task

NO_NUMBERS = "rounding alone depends on it (experiments.digest)"

ELEMENTWISE = (optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop)
"""torch's optimizers that are known to update every element by itself; so do ours."""


def check_shardable(task: type[Task], training: Training) -> None:
    """Raises ConfigError if the task does not say how it is sharded (`Task.shards`), or if the
    gradients are to be changed as a whole."""
    if task.shards is Task.shards:
        raise ConfigError(
            f"device.shard: {task.__name__} cannot be sharded, GNMT can\n"
            "  leave it out; a task of your own can name its modules in the method `shards`"
        )
    if training.environment is not None:
        raise ConfigError(
            "device.shard: training.environment needs whole gradients; leave one of them out"
        )


def check_elementwise(optimizer: Optimizer) -> None:
    """Raises ConfigError for an optimizer that may need more than this process's part of a
    parameter."""
    ours = isinstance(optimizer, RuleOptimizer | TensorFlowOptimizer)
    if not ours and type(optimizer) not in ELEMENTWISE:
        known = " ".join(f"torch.optim.{cls.__name__}" for cls in ELEMENTWISE)
        raise ConfigError(
            f"device.shard: {type(optimizer).__name__} is not known to update each element by"
            f" itself\n  use a rule, a baseline or one of: {known}; or leave device.shard out"
        )


def shard(task: Task, device: torch.device) -> None:
    """Leaves to this process its part of each parameter, on ``device``. All processes call this,
    with the same parameters.

    cuDNN would move an LSTM's weights into one piece of memory when they first change, where
    those that FSDP gathers later would not arrive: so they stay where they are.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for module in (*task.shards(), task):
        fully_shard(module, mesh=mesh)
    register_fsdp_forward_method(task, "training_step")
    for module in task.modules():
        if isinstance(module, nn.RNNBase):
            module.flatten_parameters = _stay  # type: ignore[method-assign]
    warnings.filterwarnings("ignore", message="RNN module weights are not part of single")


def _stay() -> None:
    pass


def whole_copy(task: Task) -> Task:
    """The task with whole weights, to evaluate it: the processes have different batches, some of
    which take more passes, so none may wait for the others' parts. All processes call it at once.
    """
    with torch.device("meta"):
        copy: Task = type(task)(task.settings)  # FSDP's class makes one that is not sharded
    weights = {name: value.full_tensor() if is_dtensor(value) else value
               for name, value in task.state_dict().items()}  # fmt: skip
    copy.load_state_dict(weights, assign=True)
    return copy


def whole(state: Any, *, keep: bool) -> Any:
    """A state with whole tensors on the CPU; None in their place unless this process is to
    ``keep`` them. All processes call it at once."""

    def gathered(part: Any) -> Tensor | None:
        full: Tensor = part.full_tensor()
        return full.cpu() if keep else None

    from torch.distributed.tensor import DTensor

    return apply_to_collection(state, DTensor, gathered)


def spread_weights(weights: dict[str, Any], task: Task) -> dict[str, Any]:
    """This process's part of whole weights."""
    own = task.state_dict()
    return {name: _part(value, own.get(name)) for name, value in weights.items()}


def spread_optimizer(state: dict[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """This process's part of what an optimizer has kept, in whole tensors, for each parameter."""
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    params = [param for group in optimizer.param_groups for param in group["params"]]
    of = dict(zip(numbers, params, strict=False))  # of other lengths: the optimizer refuses it
    kept = {
        number: {name: _part(value, of.get(number)) for name, value in values.items()}
        for number, values in state["state"].items()
    }
    return {**state, "state": kept}


def _part(value: Any, like: Any) -> Any:
    """This process's part of a tensor with one value per element of ``like``, if that is spread
    over the processes; any other value as it is."""
    from torch.distributed.tensor import distribute_tensor

    if not (isinstance(value, Tensor) and is_dtensor(like) and value.shape == like.shape):
        return value
    part = distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)
    return part.clone()  # in older versions it is a view, which keeps the whole tensor
