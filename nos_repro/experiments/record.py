"""A record: how a trial ended. Tables are made of records."""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
from collections.abc import KeysView
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import orjson

from nos_repro.errors import NosError
from nos_repro.tasks.registry import find_metric

Status = Literal["finished", "diverged", "stopped", "paused", "failed"]
STATUSES: tuple[Status, ...] = ("finished", "diverged", "stopped", "paused", "failed")

# fmt: off
KINDS: dict[str, Any] = {
    "id": str, "trial": dict, "metric": str, "direction": str, "metrics": list,
    "seconds": (int, float), "code": str, "provenance": dict, "verified": list, "rungs": list,
    "reason": str,
}
"""The types of a record's fields that are read later."""
REQUIRED = {"id", "status", "trial", "metric", "direction", "metrics"}
TRIAL_KINDS: dict[str, Any] = {"task": str, "task_settings": dict, "training": dict, "seed": int}
"""The same for its trial's settings."""
MADE_BY: dict[str, Any] = {
    "libraries": dict, "threads": int, "processes": int, "device_settings": dict,
    "optimizers": list, "starts_over": str,
}
"""The same for its provenance, if it has them."""
NUMBERS = {int, float}
"""The types of the numbers in a curve; a truth value is not one."""
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
    ``paused`` and ``stopped`` come from a study's `halving`: the trial is trained up to a rung,
    where a paused one waits for the other rows or goes on, and a stopped one has lost to them. The
    curves decide whether a trial goes on, not these words: if the study changes, it may.
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
    """Digests of the older code that made the record and that `verify` found to agree with it."""
    rungs: list[int] = field(default_factory=list)
    """Epochs at which the study looks at the curve: the compact form keeps what it sees there."""
    others: dict[str, Any] = field(default_factory=dict)
    """Fields of a newer version, which are kept as they are."""

    def shed(self, line: memoryview) -> Record:
        """The same record without its curve, which is read from its ``line`` again when somebody
        asks for it: a report on ten thousand records draws the curves of few."""
        own = vars(self)
        own["_ends"] = self._ends_by(math.inf)
        own["_line"] = line
        del own["metrics"]
        return self

    if not TYPE_CHECKING:  # else any attribute would pass

        def __getattr__(self, name: str) -> Any:
            line = vars(self).pop("_line", None) if name == "metrics" else None
            if line is None:
                raise AttributeError(f"a record has no {name}")
            vars(self)["metrics"] = orjson.loads(line)["metrics"]
            return self.metrics

    def __getstate__(self) -> dict[str, Any]:
        return {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self)}

    def signed(self, code: str) -> Record:
        """The same record under the digest of today's ``code``, which was found to repeat it."""
        return dataclasses.replace(self, code=code, verified=[*self.verified, self.code])

    @property
    def epoch(self) -> float:
        """The last epoch of the curve; 0 for none."""
        return self.metrics[-1]["epoch"] if self.metrics else 0

    @property
    def partial(self) -> bool:
        """Whether the trial could be trained further than this."""
        return self.status in ("paused", "stopped")

    @property
    def sign(self) -> float:
        """1 if a larger metric is better, else -1."""
        return 1.0 if self.direction == "max" else -1.0

    def column(self, name: str) -> float:
        """The value of a table's column (`columns.COLUMNS`); NaN if the trial has none."""
        return self.column_at(name, math.inf) if self.status == "finished" else math.nan

    def column_at(self, name: str, epoch: float) -> float:
        """What the column would say had the trial ended at ``epoch``.

        A column that names no metric shows the one that decides.
        """
        when, part, *named = name.split("_", 2)
        ends = self._ends if epoch == math.inf else self._ends_by(epoch)
        if ends is None:
            return math.nan
        point = ends[when == "final"]
        return self._measured(point, part, named[0] if named else self.metric)

    @functools.cached_property
    def _ends(self) -> tuple[dict[str, float], dict[str, float]] | None:
        return self._ends_by(math.inf)

    def _ends_by(self, epoch: float) -> tuple[dict[str, float], dict[str, float]] | None:
        """The best and the last point up to an epoch; None if none has the metric."""
        key = f"val_{self.metric}"
        points = [p for p in self.metrics if key in p and p["epoch"] <= epoch]
        return (self._best(points), points[-1]) if points else None

    def _measured(self, point: dict[str, float], part: str, metric: str) -> float:
        """A value of the curve, or what follows from the loss there; NaN if there is neither."""
        if f"{part}_{metric}" in point:
            return point[f"{part}_{metric}"]
        of_loss = find_metric(self.trial["task"], metric).of_loss
        loss = point.get(f"{part}_loss", math.nan)
        return of_loss(loss) if of_loss is not None else math.nan

    def _best(self, points: list[dict[str, float]]) -> dict[str, float]:
        best = max if self.direction == "max" else min
        return best(points, key=operator.itemgetter(f"val_{self.metric}"))

    def to_json(self) -> dict[str, Any]:
        """The fields as they are: `asdict` would copy every number of the curve."""
        values = {name: getattr(self, name) for name in _names()}
        if not self.rungs:
            del values["rungs"]
        return {**self.others, **values}

    def thinned(self, points: int = CURVE_POINTS) -> Record:
        """The record with about ``points`` evaluations: the first, evenly spaced, best and last;
        up to each of its rungs the best and last too.

        A thinned record is its own thinned form, so that a clone draws what the original drew.
        The traceback of a failure stays in the trial's folder: it names this machine's paths.
        """
        if len(self.metrics) <= FIRST_POINTS + points + 2 + 2 * len(self.rungs):
            return dataclasses.replace(self, traceback="") if self.traceback else self
        stride = math.ceil(len(self.metrics) / points)
        keep = {*range(FIRST_POINTS), *range(0, len(self.metrics), stride), len(self.metrics) - 1}
        scored = [i for i, p in enumerate(self.metrics) if f"val_{self.metric}" in p]
        for end in (*self.rungs, math.inf):
            before = [i for i in scored if self.metrics[i]["epoch"] <= end]
            if before:
                best = self._best([self.metrics[i] for i in before])
                keep |= {before[-1], next(i for i in before if self.metrics[i] is best)}
        kept = [self.metrics[i] for i in sorted(keep)]
        return dataclasses.replace(self, metrics=kept, traceback="")

    @classmethod
    def read(cls, data: bytes | memoryview, where: str) -> Record:
        """Raises RecordError, naming ``where``, for anything that is not a record in JSON, which
        has no infinities and no NaN."""
        try:
            values = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise RecordError(f"{where}: corrupt ({error})") from None
        return cls.from_json(values, where)

    @classmethod
    def from_json(cls, values: Any, where: str) -> Record:
        """Raises RecordError, naming ``where``, for anything that is not a record."""
        if not isinstance(values, dict):
            raise RecordError(f"{where}: not a record (expected an object)")
        missing = REQUIRED - values.keys()
        if missing or values["status"] not in STATUSES:
            problem = f"no {', '.join(sorted(missing))}" if missing else "an unknown status"
            raise RecordError(f"{where}: not a record ({problem})")
        own, others = values, {}
        if not values.keys() <= _names():
            own = {key: value for key, value in values.items() if key in _names()}
            others = {key: value for key, value in values.items() if key not in own}
        try:
            record = cls(**own, others=others)
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
        if not all(isinstance(rung, int) for rung in self.rungs):
            return "rungs"
        if not all(isinstance(self.trial.get(k), kind) for k, kind in TRIAL_KINDS.items()):
            return "trial"
        if self.direction not in ("max", "min"):
            return "direction"
        if not all(isinstance(self.provenance.get(k, kind()), kind) for k, kind in MADE_BY.items()):
            return "provenance"
        return "" if _is_curve(self.metrics) else "metrics"


@functools.cache
def _names() -> KeysView[str]:
    """The fields of a record in its file, in their order."""
    names = (entry.name for entry in dataclasses.fields(Record) if entry.name != "others")
    return dict.fromkeys(names).keys()


def _is_curve(points: list[Any]) -> bool:
    """Whether they are mappings of names to numbers, each with its epoch."""
    if not (set(map(type, points)) <= {dict} and all("epoch" in point for point in points)):
        return False
    return {type(value) for point in points for value in point.values()} <= NUMBERS
