"""Runs not yet uploaded to W&B are named where users look after their jobs have ended."""

import pytest

from nos_repro.cli import main

STUDY = "icml_figure5", "--scale", "smoke"


def test_status_says_how_to_upload_what_was_run_offline(tmp_path, capsys):
    folder = tmp_path / "icml_figure5/smoke/wandb"
    for name in ("offline-run-1", "offline-run-2", "offline-run-3"):
        (folder / name).mkdir(parents=True)
    (folder / "offline-run-2" / "run-2.wandb.synced").touch()
    assert main(["status", *STUDY, "--results", str(tmp_path)]) == 0
    said = capsys.readouterr().err
    assert "2 parts of runs on this disk only" in said
    assert f"wandb sync {folder}/offline-run-*" in said


@pytest.mark.parametrize("config", [STUDY, ("search", "--scale", "smoke")])
def test_status_does_not_mention_wandb_if_nothing_is_left_to_upload(config, tmp_path, capsys):
    assert main(["status", *config, "--results", str(tmp_path)]) == 0
    assert "wandb" not in capsys.readouterr().err
