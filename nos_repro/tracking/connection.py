"""A run of W&B, opened and closed so that the trial or search that it logs never waits for long.

Online, the server has ``ONLINE_SECONDS`` to answer, and ``FINISH_SECONDS`` at a run's end to take
the rest. If it does not, the process does not wait a second time: it writes its later runs to disk,
for `wandb sync` to upload. Errors are logged and never fail a trial or a search, since the records
on disk are complete.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nos_repro.errors import ConfigError
from nos_repro.experiments.files import StoreError, read_file, read_json, write_json

log = logging.getLogger(__name__)

Mode = Literal["offline", "online"]
OFFLINE = ("offline", "dryrun")
NO_NAME = "/\\#?%:"
"""Characters that W&B allows in no project and no entity."""

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

    Raises ConfigError for `online` if nobody is logged in, and in any case if W&B's own settings
    (its variables and files) are such that it would open no run.
    """
    if asked == "off":
        return None
    wandb = import_wandb()
    named = {} if asked == "auto" else {"mode": asked}  # overrides the settings
    try:
        wanted = _settings(asked, named).mode
        if wanted == "disabled":
            return None
        if wanted in OFFLINE:
            return "offline"
        if wandb.login(prompt=False, verify=False):
            return "online"
    except ConfigError:
        raise
    except (wandb.Error, ValueError) as error:  # an invalid key
        if asked == "online":
            raise ConfigError(f"--wandb online: {_said(error)}") from None
        log.warning("W&B's login cannot be used, so runs stay offline: %s", _said(error))
        return "offline"
    finally:
        wandb.teardown()
    if asked == "online":
        raise ConfigError(
            "--wandb online: no API key found; store one with `wandb login`, set WANDB_API_KEY, or"
            " use --wandb auto"
        )
    return "offline"


def _settings(asked: str, named: dict[str, Any]) -> Any:
    """W&B's settings. Raises ConfigError for those with which it opens no run."""
    wandb = import_wandb()
    try:
        settings = wandb.setup(settings=wandb.Settings(silent=True, **named)).settings
    except (wandb.Error, ValueError) as error:
        raise ConfigError(
            f"--wandb {asked}: W&B's settings are not valid: {_said(error)}\n"
            "  correct the variable, or use --wandb off"
        ) from None
    check_name("WANDB_ENTITY", settings.entity or "")
    check_name("WANDB_PROJECT", os.environ.get("WANDB_PROJECT", ""))
    return settings


def check_name(what: str, name: str) -> None:
    """Raises ConfigError for a project or an entity that W&B's server cannot have."""
    if name and not (name.strip() and name.isprintable() and not set(name) & set(NO_NAME)):
        raise ConfigError(f"{what}: {name!r} is not a name that W&B accepts (none of {NO_NAME})")


def _said(error: Exception) -> str:
    """A pydantic or W&B error as one line, with the variable that it is about."""
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        found = error.errors()[0]
        setting = ".".join(map(str, found["loc"]))
        return f"{setting} ({_variable(setting)}): {found['msg']}"
    said = " ".join(str(error).split())[:200]
    if "/" in os.environ.get("WANDB_PROJECT", ""):
        entity, _, name = os.environ["WANDB_PROJECT"].partition("/")
        said += f"; a team's project is WANDB_ENTITY={entity} WANDB_PROJECT={name}"
    return said


def _variable(setting: str) -> str:
    """The variable that a setting of W&B comes from."""
    short = setting.removeprefix("run_") if setting in ("run_tags", "run_name") else setting
    return f"WANDB_{short.removeprefix('x').upper()}"


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
            x_save_requirements=False,  # 0.7 s a run; the libraries are in its config
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


@dataclass
class RunMemory:
    """What is kept of a run in a file, for the processes that continue it: its id, and how much of
    it has been logged."""

    path: Path
    id: str
    told: int = 0
    step: int = 0
    """The last step whose loss was logged."""

    @classmethod
    def recall(cls, path: Path, stem: str) -> RunMemory | None:
        """What the file says; a new id if there is none: ``stem`` and a random part, so that runs
        of the same name by others never merge with this one.

        None if the file cannot be read: a new id would cut the run in two. A later process logs
        what this one does not.
        """
        try:
            data = read_file(path)
        except StoreError as error:
            problem = str(error).splitlines()[0]
            log.warning("%s; this attempt is not logged to W&B, the next one makes up for it",
                        problem)  # fmt: skip
            return None
        new = cls(path, f"{stem}-{secrets.token_hex(4)}")
        if data is None:
            return new
        try:
            kept = read_json(data)
            return cls(path, str(kept["id"]), int(kept["told"]), int(kept.get("step", 0)))
        except (ValueError, KeyError, TypeError, OverflowError, AttributeError):
            log.warning("%s is damaged; a new W&B run begins", path)
            return new

    def of(self, run: Any) -> RunMemory:
        """The memory of the ``run`` that W&B has opened. In a sweep W&B gives it another id than it
        was asked for, and that run has nothing yet."""
        return self if run.id == self.id else RunMemory(self.path, run.id)

    def save(self) -> None:
        try:
            write_json(self.path, {"id": self.id, "told": self.told, "step": self.step})
        except (OSError, StoreError):
            log.warning("cannot save how much was logged to W&B; some of it may be logged twice")
