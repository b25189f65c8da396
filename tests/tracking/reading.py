"""The contents of offline runs, as W&B's own reader sees them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Part:
    """A process's part of a run."""

    folder: Path
    run: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    losses: list[dict[str, Any]] = field(default_factory=list)
    """The points between the evaluations."""
    summary: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    """What W&B itself knows of the machine."""
    stats: list[dict[str, Any]] = field(default_factory=list)
    """System metrics."""
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    steps: list[dict[str, Any]] = field(default_factory=list)
    """The defined metrics, and what they are plotted against."""

    @property
    def config(self) -> dict[str, Any]:
        return self.run["config"]["update"]


def parts(folder: Path) -> list[Part]:
    """All offline parts below ``folder``, the oldest first."""
    return [read_part(part) for part in sorted(folder.glob("wandb/offline-run-*"))]


def read_part(folder: Path) -> Part:
    words = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    part = Part(folder)
    for item in map(json.loads, said.splitlines()):
        kind = item["type"]
        if kind == "run":
            part.run = item["run"]
        elif kind == "history":
            point = item["history"]["item"]
            (part.losses if point.keys() >= {"loss"} else part.history).append(point)
        elif kind == "summary":
            part.summary.update(item["summary"].get("update", {}))
        elif kind == "environment":
            part.environment.update(item["environment"])
        elif kind == "stats":
            part.stats.append(item["stats"]["item"])
        elif kind == "artifact":
            part.artifacts.append(item["artifact"])
        elif kind == "metric":
            part.steps.append(item["metric"])
    return part
