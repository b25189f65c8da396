"""Schedules against closed forms and torch's own schedulers."""

import copy
import math
import pickle
import statistics
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    SequentialLR,
)

from nos_repro.errors import ConfigError
from nos_repro.optim import SCHEDULES
from nos_repro.optim.factory import (
    check_schedule,
    make_schedule,
)
from nos_repro.optim.schedules import Schedule

T = 40


def optimizer(lr: float = 0.5) -> SGD:
    return SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)


def rates(schedule: LRScheduler, steps: int = T) -> list[float]:
    """The rate of each update."""
    seen = []
    for _ in range(steps):
        seen.append(schedule.optimizer.param_groups[0]["lr"])
        schedule.optimizer.step()
        schedule.step()
    return seen


def factors(name: str, steps: int = T, seed: int = 0, **options: float) -> list[float]:
    return rates(make_schedule(name, optimizer(1.0), total_steps=T, seed=seed, **options), steps)


def test_constant_does_not_change_the_rate() -> None:
    assert factors("constant") == [1.0] * T


def test_cosine_is_torchs() -> None:
    own = rates(make_schedule("cosine", optimizer(), total_steps=T))
    assert own == pytest.approx(rates(CosineAnnealingLR(optimizer(), T)), abs=1e-12)


@pytest.mark.parametrize("alpha", [0.0, 0.1, 1.0])
def test_a_cosine_after_a_warm_up_is_torchs(alpha: float) -> None:
    own = rates(make_schedule("warmup_cosine", optimizer(), total_steps=T, warmup=0.2, alpha=alpha))
    plain, rise = optimizer(), 8
    rising = LinearLR(plain, 1 / rise, 1.0, rise - 1)
    falling = CosineAnnealingLR(plain, T - rise, eta_min=0.5 * alpha)
    assert own == pytest.approx(rates(SequentialLR(plain, [rising, falling], [rise])), abs=1e-12)


def test_no_warm_up_is_a_cosine() -> None:
    assert factors("warmup_cosine", warmup=0.0) == pytest.approx(factors("cosine"), abs=1e-15)


def test_restarts_are_torchs_if_its_periods_fill_the_training() -> None:
    total = 15 * 8
    own = rates(make_schedule("cosine_restarts", optimizer(), total_steps=total), total)
    other = CosineAnnealingWarmRestarts(optimizer(), T_0=8, T_mult=2)
    assert own == pytest.approx(rates(other, total), abs=1e-12)


def test_equal_restarts_shrink_by_m_mul() -> None:
    own = factors("cosine_restarts", periods=4, t_mul=1.0, m_mul=0.5)
    assert own[::10] == pytest.approx([1, 0.5, 0.25, 0.125])


def test_stepwise_is_torchs() -> None:
    own = rates(make_schedule("stepwise", optimizer(), total_steps=T))
    other = MultiStepLR(optimizer(), milestones=[12, 24, 32], gamma=0.2)
    assert own == pytest.approx(rates(other), abs=1e-12)


@pytest.mark.parametrize("total", [7, 10, 100, 1000, 117_300])
def test_a_milestone_falls_on_its_step_whatever_the_rounding(total: int) -> None:
    schedule = make_schedule("stepwise", optimizer(1.0), total_steps=total)
    factor = schedule.factor  # type: ignore[attr-defined]
    first = math.ceil(total * 3 / 10)
    assert factor(first - 1) == 1.0
    assert factor(first) == pytest.approx(0.2)


def test_linear_cosine_is_the_papers() -> None:
    want = [(1 - t / T) * 0.5 * (1 + math.cos(math.pi * t / T)) for t in range(T)]
    assert factors("linear_cosine") == pytest.approx(want, abs=1e-12)


def test_linear_cosine_by_parameters_is_tensorflows() -> None:
    """`linear_cosine_decay` of TensorFlow's learning_rate_decay.py, with its arguments."""
    alpha, beta, num_periods = 0.1, 0.001, 2.0

    def tensorflow(step: int) -> float:
        linear = (T - step) / T
        fraction = 2.0 * num_periods * step / float(T)
        cosine = 0.5 * (1.0 + math.cos(math.pi * fraction))
        return (alpha + linear) * cosine + beta

    own = factors("linear_cosine", alpha=alpha, beta=beta, num_periods=num_periods)
    assert own == pytest.approx([tensorflow(t) for t in range(T)], abs=1e-12)


def test_noise_shrinks_as_the_paper_says() -> None:
    """(lr - 0.001) / cd - ld is eps_t: variance 1 / (1 + t)^0.55."""
    t = 10
    cd = 0.5 * (1 + math.cos(math.pi * t / T))
    noise = [
        (factors("noisy_linear_cosine", t + 1, seed)[t] - 0.001) / cd - (1 - t / T)
        for seed in range(400)
    ]
    std = math.sqrt(1 / (1 + t) ** 0.55)
    assert statistics.fmean(noise) == pytest.approx(0, abs=4 * std / 20)
    assert statistics.stdev(noise) == pytest.approx(std, rel=0.15)


def test_noise_is_a_function_of_seed_and_step_alone() -> None:
    assert factors("noisy_linear_cosine", seed=3) == factors("noisy_linear_cosine", seed=3)
    assert factors("noisy_linear_cosine", seed=3) != factors("noisy_linear_cosine", seed=4)


def test_the_noisy_rate_may_go_below_zero() -> None:
    assert min(min(factors("noisy_linear_cosine", seed=s)) for s in range(20)) < 0


def test_without_noise_the_noisy_schedule_is_linear_cosine() -> None:
    quiet = factors("noisy_linear_cosine", initial_variance=0.0)
    assert quiet == pytest.approx(factors("linear_cosine", beta=0.001), abs=1e-12)


@pytest.mark.parametrize("name", SCHEDULES.names())
def test_past_the_end_the_rate_stays(name: str) -> None:
    late = factors(name, T + 5)
    assert late[T:] == [late[T]] * 5


@pytest.mark.parametrize("name", SCHEDULES.names())
def test_a_schedule_resumes_from_its_state(name: str) -> None:
    whole = factors(name)
    first = make_schedule(name, optimizer(1.0), total_steps=T)
    assert rates(first, 13) == whole[:13]
    second = make_schedule(name, optimizer(1.0), total_steps=T)
    second.load_state_dict(first.state_dict())
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    assert rates(second, T - 13) == whole[13:]


def test_a_tensor_rate_is_scheduled_in_place() -> None:
    rate = torch.tensor(0.5)
    plain = SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    schedule = make_schedule("cosine", plain, total_steps=T)
    plain.step()
    schedule.step()
    assert plain.param_groups[0]["lr"] is rate
    assert float(rate) == pytest.approx(0.25 * (1 + math.cos(math.pi / T)))


def test_every_group_keeps_its_own_initial_rate() -> None:
    a, b = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    two = SGD([{"params": [a], "lr": 1.0}, {"params": [b], "lr": 0.1}])
    schedule = make_schedule("linear_cosine", two, total_steps=T)
    two.step()
    schedule.step()
    high, low = (group["lr"] for group in two.param_groups)
    assert low == pytest.approx(high / 10)


def test_an_unknown_schedule_is_named_with_the_choice() -> None:
    with pytest.raises(ConfigError, match=r"(?s)'cosin'.*did you mean 'cosine'.*stepwise"):
        check_schedule("cosin")


def test_an_unknown_option_is_named_with_the_choice() -> None:
    with pytest.raises(ConfigError, match=r"(?s)'alhpa'.*did you mean 'alpha'"):
        check_schedule("cosine", alhpa=0.1)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("stepwise", {"milestones": [0.5, 0.2]}),
        ("stepwise", {"milestones": [1.5]}),
        ("stepwise", {"milestones": 3}),
        ("stepwise", {"gamma": math.nan}),
        ("cosine", {"alpha": -1}),
        ("cosine", {"alpha": "a"}),
        ("cosine_restarts", {"periods": 0}),
        ("warmup_cosine", {"warmup": 1.0}),
        ("warmup_cosine", {"warmup": "a"}),
        ("noisy_linear_cosine", {"initial_variance": -1}),
    ],
)
def test_impossible_options_are_refused(name: str, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        check_schedule(name, **options)


def test_no_steps_are_refused() -> None:
    with pytest.raises(ConfigError, match="total_steps"):
        make_schedule("cosine", optimizer(), total_steps=0)


def test_a_schedule_registered_by_a_script_is_found_and_takes_the_seed_only_if_it_asks() -> None:
    @SCHEDULES.register("test-halves")
    def halves(*, total_steps: int, at: int = 2) -> Callable[[int], float]:
        return lambda t: 0.5 if t >= at else 1.0

    assert factors("test-halves", 4, at=3) == [1, 1, 1, 0.5]
    with pytest.raises(ConfigError, match="already registered"):
        SCHEDULES.register("cosine")(halves)


def test_a_schedule_that_asks_for_more_is_refused_when_it_is_found() -> None:
    @SCHEDULES.register("test-greedy")
    def greedy(optimizer: object, *, total_steps: int) -> Callable[[int], float]:
        return lambda t: 1.0

    with pytest.raises(ConfigError, match=r"missing 1 required .*: 'optimizer'"):
        check_schedule("test-greedy")


def torchs_cosine(o: SGD) -> LRScheduler:
    return CosineAnnealingLR(o, T)


def our_cosine(o: SGD) -> LRScheduler:
    return make_schedule("cosine", o, total_steps=T)


@pytest.mark.parametrize("name", SCHEDULES.names())
@pytest.mark.parametrize("order", ["optimizer first", "build, then optimizer", "schedule alone"])
def test_a_schedule_goes_on_in_whatever_order_the_states_are_loaded(name: str, order: str) -> None:
    whole = factors(name)
    first = make_schedule(name, optimizer(1.0), total_steps=T)
    rates(first, 13)
    resumed = optimizer(1.0)
    if order == "optimizer first":
        resumed.load_state_dict(first.optimizer.state_dict())
    second = make_schedule(name, resumed, total_steps=T)
    if order == "build, then optimizer":
        resumed.load_state_dict(first.optimizer.state_dict())
    second.load_state_dict(first.state_dict())
    assert rates(second, T - 13) == whole[13:]


def test_a_rate_that_was_set_by_hand_survives_the_loading_of_a_schedule() -> None:
    first = our_cosine(optimizer())
    rates(first, 13)
    second = our_cosine(optimizer())
    second.optimizer.param_groups[0]["lr"] = 0.01
    second.load_state_dict(first.state_dict())
    assert second.optimizer.param_groups[0]["lr"] == 0.01


def test_a_schedule_resumes_at_a_step_as_torchs_does() -> None:
    def resumed(make: Callable[[SGD], LRScheduler]) -> list[float]:
        o = optimizer()
        rates(torchs_cosine(o), 13)
        return rates(make(o), 5)

    ours = resumed(lambda o: Schedule(o, our_cosine(optimizer()).factor, last_epoch=12))  # type: ignore[attr-defined]
    assert ours == pytest.approx(resumed(lambda o: CosineAnnealingLR(o, T, last_epoch=12)))


@pytest.mark.parametrize("warm_up_first", [True, False])
def test_a_schedule_in_a_chain_multiplies_as_torchs_does(warm_up_first: bool) -> None:
    def chain(cosine: Callable[[SGD], LRScheduler]) -> list[float]:
        o = optimizer()
        makers = [lambda o: LinearLR(o, 0.25, total_iters=8), cosine]
        if not warm_up_first:
            makers.reverse()
        chained = ChainedScheduler([make(o) for make in makers], o)
        return rates(chained, T - 1)

    assert chain(our_cosine) == pytest.approx(chain(torchs_cosine), abs=1e-12)
    assert chain(our_cosine)[0] == 0.125


@pytest.mark.parametrize("name", ["linear_cosine", "noisy_linear_cosine"])
def test_in_a_chain_every_factor_counts_from_the_first_step(name: str) -> None:
    o = optimizer(1.0)
    constant = ConstantLR(o, 0.5, total_iters=T)
    chained = ChainedScheduler([constant, make_schedule(name, o, total_steps=T)], o)
    assert rates(chained, T - 1) == pytest.approx([0.5 * f for f in factors(name)[:-1]], abs=1e-12)


@pytest.mark.parametrize("position", [0, 1])
def test_a_schedule_in_a_sequence_is_torchs(position: int) -> None:
    def sequence(cosine: Callable[[SGD], LRScheduler]) -> list[float]:
        o = optimizer()
        makers = [lambda o: LinearLR(o, 0.25, total_iters=8), cosine]
        if position == 0:
            makers.reverse()
        return rates(SequentialLR(o, [make(o) for make in makers], milestones=[8]), T)

    assert sequence(our_cosine) == pytest.approx(sequence(torchs_cosine), abs=1e-12)


@pytest.mark.parametrize("name", SCHEDULES.names())
@pytest.mark.parametrize("clone", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_a_copied_schedule_goes_on_with_its_own_optimizer(name: str, clone: Any) -> None:
    whole = factors(name)
    first = make_schedule(name, optimizer(1.0), total_steps=T)
    rates(first, 13)
    second = clone(first)
    assert second.optimizer is not first.optimizer
    assert rates(second, T - 13) == whole[13:]
    assert rates(first, T - 13) == whole[13:]


@pytest.mark.parametrize("total_steps", [None, math.nan, 2.5, 0, -1, "10", True])
def test_a_length_that_is_no_number_of_steps_is_refused(total_steps: Any) -> None:
    with pytest.raises(ConfigError, match="total_steps must be a whole number >= 1"):
        make_schedule("cosine", optimizer(), total_steps=total_steps)
