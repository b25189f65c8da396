"""W&B writes into the test's own folder, and sees neither the user's login nor settings."""

import pytest
import wandb

from nos_repro.tracking import connection


@pytest.fixture(autouse=True)
def own_wandb(monkeypatch, tmp_path):
    for name in ("CACHE", "DATA", "CONFIG", "ARTIFACT"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / name.lower()))
    for name in ("MODE", "API_KEY", "BASE_URL", "ENTITY", "PROJECT"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setattr(connection, "_unreachable", False)
    yield
    wandb.teardown()  # the next test has other settings
