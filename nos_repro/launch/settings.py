"""The section `launcher` of a study or a search: where its jobs run, and what each is given.

`launcher=slurm` chooses SLURM; the other keys are the resources. They come from the cluster's
profile (`slurm/clusters/NAME.yaml`, chosen with `launcher.cluster=NAME`), then from the file's own
section and its scale's, then from the command line; later ones win. No result depends on them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from nos_repro.errors import ConfigError, unknown
from nos_repro.experiments.settings_file import read_mapping, structured

LAUNCHERS = ("local", "slurm")

# fmt: off
OURS = {
    "time":      "launcher.hours",
    "array":     "launcher.array_parallelism and array_size",
    "signal":    "launcher.signal_seconds",
    "nodes":     "launcher.nodes",
    "ntasks":    "launcher.nodes and processes",
    "ntasks-per-node": "launcher.processes",
    "job-name":  "nothing: arrays are found by name",
    "output":    "nothing: the logs are kept next to the records",
    "error":     "nothing: the logs are kept next to the records",
    "open-mode": "nothing: a job that is queued again appends to its log",
    "no-requeue": "nothing: a trial is saved and queued again",
    "parsable":  "nothing: the job's number is read from what sbatch prints",
    "quiet":     "nothing: the job's number is read from what sbatch prints",
    "test-only": "nothing: --dry-run shows what would be queued",
    "wait":      "nothing: run waits, unless --detach is given",
    "wrap":      "nothing: the script is made here",
    "export":    "launcher.setup: a job needs the environment of the command that queues it",
    "export-file": "launcher.setup: a job needs the environment of the command that queues it",
    "clusters":  "nothing: run this on a machine of that cluster",
}
"""sbatch options that a user may not set, and what to set instead."""
# fmt: on


@dataclass(frozen=True)
class LauncherSettings:
    """Where jobs run. All fields except ``name`` and ``cluster`` apply to SLURM only."""

    name: str = "local"
    """`local`, or `slurm`."""
    cluster: str | None = None
    """A profile whose settings come first: `slurm/clusters/NAME.yaml`, or any file."""
    partition: str | None = None
    """As in sbatch."""
    account: str | None = None
    """As in sbatch."""
    qos: str | None = None
    """As in sbatch."""
    constraint: str | None = None
    """As in sbatch."""
    nodes: int = 1
    """Nodes per trial."""
    gpus: int = 0
    """GPUs per node."""
    processes: int | None = None
    """Processes per node (default: one per GPU). Several processes train one trial together: each
    with a copy of the model (DDP), or with a part of it (`device.shard`)."""
    cpus: int = 1
    """CPU cores per process."""
    memory_gb: float | None = None
    """Memory per node."""
    hours: float = 4.0
    """The time limit of a job."""
    array_parallelism: int = 100
    """The most jobs that run at a time, over all arrays of the study."""
    array_size: int = 1000
    """The most tasks in one array; a cluster may limit it."""
    trials_per_job: int | None = None
    """Trials in one job, one after another."""
    job_minutes: float | None = None
    """As many trials per job as fill about this time, estimated from a few steps; in place of
    `trials_per_job`."""
    setup: list[str] = field(default_factory=list)
    """Lines of shell that a job runs first."""
    sbatch: dict[str, Any] = field(default_factory=dict)
    """Any other options, by sbatch's own names: `{exclude: node7}`."""
    python: str | None = None
    """The interpreter on the nodes (default: this one)."""
    signal_seconds: int = 120
    """SLURM warns a job this long before its time limit; it is the time to save in."""
    poll_seconds: float = 10.0
    """The time between two looks at the queue."""

    def __post_init__(self) -> None:
        if self.name not in LAUNCHERS:
            raise ConfigError(unknown("launcher", self.name, LAUNCHERS))
        for key in ("nodes", "cpus", "array_parallelism", "array_size", "signal_seconds"):
            _require(getattr(self, key) >= 1, key, "at least 1", getattr(self, key))
        _require(self.gpus >= 0, "gpus", "not negative", self.gpus)
        for key in ("processes", "trials_per_job"):
            value = getattr(self, key)
            _require(value is None or value >= 1, key, "at least 1", value)
        for key in ("memory_gb", "hours", "job_minutes", "poll_seconds"):
            value = getattr(self, key)
            holds = value is None or (value > 0 and math.isfinite(value))
            _require(holds, key, "positive and finite", value)
        _require(
            self.trials_per_job is None or self.job_minutes is None,
            "trials_per_job", "left out if job_minutes is given", self.trials_per_job,
        )  # fmt: skip
        _require(
            self.signal_seconds < self.minutes * 60,
            "signal_seconds", f"less than the job's {self.minutes} minutes", self.signal_seconds,
        )  # fmt: skip
        for key, value in self.sbatch.items():
            own = OURS.get(key.replace("_", "-"))
            _require(own is None, f"sbatch.{key}", f"left out; set {own}", value)
            _require(
                isinstance(value, str | int | float | bool),
                f"sbatch.{key}",
                "a single value",
                value,
            )

    @property
    def minutes(self) -> int:
        """The time limit of a job, as SLURM counts: whole minutes."""
        return max(1, math.ceil(self.hours * 60 - 1e-9))

    @property
    def processes_per_node(self) -> int:
        return self.processes if self.processes is not None else max(1, self.gpus)

    @property
    def world(self) -> int:
        """Processes that train one trial together."""
        return self.nodes * self.processes_per_node

    @property
    def gpu_hours(self) -> float:
        """GPU-hours that one job costs at most."""
        return self.nodes * self.gpus * self.minutes / 60

    @property
    def core_hours(self) -> float:
        return self.world * self.cpus * self.minutes / 60


def launcher_settings(section: dict[str, Any]) -> LauncherSettings:
    """The settings of a `launcher` section on top of its cluster's profile. Raises ConfigError."""
    cluster = section.get("cluster")
    profile = _profile(str(cluster)) if cluster is not None else {}
    merged = {**profile, **section}
    if isinstance(profile.get("sbatch"), dict) and isinstance(section.get("sbatch"), dict):
        merged["sbatch"] = {**profile["sbatch"], **section["sbatch"]}
    if not isinstance(merged.get("setup", []), list | tuple):
        raise ConfigError(f"launcher.setup: expected a list of lines, got {merged['setup']!r}")
    settings: LauncherSettings = structured(LauncherSettings, merged, "launcher")
    return settings


def list_clusters() -> dict[str, Path]:
    """The profiles by name; those in `slurm/clusters` here take precedence over shipped ones."""
    package = Path(str(resources.files("nos_repro")))
    folders = [package / "slurm", package.parent / "slurm", Path("slurm")]
    return {file.stem: file for folder in folders for file in (folder / "clusters").glob("*.yaml")}


def _profile(name: str) -> dict[str, Any]:
    clusters = list_clusters()
    path = Path(name) if name.endswith((".yaml", ".yml")) else clusters.get(name)
    if path is None:
        raise ConfigError(f"launcher.cluster: {unknown('cluster', name, clusters)}")
    try:
        profile = read_mapping(path)
        for key in ("cluster", "name"):
            if key in profile:
                raise ConfigError(f"'{key}' is not a key of a profile")
        structured(LauncherSettings, profile, "")
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return profile


def _require(holds: bool, key: str, rule: str, given: object) -> None:
    if not holds:
        raise ConfigError(f"launcher.{key} must be {rule}, got {given!r}")
