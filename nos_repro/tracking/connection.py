"""A run of W&B, opened and closed so that the trial or search that it logs never waits for long.

Online, the server has ``ONLINE_SECONDS`` to answer, and ``FINISH_SECONDS`` at a run's end to take
the rest. If it does not, the process does not wait a second time: it writes its later runs to disk,
for `wandb sync` to upload. Errors are logged and never fail a trial or a search, since the records
on disk are complete.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from nos_repro.errors import ConfigError
from nos_repro.experiments.files import StoreError, write_json

log = logging.getLogger(__name__)

Mode = Literal["offline", "online"]
OFFLINE = ("offline", "dryrun")

ONLINE_SECONDS = 15.0
FINISH_SECONDS = 30.0
"""What is not uploaded by then stays on disk."""

_unreachable = False
"""Whether the server has already kept this process waiting without an answer."""


def project() -> str:
    """The W&B project that all runs and dashboards belong to."""
    return os.environ.get("WANDB_PROJECT") or "nos_repro"


def import_wandb() -> Any:
    """The client, told not to report its own errors: to do so it looks up hosts at exit, even
    offline."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    return wandb


def wandb_mode(asked: str) -> Mode | None:
    """The mode that `--wandb` asks for and this machine allows; None: nothing is sent to W&B.

    `auto` does what W&B's own settings say (`WANDB_MODE`, `wandb offline`); if they leave it open,
    it is online if you are logged in: with a key in the environment, in `.netrc` or in W&B's
    settings. Never prompts and makes no network call to decide.

    Raises ConfigError for `online` if nobody is logged in.
    """
    if asked == "off":
        return None
    if asked == "offline":
        return "offline"
    wandb = import_wandb()
    named = {"mode": "online"} if asked == "online" else {}  # overrides the settings
    try:
        wanted = wandb.setup(settings=wandb.Settings(silent=True, **named)).settings.mode
        if wanted == "disabled":
            return None
        if wanted in OFFLINE:
            return "offline"
        if wandb.login(prompt=False, verify=False):
            return "online"
    except (wandb.Error, ValueError) as error:  # an invalid key or mode
        if asked == "online":
            raise ConfigError(f"--wandb online: {_said(error)}") from None
        log.warning("W&B's settings cannot be used, so runs stay offline: %s", _said(error))
        return "offline"
    finally:
        wandb.teardown()
    if asked == "online":
        raise ConfigError(
            "--wandb online: no API key found; store one with `wandb login`, set WANDB_API_KEY, or"
            " use --wandb auto"
        )
    return "offline"


def _said(error: Exception) -> str:
    """A pydantic or W&B error as one line."""
    return " ".join(str(error).split())[:200]


def open_run(
    mode: Mode,
    folder: Path,
    named: Callable[[], dict[str, Any]],
    prepare: Callable[[Any], None],
) -> Any:
    """Opens a run that writes below ``folder``. ``named`` gives the arguments of `wandb.init`;
    ``prepare`` sets up the run. None if any of it fails."""
    run = None
    try:
        run = _open(mode, folder, named())
        prepare(run)
    except Exception:  # no key, a full disk, a killed service: the trial goes on
        log.warning("cannot open a W&B run; the records on disk are complete", exc_info=True)
        if run is not None:
            close_run(run, failed=True)
        return None
    return run


def _open(mode: Mode, folder: Path, named: dict[str, Any]) -> Any:
    global _unreachable
    folder.mkdir(parents=True, exist_ok=True)
    if mode == "online" and not _unreachable:
        try:
            return _init("online", folder, named)
        except Exception as error:  # noqa: BLE001 (whatever it is, the disk will do)
            _unreachable = True
            log.warning(
                "W&B's server does not open a run (%s); from now on this process writes its runs to"
                " disk; upload them with `wandb sync`",
                " ".join(str(error).split())[:200],
            )
            import_wandb().teardown()  # else its service keeps the run's id
    return _init("offline", folder, named)


def _init(mode: Mode, folder: Path, named: dict[str, Any]) -> Any:
    wandb = import_wandb()
    wandb.setup(settings=wandb.Settings(silent=True))
    return wandb.init(
        project=project(),
        resume="allow",
        dir=str(folder),
        mode=mode,
        reinit="finish_previous",
        settings=wandb.Settings(  # a new object for each run, since `init` changes it
            init_timeout=ONLINE_SECONDS,
            finish_timeout=FINISH_SECONDS,
            finish_timeout_raises=True,
            silent=True,
            console="off",
            disable_code=True,
            disable_git=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
        ),
        **named,
    )


def close_run(run: Any, *, failed: bool = False) -> bool:
    """Ends this process's part of a run; returns whether W&B has all that was logged."""
    global _unreachable
    try:
        run.finish(exit_code=1 if failed else 0)
    except Exception as error:
        # a stalled server would delay the end of every run
        _unreachable |= isinstance(error, TimeoutError)
        log.warning(
            "W&B does not have the whole run; upload it with `wandb sync %s`",
            run.dir,
            exc_info=True,
        )
        return False
    return True


def read_told(memory: Path) -> int:
    """How much earlier processes have logged to the run; 0 if unknown."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return int(json.loads(memory.read_bytes())["told"])
    return 0


def write_told(memory: Path, run_id: str, told: int) -> None:
    try:
        write_json(memory, {"id": run_id, "told": told})
    except (OSError, StoreError):
        log.warning("cannot save how much was logged to W&B; some of it may be logged twice")
