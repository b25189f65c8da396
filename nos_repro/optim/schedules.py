"""Learning-rate schedules, stepped once per update (sec. 5.2).

A schedule is a factor f(t) on the initial rate; the first update has t = 0, T is the number of
updates, and after T the factor stays the same. The paper's forms are the defaults; the options
give TensorFlow's (`learning_rate_decay.py`, `sign_decay.py`).
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from nos_repro.errors import ConfigError
from nos_repro.optim.draws import make_key
from nos_repro.optim.registry import SCHEDULES, Factor

_UNIFORM = 2.0**-32


class Schedule(LRScheduler):
    """lr(t) = initial lr * factor(t). Only the step is saved; the factor is code.

    It chains as torch's schedulers do: a rate that is not initial lr * factor(t - 1), for another
    one has changed it, is multiplied by factor(t) / factor(t - 1), unless that divides by 0.

    Args:
        optimizer: the optimizer whose rates it sets.
        factor: f(t), a function of the step; it can be pickled if the schedule is to be.
        last_epoch: the last step that was taken, to resume without a saved state, as in torch.
    """

    def __init__(self, optimizer: Optimizer, factor: Factor, last_epoch: int = -1) -> None:
        self.factor = factor
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | Tensor]:
        """The rate of every parameter group."""
        groups = self.optimizer.param_groups
        if self._is_initial:
            factor = self.factor(0) if self.last_epoch == 0 else 1.0
            return [group["lr"] * factor for group in groups]
        factor = self.factor(self.last_epoch)
        before = self.factor(self.last_epoch - 1) if self.last_epoch > 0 else 0.0
        return [
            _next(group["lr"], base, before, factor)
            for group, base in zip(groups, self.base_lrs, strict=True)
        ]

    def _get_closed_form_lr(self) -> list[float | Tensor]:
        """What torch asks for where it sets the step, as at a milestone of `SequentialLR`."""
        factor = self.factor(self.last_epoch)
        return [base * factor for base in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """The state without the factor, which is code."""
        return {k: v for k, v in super().state_dict().items() if k != "factor"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads a state. Rates that only the construction of this schedule has set become those
        of the state, so that the optimizer's own state may be loaded before or after."""
        groups = self.optimizer.param_groups
        untouched = [g["lr"] == last for g, last in zip(groups, self._last_lr, strict=True)]
        super().load_state_dict(state_dict)
        if not any(isinstance(g["lr"], Tensor) for g in groups):  # the saved rates may be tensors
            self._last_lr = [float(rate) for rate in self._last_lr]
            self.base_lrs = [float(rate) for rate in self.base_lrs]
        for group, rate, own in zip(groups, self._last_lr, untouched, strict=True):
            if own and isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            elif own:
                group["lr"] = rate


def _next(rate: Any, base: Any, before: float, factor: float) -> Any:
    """The rate after the factor `before`; nothing waits for one that is a tensor."""
    if before == 0:
        return base * factor
    if isinstance(rate, Tensor):
        base = base if isinstance(base, Tensor) else torch.full_like(rate, base)
        return torch.where(rate == base * before, base * factor, rate * (factor / before))
    return base * factor if rate == base * before else rate * (factor / before)


@SCHEDULES.register("constant")
def constant(*, total_steps: int, seed: int) -> Factor:
    """No decay."""
    return _constant


@SCHEDULES.register("cosine")
def cosine(*, total_steps: int, seed: int, alpha: float = 0.0) -> Factor:
    """cd = 0.5 * (1 + cos(pi * t / T)), down to the fraction alpha."""
    _check(alpha=alpha)
    return partial(_cosine, total_steps=total_steps, alpha=alpha)


@SCHEDULES.register("warmup_cosine")
def warmup_cosine(
    *, total_steps: int, seed: int, warmup: float = 0.05, alpha: float = 0.0
) -> Factor:
    """A linear rise over the first part of T, warmup, then a cosine down to the fraction alpha.

    The first update has the rate 1 / W of W such updates, so that none is lost; alpha 1 keeps the
    rate after the rise. *Departure*: the papers have no warm-up.
    """
    _check(alpha=alpha, warmup=warmup)
    if warmup >= 1:
        raise ConfigError(f"warmup must be a part of the training in [0, 1), got {warmup}")
    rise = round(warmup * total_steps)
    return partial(_warmup_cosine, total_steps=total_steps, rise=rise, alpha=alpha)


@SCHEDULES.register("cosine_restarts")
def cosine_restarts(
    *,
    total_steps: int,
    seed: int,
    periods: int = 4,
    t_mul: float = 2.0,
    m_mul: float = 1.0,
    alpha: float = 0.0,
) -> Factor:
    """Cosine with warm restarts (Loshchilov & Hutter, 2017).

    Each period is t_mul times as long as the one before and starts at m_mul times its rate;
    `periods` of them fill the training. *Departure*: the authors of the schedule and TensorFlow
    set the length of the first period instead.
    """
    _check(t_mul=t_mul, m_mul=m_mul, alpha=alpha)
    if periods < 1 or t_mul <= 0:
        raise ConfigError(f"periods and t_mul must be positive, got {periods} and {t_mul}")
    lengths = [t_mul**i for i in range(periods)]
    scale = total_steps / sum(lengths)
    return partial(
        _restarts, total_steps=total_steps, lengths=lengths, scale=scale, m_mul=m_mul, alpha=alpha
    )


@SCHEDULES.register("stepwise")
def stepwise(
    *,
    total_steps: int,
    seed: int,
    milestones: Sequence[float] = (0.3, 0.6, 0.8),
    gamma: float = 0.2,
) -> Factor:
    """The rate times gamma at each milestone, a part of T (Zagoruyko & Komodakis, 2016)."""
    _check(gamma=gamma)
    if list(milestones) != sorted(milestones) or not all(0 < m < 1 for m in milestones):
        raise ConfigError(f"milestones must increase within (0, 1), got {list(milestones)}")
    steps = [round(m * total_steps, 6) for m in milestones]
    return partial(_stepwise, steps=steps, gamma=gamma)


@SCHEDULES.register("linear_cosine")
def linear_cosine(
    *,
    total_steps: int,
    seed: int,
    alpha: float = 0.0,
    beta: float = 0.0,
    num_periods: float = 0.5,
) -> Factor:
    """(alpha + ld) * cd + beta: the paper's is ld * cd; TensorFlow's has beta = 0.001."""
    _check(alpha=alpha, beta=beta, num_periods=num_periods)
    return partial(
        _linear_cosine, total_steps=total_steps, alpha=alpha, beta=beta, num_periods=num_periods
    )


@SCHEDULES.register("noisy_linear_cosine")
def noisy_linear_cosine(
    *,
    total_steps: int,
    seed: int,
    alpha: float = 0.0,
    beta: float = 0.001,
    num_periods: float = 0.5,
    initial_variance: float = 1.0,
    variance_decay: float = 0.55,
) -> Factor:
    """(alpha + ld + eps_t) * cd + beta, eps_t ~ N(0, initial_variance / (1 + t)^variance_decay).

    The rate may go below zero. The noise of step t depends on (seed, t) alone.
    """
    _check(alpha=alpha, beta=beta, num_periods=num_periods)
    _check(initial_variance=initial_variance, variance_decay=variance_decay)
    return partial(
        _noisy_linear_cosine,
        total_steps=total_steps,
        seed=seed,
        alpha=alpha,
        beta=beta,
        num_periods=num_periods,
        initial_variance=initial_variance,
        variance_decay=variance_decay,
    )


def _constant(t: int) -> float:
    return 1.0


def _cosine(t: int, *, total_steps: int, alpha: float) -> float:
    return (1 - alpha) * _cd(min(t, total_steps) / total_steps, 0.5) + alpha


def _warmup_cosine(t: int, *, total_steps: int, rise: int, alpha: float) -> float:
    if t < rise:
        return (t + 1) / rise
    part = (min(t, total_steps) - rise) / max(1, total_steps - rise)
    return (1 - alpha) * _cd(part, 0.5) + alpha


def _restarts(
    t: int, *, total_steps: int, lengths: Sequence[float], scale: float, m_mul: float, alpha: float
) -> float:
    left = min(t, total_steps) / scale
    for i, length in enumerate(lengths):
        if left < length * (1 - 1e-12) or i == len(lengths) - 1:
            height = m_mul**i * _cd(min(max(left, 0.0) / length, 1.0), 0.5)
            return (1 - alpha) * height + alpha
        left -= length
    raise AssertionError


def _stepwise(t: int, *, steps: Sequence[float], gamma: float) -> float:
    return float(gamma ** sum(t >= step for step in steps))


def _linear_cosine(
    t: int, *, total_steps: int, alpha: float, beta: float, num_periods: float
) -> float:
    part = min(t, total_steps) / total_steps
    return (alpha + 1 - part) * _cd(part, num_periods) + beta


def _noisy_linear_cosine(
    t: int,
    *,
    total_steps: int,
    seed: int,
    alpha: float,
    beta: float,
    num_periods: float,
    initial_variance: float,
    variance_decay: float,
) -> float:
    s = min(t, total_steps)
    part = s / total_steps
    noise = _normal(seed, s) * math.sqrt(initial_variance / (1 + s) ** variance_decay)
    return (alpha + 1 - part + noise) * _cd(part, num_periods) + beta


def _cd(part: float, periods: float) -> float:
    return 0.5 * (1 + math.cos(2 * math.pi * periods * part))


def _normal(seed: int, t: int) -> float:
    """N(0, 1), with Box and Muller's method."""
    u1, u2 = ((x + 0.5) * _UNIFORM for x in make_key(seed, t, -1, 0))
    return math.sqrt(-2 * math.log(u1)) * math.cos(2 * math.pi * u2)


def _check(**options: float) -> None:
    for name, value in options.items():
        if not (isinstance(value, int | float) and math.isfinite(value) and value >= 0):
            raise ConfigError(f"{name} must be a finite number >= 0, got {value!r}")
