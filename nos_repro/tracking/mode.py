"""Off, offline or online: what `--wandb` asks for, and what this machine and its user allow."""

from __future__ import annotations

import logging

from nos_repro.errors import ConfigError
from nos_repro.tracking.connection import Mode, import_wandb

log = logging.getLogger(__name__)

ASKED = ("off", "auto", "offline", "online")
OFFLINE = ("offline", "dryrun")


def wandb_mode(asked: str) -> Mode | None:
    """The mode that ``asked`` (one of `ASKED`) comes to; None: W&B is told nothing.

    `auto` does what W&B's own settings say (`WANDB_MODE`, `wandb offline`), and where they leave it
    open is online for who is logged in: by a key in the environment, in `.netrc` or in W&B's
    settings. It reads files alone, asks nobody and connects to nothing.

    Raises ConfigError for `online` where nobody is logged in.
    """
    if asked == "off":
        return None
    if asked == "offline":
        return "offline"
    wandb = import_wandb()
    named = {"mode": "online"} if asked == "online" else {}  # beats what is set
    try:
        wanted = wandb.setup(settings=wandb.Settings(silent=True, **named)).settings.mode
        if wanted == "disabled":
            return None
        if wanted in OFFLINE:
            return "offline"
        if wandb.login(prompt=False, verify=False):
            return "online"
    except (wandb.Error, ValueError) as error:  # a key of no valid form, a mode that is none
        if asked == "online":
            raise ConfigError(f"--wandb online: {_said(error)}") from None
        log.warning("W&B's settings cannot be used, so runs stay offline: %s", _said(error))
        return "offline"
    finally:
        wandb.teardown()
    if asked == "online":
        raise ConfigError(
            "--wandb online: W&B knows no key here; `wandb login` stores one, or set"
            " WANDB_API_KEY, or say --wandb auto"
        )
    return "offline"


def _said(error: Exception) -> str:
    """Of pydantic's and W&B's errors the line that says it."""
    return " ".join(str(error).split())[:200]
