"""`run --dry-run`: what a study would cost, here or on SLURM, before anything starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

from nos_repro.errors import ConfigError
from nos_repro.experiments.build import Conditions
from nos_repro.experiments.estimate import Cost, Planned, model_key, plan
from nos_repro.experiments.grid import options_at, points
from nos_repro.experiments.halving import stages, whole
from nos_repro.experiments.schema import Halving, Study
from nos_repro.experiments.selection import outcomes
from nos_repro.experiments.store import Store
from nos_repro.launch.cost import (
    NO_GPU_HOURS,
    check_budget,
    cost_lines,
    fitting,
    leg_seconds,
    row_costs,
)
from nos_repro.launch.probe import timed
from nos_repro.launch.progress import duration
from nos_repro.launch.run import jobs_per_pack, prepare_data, worker_count
from nos_repro.launch.settings import LauncherSettings


def dry_run(
    study: Study,
    store: Store,
    conditions: Conditions,
    workers: int | None,
    threads: int,
    settings: LauncherSettings | None = None,
    budget: float | None = None,
    probe: bool = False,
) -> str:
    """The trials, what each would take, the hours per row and in total: on this machine, or on
    SLURM with the script that would be submitted; with a ``budget`` in hours, which rows fit.
    ``probe``: the steps are timed in a job on the cluster, which is waited for."""
    if budget is not None:
        check_budget(study, budget)
    prepare_data(study, conditions)
    planned = plan(study, store)
    prices = timed(study, store, planned, conditions, settings, threads, probe=probe)
    if budget is not None and not prices.fit:
        raise ConfigError(f"--budget: {NO_GPU_HOURS}")
    costs = prices.costs
    lines = [f"{study.study} at scale {study.scale}: {len(planned)} trials"]
    lines += [_line(entry, costs) for entry in planned]
    lines += _group_lines(study)
    rows = row_costs(planned, costs, store)
    if not prices.fit:  # the finished trials had other devices
        rows = [dataclasses.replace(row, predicted=0.0, taken=0.0) for row in rows]
    lines += [*cost_lines(rows, prices.unit, budget), *prices.lines()]
    if budget is not None:
        names = fitting(rows, budget * 3600 / prices.unit.devices)
        planned = [entry for entry in planned if entry.row in names]
    legs = {entry.leg.trial.id: entry.leg for entry in planned if entry.leg is not None}
    seconds = sum(leg_seconds(leg, costs) for leg in legs.values())
    if study.halving is not None:
        cost = costs[model_key(planned[0].trial)]
        later = list(_later(study, study.halving, store, cost))
        lines += [line for line, _ in later] + [_saved(study, study.halving)]
        seconds += sum(more for _, more in later)
    if study.growths:
        lines.append(_may_grow(study, store))
    if settings is not None and settings.name == "slurm":
        mean = seconds / max(1, len(legs))
        source = prices.source if prices.fit else None
        lines += slurm_plan(settings, store.root, study.study, len(legs), mean, source)
        return "\n".join(lines)
    count = max(1, worker_count(workers, threads))
    lines.append(
        f"{len(legs)} to run, {duration(seconds)} of work: about {duration(seconds / count)} with"
        f" {count} workers of {threads} cores here (from {prices.source}, with the optimizer of"
        " the first row)"
    )
    return "\n".join(lines)


def slurm_plan(
    settings: LauncherSettings,
    root: Path,
    name: str,
    jobs: int,
    seconds: float,
    source: str | None,
    *,
    proposing: bool = False,
) -> list[str]:
    """What would be queued for ``jobs`` jobs of ``seconds`` each, and its script. ``source``: where
    that was measured; None: on another kind of device. ``proposing``: jobs are proposed as others
    end, so that a few are spread out (`Slurm`)."""
    per_pack = jobs_per_pack(settings, lambda: seconds)
    if proposing:
        per_pack = min(per_pack, -(-jobs // settings.array_parallelism))
    packs = -(-jobs // per_pack)
    at_once = min(packs, settings.array_parallelism)
    where = f"{settings.nodes} node{'s' * (settings.nodes > 1)} x {settings.gpus} GPUs"
    lines = [
        f"{jobs} to run: {packs} SLURM jobs of up to {per_pack} each, {at_once} at a time; each"
        f" {where}, {settings.processes_per_node} processes per node with {settings.cpus} cores,"
        f" at most {settings.minutes / 60:g} h (a longer one is saved and queued again)",
        f"their time limits add up to {packs * settings.gpu_hours:g} hours of GPUs and"
        f" {packs * settings.core_hours:g} of cores, if none is queued again; "
        + (
            "how long they take is not known"
            if source is None
            else f"from {source}: {duration(jobs * seconds)} of work, about"
            f" {duration(jobs * seconds / max(1, at_once))} from start to end"
        ),
    ]
    if packs:
        from nos_repro.launch.slurm.submission import script  # needs Submitit

        lines += ["", script(root / "slurm" / "BATCH", name, packs, settings)]
    return lines


def _group_lines(study: Study) -> list[str]:
    """What the optimizers of each row get, if it has several or groups; and which rows cannot be
    resumed."""
    from nos_repro.experiments.parameters import group_lines  # needs the model
    from nos_repro.optim.factory import starts_over

    lines = []
    for name, row in study.rows.items():
        options = options_at(row, points(study, row)[0].swept)
        lines += [f"  {name}: {line}" for line in group_lines(study.task, row.optimizer, options)]
        if why := starts_over(row.optimizer, options):
            lines.append(f"  {name}: a trial that is interrupted starts over ({why})")
    return lines


def _line(entry: Planned, costs: Mapping[str, Cost]) -> str:
    what = "done" if entry.leg is None else duration(leg_seconds(entry.leg, costs))
    if entry.leg is not None and entry.leg.end < entry.trial.training.epochs:
        what += f" to epoch {entry.leg.end}"
    return f"  {entry.row:<36} {entry.stage:<6} {entry.trial.id}  {entry.trial.label()}  [{what}]"


def _later(study: Study, halving: Halving, store: Store, cost: Cost) -> Iterator[tuple[str, float]]:
    """What comes after the rung that the rows train towards, and its seconds."""
    now = {row.name: row.standing for row in outcomes(study, store) if row.standing is not None}
    for stage in stages(halving, study.training.epochs, now):
        seconds = stage.rows * cost.of(study.training, stage.start, stage.end)
        line = (
            f"  after epoch {stage.start} the best {stage.rows} of {stage.of} rows continue to"
            f" epoch {stage.end}, one point each  [{duration(seconds)}]"
        )
        yield line, seconds


def _may_grow(study: Study, store: Store) -> str:
    """How many rates more may be tried."""
    tried = {row.name: len({s.point.lr for s in row.sweep}) for row in outcomes(study, store)}
    more = [growth.most - tried[name] for name, growth in study.growths.items()]
    return (
        f"  the rates of {len(more)} rows grow until the best one lies inside: up to {max(more)}"
        " more in each row, which is not counted here"
    )


def _saved(study: Study, halving: Halving) -> str:
    trials = {name: len(points(study, row)) for name, row in study.rows.items()}
    halved = whole(halving, study.training.epochs, trials)
    full = sum(trials.values()) * study.training.epochs
    return (
        f"halving trains {halved} epochs in total, {1 - halved / full:.0%} less than the {full}"
        " for every trial at full length"
    )
