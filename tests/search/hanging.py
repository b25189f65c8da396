"""A task whose step never ends: `task: {name: tests.search.hanging}`."""

from __future__ import annotations

import time

from torch import Tensor

from nos_repro.tasks.convnet import ConvNet


class Hanging(ConvNet):
    """Hangs inside a step, where the clock is not checked."""

    def training_step(self, batch, batch_idx: int = 0) -> Tensor:
        time.sleep(3600)
        raise AssertionError("an hour has passed")
