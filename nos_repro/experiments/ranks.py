"""What each process of a trial has for itself: its random numbers, its part of batch norm."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from nos_repro.errors import ConfigError
from nos_repro.experiments.replicas import Replicas


def share_batch_norm(module: torch.nn.Module, device: str, replicas: Replicas) -> None:
    """Makes batch norm see the whole batch, not the slice of each process.

    Its mean and variance are part of the model: those of a slice differ, so the trial would depend
    on the number of processes. torch shares them only between GPUs, so this is a ConfigError on a
    CPU.
    """
    if replicas.world == 1 or not any(isinstance(m, _BatchNorm) for m in module.modules()):
        return
    if device != "cuda":
        raise ConfigError(
            f"a model with batch norm trains on {replicas.world} processes only with GPUs\n"
            "  batch norm over a whole batch (SyncBatchNorm) needs CUDA: use one process here"
        )
    convert: Callable[[torch.nn.Module], Any] = torch.nn.SyncBatchNorm.convert_sync_batchnorm
    convert(module)


def part_random_states(rank: int) -> None:
    """Makes process ``rank`` draw other numbers than the leader: without this, all slices of a
    batch would have the same dropout."""
    if rank > 0:
        words = torch.get_rng_state().numpy().tobytes() + b"%d" % rank
        torch.manual_seed(int.from_bytes(hashlib.blake2b(words, digest_size=7).digest()))
