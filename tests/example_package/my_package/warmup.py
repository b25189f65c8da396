"""A schedule: a linear warm-up, then no decay.

schedule: my_package.warmup
"""

from collections.abc import Callable

from nos_repro.optim import SCHEDULES


@SCHEDULES.register("warmup")
def warmup(*, total_steps: int, share: float = 0.1) -> Callable[[int], float]:
    """The factor on the rate at step t, counted from 0; ``share`` of the training warms up. A
    schedule that draws asks for `seed` too."""
    steps = max(1, round(share * total_steps))
    return lambda t: min(1.0, (t + 1) / steps)
