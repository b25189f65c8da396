"""What `--wandb` means on this machine: it reads files, never prompts, makes no connection."""

import pytest

from nos_repro.errors import ConfigError
from nos_repro.tracking.connection import project, wandb_mode

KEY = "0123456789abcdef" * 4

# fmt: off
AUTO = [
    # logged in by  WANDB_MODE    it comes to
    (None,          None,         "offline"),
    ("environment", None,         "online"),
    ("netrc",       None,         "online"),
    ("environment", "online",     "online"),
    ("environment", "offline",    "offline"),
    ("environment", "dryrun",     "offline"),
    ("netrc",       "disabled",   None),
    (None,          "online",     "offline"),
]
# fmt: on


def log_in(by, monkeypatch, tmp_path):
    if by == "environment":
        monkeypatch.setenv("WANDB_API_KEY", KEY)
    elif by == "netrc":
        (tmp_path / "netrc").write_text(f"machine api.wandb.ai login user password {KEY}\n")


@pytest.mark.parametrize(("by", "wanted", "mode"), AUTO)
def test_auto_is_online_if_you_are_logged_in_and_want_it(by, wanted, mode, monkeypatch, tmp_path):
    log_in(by, monkeypatch, tmp_path)
    if wanted is not None:
        monkeypatch.setenv("WANDB_MODE", wanted)
    assert wandb_mode("auto") == mode


def test_off_and_offline_mean_that_even_if_you_are_logged_in(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_MODE", "online")
    assert wandb_mode("off") is None
    assert wandb_mode("offline") == "offline"


def test_online_beats_the_environment_but_needs_a_login(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    with pytest.raises(ConfigError, match="wandb login"):
        wandb_mode("online")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert wandb_mode("online") == "online"


@pytest.mark.parametrize(("name", "value"), [("API_KEY", "short"), ("MODE", "sideways")])
def test_invalid_settings_keep_auto_offline_and_stop_online(name, value, monkeypatch, caplog):
    monkeypatch.setenv(f"WANDB_{name}", value)
    assert wandb_mode("auto") == "offline"
    assert "runs stay offline" in caplog.text
    if name == "API_KEY":
        with pytest.raises(ConfigError, match="API_KEY"):
            wandb_mode("online")


def test_the_project_is_the_one_that_the_user_names(monkeypatch):
    assert project() == "nos_repro"
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    assert project() == "mine"
