"""A record: how a trial ended. It is what tables are made of."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from nos_repro.errors import NosError

Status = Literal["finished", "diverged", "failed"]
STATUSES: tuple[Status, ...] = ("finished", "diverged", "failed")

# fmt: off
KINDS: dict[str, Any] = {
    "id": str, "trial": dict, "metric": str, "direction": str, "metrics": list,
    "seconds": int | float, "code": str, "provenance": dict, "verified": list,
}
"""What the fields of a record that somebody reads must be."""
# fmt: on

FIRST_POINTS, CURVE_POINTS = 30, 100
"""Evaluations kept in the compact form of a record; the full curve stays in `metrics.jsonl`."""


class RecordError(NosError):
    """A record on disk that cannot be read; the message names the file."""


@dataclass(frozen=True)
class Record:
    """How one trial ended: its settings, curve, cost and provenance.

    ``finished`` and ``diverged`` are results; ``failed`` is a bug or the machine, kept with its
    traceback. A trial whose worker vanished has no record: it is `lost`, and tried again.
    ``seconds`` counts training and evaluation over all attempts; ``memory_gb`` is the peak of the
    process (or of the CUDA device).
    """

    id: str
    status: Status
    trial: dict[str, Any]
    metric: str
    direction: Literal["max", "min"]
    metrics: list[dict[str, float]]
    steps: int
    seconds: float
    examples_per_second: float
    memory_gb: float
    code: str
    provenance: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    traceback: str = ""
    verified: list[str] = field(default_factory=list)
    """Digests of the older code that made the record and that `verify` found to agree."""

    def column(self, name: str) -> float:
        """The value of a table's column (`schema.COLUMNS`); NaN where the trial has none."""
        when, part = name.split("_")
        points = [p for p in self.metrics if f"val_{self.metric}" in p]
        if not points or self.status != "finished":
            return math.nan
        point = points[-1] if when == "final" else self._best(points)
        return point.get(f"{part}_{self.metric}", math.nan)

    def _best(self, points: list[dict[str, float]]) -> dict[str, float]:
        sign = 1.0 if self.direction == "max" else -1.0
        return max(points, key=lambda point: sign * point[f"val_{self.metric}"])

    def to_json(self) -> dict[str, Any]:
        """The fields as they are: `asdict` would copy every number of the curve."""
        return {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self)}

    def thinned(self, points: int = CURVE_POINTS) -> Record:
        """The record with about ``points`` evaluations: the first, evenly spaced, best and last.

        A thinned record is its own thinned form, so that a clone draws what the original drew.
        The traceback of a failure stays in the trial's folder: it names this machine's paths.
        """
        if len(self.metrics) <= FIRST_POINTS + points + 2:
            return dataclasses.replace(self, traceback="")
        stride = math.ceil(len(self.metrics) / points)
        keep = {*range(FIRST_POINTS), *range(0, len(self.metrics), stride), len(self.metrics) - 1}
        scored = [i for i, p in enumerate(self.metrics) if f"val_{self.metric}" in p]
        if scored:
            best = self._best([self.metrics[i] for i in scored])
            keep.add(next(i for i in scored if self.metrics[i] is best))
        kept = [self.metrics[i] for i in sorted(keep)]
        return dataclasses.replace(self, metrics=kept, traceback="")

    @classmethod
    def from_json(cls, values: Any, where: str) -> Record:
        """Raises RecordError, naming ``where``, for anything that is not a record."""
        if not isinstance(values, dict):
            raise RecordError(f"{where}: not a record (expected an object)")
        names = {entry.name for entry in dataclasses.fields(cls)}
        missing = {"id", "status", "trial", "metric", "direction", "metrics"} - values.keys()
        if missing or values["status"] not in STATUSES:
            problem = f"no {', '.join(sorted(missing))}" if missing else "an unknown status"
            raise RecordError(f"{where}: not a record ({problem})")
        try:
            record = cls(**{key: value for key, value in values.items() if key in names})
        except TypeError as error:
            raise RecordError(f"{where}: not a record ({error})") from None
        if odd := record._odd():
            raise RecordError(f"{where}: not a record ({odd} is not what it should be)")
        return record

    def _odd(self) -> str:
        """The first field that would break a reader; "" for a sound record."""
        for key, kind in KINDS.items():
            if not isinstance(getattr(self, key), kind):
                return key
        if not all(isinstance(self.trial.get(k, {}), dict) for k in ("task_settings", "training")):
            return "trial"
        return "" if all(isinstance(p, dict) and "epoch" in p for p in self.metrics) else "metrics"
