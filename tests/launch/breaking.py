"""A task whose training breaks while the whole environment is visible."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, ClassVar

from nos_repro.tasks.facts.rosenbrock import RosenbrockSettings
from nos_repro.tasks.rosenbrock import Rosenbrock


@dataclass(frozen=True)
class BreakingSettings(RosenbrockSettings):
    breaks: bool = True


class Breaking(Rosenbrock):
    Settings: ClassVar[type[Any]] = BreakingSettings

    def training_step(self, batch: Any = (), batch_idx: int = 0) -> Any:
        loss = super().training_step(batch)
        environment = dict(os.environ)
        if self.settings.breaks:
            raise RuntimeError(f"broke on purpose, with {len(environment)} variables in sight")
        return loss
