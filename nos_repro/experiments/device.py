"""The section `device` of a study or a search: how trials use the device that they run on.

It is no part of a trial's identity: what it says changes the speed, and the rounding. What was in
effect is in every record (`provenance`, `device_settings`).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nos_repro.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

CHECKS = "device"
"""The folder of what `check-device` has found, in a results folder; it is not a study."""


@dataclass(frozen=True)
class DeviceSettings:
    """How trials use their device. What is left out follows from the device."""

    channels_last: bool | None = None
    """Keep images as height, width, channels in memory. Default: as `task.channels_last` says, and
    on CUDA if products are made by tensor cores (`precision: bf16`, or `tf32`)."""
    tf32: bool = False
    """On CUDA, make float32 products (matrices, convolutions, LSTMs) in TensorFloat-32, which has
    10 bits of mantissa instead of 23. Faster; a verdict says so."""
    cudnn_benchmark: bool | None = None
    """On CUDA, let cuDNN time its algorithms for every new shape and take the fastest; two runs may
    then take different ones. Default: yes."""
    resident: bool | None = None
    """Keep a set of small images in the device's memory, and augment it there. Default: yes, except
    on a CPU."""

    compile: bool = False
    """Compile the model's layers with `torch.compile`: it takes up to minutes, once on a machine,
    before the first step, and then fuses what lies between the large products."""
    shard: bool = False
    """Share the weights, the gradients and what the optimizer keeps among the processes that train
    a trial together (FSDP2), instead of a copy in each: less memory, more communication. GNMT
    only."""

    def __post_init__(self) -> None:
        if self.shard and self.compile:
            raise ConfigError("device.shard and device.compile do not go together: leave one out")

    def on(self, device: str, settings: Any) -> InEffect:
        """What is in effect on a device for a task with these ``settings``."""
        cuda = device == "cuda"
        precision = str(getattr(settings, "precision", "32"))
        last = getattr(settings, "channels_last", None)
        if last is not None:
            cores = cuda and (self.tf32 or precision == "bf16")
            last = (last or cores) if self.channels_last is None else self.channels_last
        return InEffect(
            precision=precision,
            tf32=cuda and self.tf32,
            channels_last=last,
            cudnn_benchmark=cuda and self.cudnn_benchmark is not False,
            resident=device != "cpu" if self.resident is None else self.resident,
            compile=self.compile,
            shard=self.shard,
        )


@dataclass(frozen=True)
class InEffect:
    """What holds for one trial on its device; ``channels_last`` is None for a task without it."""

    precision: str
    tf32: bool
    channels_last: bool | None
    cudnn_benchmark: bool
    resident: bool
    compile: bool = False
    shard: bool = False

    def of_task(self, settings: Any) -> Any:
        """The task's settings as they hold here. Raises ConfigError if they do not fit."""
        if self.channels_last is None or self.channels_last == settings.channels_last:
            return settings
        try:
            return dataclasses.replace(settings, channels_last=self.channels_last)
        except ConfigError as error:
            raise ConfigError(f"device.channels_last={self.channels_last}: {error}") from None

    def prepare(self, device: str) -> None:
        """Sets torch's switches for CUDA; they hold for the whole process. TF32 is never on
        unasked: torch itself would use it in convolutions and LSTMs."""
        if device == "cuda":
            import torch  # late: reports read settings too

            torch.backends.cuda.matmul.allow_tf32 = self.tf32
            torch.backends.cudnn.allow_tf32 = self.tf32
            torch.backends.cudnn.benchmark = self.cudnn_benchmark

    def compile_model(self, task: nn.Module) -> None:
        """Has the task's modules compiled when they are first called, if that is asked for."""
        if self.compile:
            for module in task.children():
                module.compile()

    def to_json(self) -> dict[str, Any]:
        """As a record keeps it."""
        return dataclasses.asdict(self)
