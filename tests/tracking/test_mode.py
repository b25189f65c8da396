"""What `--wandb` means on this machine: it reads files, never prompts, makes no connection."""

import re

import pytest

from nos_repro.errors import ConfigError
from nos_repro.tracking.connection import close_run, open_run, project, wandb_mode

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


def test_an_invalid_key_keeps_auto_offline_and_stops_online(monkeypatch, caplog):
    monkeypatch.setenv("WANDB_API_KEY", "short")
    assert wandb_mode("auto") == "offline"
    assert "runs stay offline" in caplog.text
    with pytest.raises(ConfigError, match="API_KEY"):
        wandb_mode("online")


# fmt: off
NO_RUN = [
    # a variable      with which W&B opens no run     words of the error
    ("PROJECT",       "team/proj",                    "WANDB_ENTITY=team WANDB_PROJECT=proj"),
    ("PROJECT",       "a:b",                          "found ':'"),
    ("PROJECT",       "x" * 200,                      "Invalid project name"),
    ("PROJECT",       "a\nb",                         "WANDB_PROJECT: 'a\\nb' is not a name"),
    ("PROJECT",       " ",                            "WANDB_PROJECT: ' ' is not a name"),
    ("ENTITY",        "a/b",                          "WANDB_ENTITY: 'a/b' is not a name"),
    ("API_KEY",       KEY + "\n",                     "cannot start or end with whitespace"),
    ("BASE_URL",      "nonsense",                     "WANDB_BASE_URL"),
    ("BASE_URL",      "http://",                      "empty host"),
    ("BASE_URL",      "",                             "input is empty"),
    ("BASE_URL",      "http://wandb.ai",              "not a valid server address"),
    ("MODE",          "sideways",                     "'offline'"),
    ("MODE",          "",                             "WANDB_MODE"),
    ("RUN_ID",        "a/b",                          "Run ID cannot contain"),
    ("TAGS",          "",                             "WANDB_TAGS"),
    ("RESUME",        "sideways",                     "WANDB_RESUME"),
    ("CONSOLE",       "sideways",                     "WANDB_CONSOLE"),
    ("SILENT",        "perhaps",                      "WANDB_SILENT"),
    ("INIT_TIMEOUT",  "soon",                         "WANDB_INIT_TIMEOUT"),
    ("_SERVICE_WAIT", "soon",                         "WANDB__SERVICE_WAIT"),
    ("_DISABLE_STATS", "perhaps",                     "WANDB__DISABLE_STATS"),
    ("CONFIG_PATHS",  "/nowhere.yaml",                "WANDB_CONFIG_PATHS"),
]
# fmt: on


@pytest.mark.parametrize("asked", ["auto", "offline", "online"])
@pytest.mark.parametrize(("name", "value", "said"), NO_RUN)
def test_settings_with_which_w_and_b_opens_no_run_are_one_error_before_anything_trains(
    name, value, said, asked, monkeypatch
):
    monkeypatch.setenv(f"WANDB_{name}", value)
    with pytest.raises(ConfigError, match=re.escape(said)) as raised:
        wandb_mode(asked)
    assert KEY not in str(raised.value)


# fmt: off
ODD_BUT_FINE = [
    ("PROJECT", "a b"), ("PROJECT", "ä"), ("ENTITY", ""), ("API_KEY", "a\nb"), ("API_KEY", ""),
    ("BASE_URL", "https://api.wandb.ai/"), ("NAME", "x" * 300), ("TAGS", "a,a"), ("NOTES", "\n"),
    ("RUN_GROUP", "x" * 300), ("DIR", "/proc/nowhere"), ("RESUME", "never"), ("RESUME", "must"),
    ("START_METHOD", "odd"), ("CACHE_DIR", "/proc/x"), ("DATA_DIR", "/proc/x"), ("MODE", "dryrun"),
    ("RUN_ID", "another"), ("IGNORE_GLOBS", "["),
]
# fmt: on


@pytest.mark.parametrize(("name", "value"), ODD_BUT_FINE)
def test_other_odd_settings_still_write_the_run_under_its_own_id(
    name, value, monkeypatch, tmp_path
):
    monkeypatch.setenv(f"WANDB_{name}", value)
    assert wandb_mode("auto") == "offline"
    run = open_run("offline", tmp_path / "runs", lambda: {"id": "own"}, lambda run: None)
    assert run is not None
    run.log({"loss": 1.0})
    assert close_run(run)
    (written,) = (tmp_path / "runs").glob("wandb/offline-run-*/run-own.wandb")
    assert written.stat().st_size > 0


def test_the_project_is_the_one_that_the_user_names(monkeypatch):
    assert project() == "nos_repro"
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    assert project() == "mine"
