"""W&B: what logs a run or a search, and the verb `dashboard`."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nos_repro.cli.common import Verbs, add_verb, either_arguments, find_settings
from nos_repro.cli.terminal import file_place
from nos_repro.errors import ConfigError

if TYPE_CHECKING:
    from nos_repro.experiments.schema import Study
    from nos_repro.experiments.selection import Outcome
    from nos_repro.experiments.tracker import Tracker
    from nos_repro.search.loop import SearchFollower
    from nos_repro.search.settings import Search


def add_verbs(verbs: Verbs) -> None:
    parser = add_verb(verbs, "dashboard", dashboard,
                      "print or save a study's or search's W&B workspace and report",
                      "dashboard table2 --scale small --output dashboard.json",
                      "dashboard configs/search.yaml --scale small --push")  # fmt: skip
    either_arguments(parser)
    parser.add_argument("--push", action="store_true",
                        help="save it online, do not print it; needs `wandb login`")  # fmt: skip
    parser.add_argument("--entity", help="W&B entity (default: that of your login)")
    parser.add_argument("--project", help="W&B project (default: $WANDB_PROJECT, else nos_repro)")
    parser.add_argument(
        "--output", type=file_place, metavar="FILE", help="write it to this file instead"
    )


def tracker_of(asked: str, artifacts: Sequence[str], study: Study, root: Path) -> Tracker | None:
    """What logs the study's trials to W&B, given `--wandb` and `--wandb-artifacts`. Raises
    ConfigError."""
    _check(asked, artifacts)
    if asked == "off":  # W&B's client is not even loaded
        return None
    from nos_repro.tracking.connection import wandb_mode
    from nos_repro.tracking.wandb_runs import WandbRuns

    mode = wandb_mode(asked)
    if mode is None:
        return None
    return WandbRuns(study, root.absolute(), mode, checkpoints="checkpoints" in artifacts)


def log_table(
    tracker: Tracker | None, artifacts: Sequence[str], rows: Sequence[Outcome], root: Path
) -> None:
    """Logs a study's table to W&B, if that was asked for."""
    if tracker is None or "tables" not in artifacts:
        return
    from nos_repro.tracking import artifacts as made
    from nos_repro.tracking.wandb_runs import WandbRuns

    assert isinstance(tracker, WandbRuns)
    made.log_table(tracker.study, rows, root, tracker.mode)


def _check(asked: str, artifacts: Sequence[str]) -> None:
    if artifacts and asked == "off":
        raise ConfigError("--wandb-artifacts needs --wandb, e.g. --wandb auto")


@contextmanager
def search_follower(
    asked: str, artifacts: Sequence[str], search: Search, root: Path
) -> Iterator[SearchFollower | None]:
    """What logs the search to W&B, given `--wandb` and `--wandb-artifacts`. Raises ConfigError."""
    _check(asked, artifacts)
    if asked == "off":
        yield None
        return
    from nos_repro.tracking.connection import wandb_mode
    from nos_repro.tracking.search_run import follow_search

    mode = wandb_mode(asked)
    if mode is None:
        yield None
        return
    following = follow_search(search, root, mode, artifacts)
    with saying_how_to_sync(asked, root), following as follower:
        yield follower


@contextmanager
def saying_how_to_sync(asked: str, root: Path) -> Iterator[None]:
    """Prints at the end, once, how to upload runs that are only on disk."""
    try:
        yield
    finally:
        if asked != "off":
            say_how_to_sync(root)


def say_how_to_sync(root: Path) -> None:
    """Prints one line if runs wait on this disk, else nothing."""
    waiting = unsynced(root)
    if waiting:
        where = shlex.quote(str(root / "wandb"))
        number = f"{len(waiting)} part{'s' * (len(waiting) > 1)} of runs"
        print(f"W&B: {number} on this disk only; to upload:  wandb sync {where}/offline-run-*",
              file=sys.stderr)  # fmt: skip


def unsynced(root: Path) -> list[Path]:
    """The folders of runs that were written offline and that `wandb sync` has not taken yet."""
    folders = sorted((root / "wandb").glob("offline-run-*"))
    return [folder for folder in folders if not any(folder.glob("*.wandb.synced"))]


def dashboard(options: argparse.Namespace) -> int:
    from nos_repro.experiments.files import write_atomically
    from nos_repro.experiments.load import load_study
    from nos_repro.experiments.settings_file import is_search
    from nos_repro.search.settings import load_search
    from nos_repro.tracking.dashboard import Dashboard

    if options.push and options.output:
        raise ConfigError(
            "--push saves the dashboard online, --output writes it to a file: choose one"
        )
    path = find_settings(options)
    load = load_search if is_search(path) else load_study
    shown = load(path, scale=options.scale, overrides=options.overrides, trying=False)
    board = Dashboard(shown, options.entity or "", options.project or "")
    print(board.heading, file=sys.stderr, flush=True)  # W&B's client takes seconds to load
    if options.push:
        print("\n".join(f"saved {address}" for address in board.push()))
        return 0
    if options.output:
        write_atomically(options.output, board.text().encode())
        print(f"wrote {options.output}; --push saves it online", file=sys.stderr)
    else:
        print(board.text(), end="")
    return 0
