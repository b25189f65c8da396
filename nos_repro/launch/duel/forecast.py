"""What a duel would cost, before it starts."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nos_repro.errors import ConfigError
from nos_repro.experiments.build import Conditions
from nos_repro.experiments.estimate import Planned, plan
from nos_repro.experiments.selection import Leg
from nos_repro.experiments.store import Store
from nos_repro.launch.cost import NO_GPU_HOURS, Prices, leg_seconds
from nos_repro.launch.duel.contest import Duel
from nos_repro.launch.duel.sequence import fewest_pairs
from nos_repro.launch.probe import timed
from nos_repro.launch.run import prepare_data
from nos_repro.launch.settings import LauncherSettings


@dataclass(frozen=True)
class Forecast:
    """What a duel would cost: hours of the tuning that is left and in all, and of each pair."""

    prices: Prices
    tuning_left: float
    tuning: float
    pair: float
    trials: int


def forecast(
    duel: Duel,
    store: Store,
    conditions: Conditions,
    settings: LauncherSettings,
    threads: int,
    *,
    probe: bool = False,
) -> Forecast:
    """Times a few steps. Raises ConfigError if the limit in hours decides nothing."""
    study = duel.over(1)
    prepare_data(study, conditions)
    planned = plan(study, store)
    prices = timed(study, store, planned, conditions, settings, threads, probe=probe)
    if duel.limits.hours is not None and not prices.fit:
        raise ConfigError(f"--budget: {NO_GPU_HOURS}")
    sweep = [entry for entry in planned if entry.stage == "sweep"]
    repeats = [entry for entry in planned if entry.stage == "repeat"]
    left = [entry for entry in sweep if entry.leg is not None]
    return Forecast(
        prices,
        _hours(left, prices),
        _hours(sweep, prices),
        _hours(repeats, prices),
        len(left),
    )


def _hours(planned: list[Planned], prices: Prices) -> float:
    legs = {e.trial.id: Leg(e.trial, 0, e.trial.training.epochs) for e in planned}
    return prices.unit.hours(sum(leg_seconds(leg, prices.costs) for leg in legs.values()))


def check_affordable(duel: Duel, known: Forecast) -> None:
    """Raises ConfigError if the hours do not suffice for any decision."""
    least = known.tuning + fewest_pairs() * known.pair
    if duel.limits.hours is not None and duel.limits.hours < least:
        raise ConfigError(
            f"--budget {duel.limits.hours:g}: tuning both rows takes about {known.tuning:.2g}"
            f" {known.prices.unit.name}, each pair {known.pair:.2g}, and {fewest_pairs()} pairs"
            f" are the fewest that can decide: give at least {_rounded_up(least):.2g}"
        )


def _rounded_up(hours: float) -> float:
    """To two digits, so that it suffices."""
    unit: float = 10.0 ** (math.floor(math.log10(hours)) - 1)
    return math.ceil(hours / unit) * unit


def forecast_text(duel: Duel, known: Forecast) -> str:
    """`duel --dry-run`."""
    unit, limits = known.prices.unit.name, duel.limits
    fits = limits.most
    if limits.hours is not None and known.pair:
        fits = min(fits, max(0, math.floor((limits.hours - known.tuning) / known.pair)))
    whole = known.tuning + fits * known.pair
    least = known.tuning + fewest_pairs() * known.pair
    growing = ["  rates that grow may be more than these"] if duel.study.growths else []
    return "\n".join([
        f"{duel.one} against {duel.other}: {duel.study.title}, {duel.title}",
        f"  tuning: {known.trials} trials to run, {known.tuning_left:.3g} {unit};"
        f" in all {known.tuning:.3g}",
        f"  a pair of seeds: {known.pair:.3g} {unit}",
        f"  the fewest that can decide are {fewest_pairs()} pairs: {least:.3g} {unit};"
        f" the most here {fits}: {whole:.3g}",
        *growing,
        *known.prices.lines(),
    ])  # fmt: skip
