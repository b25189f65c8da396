"""Where a number comes from."""

import subprocess

import pytest

from nos_repro.experiments import provenance


@pytest.fixture
def fresh():
    provenance.commit.cache_clear()
    yield
    provenance.commit.cache_clear()


def test_a_package_inside_another_projects_checkout_takes_no_commit_from_it(
    fresh, monkeypatch, tmp_path
):
    package = tmp_path / "package" / "experiments"
    package.mkdir(parents=True)
    (package / "own.py").touch()
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    subprocess.run(["git", "-C", tmp_path, "add", "."], check=True)
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", tmp_path, *who, "commit", "-qm", "a"], check=True)
    (package / "installed.py").touch()
    monkeypatch.setattr(provenance, "__file__", str(package / "installed.py"))
    assert provenance.commit() == ""
    monkeypatch.setattr(provenance, "__file__", str(package / "own.py"))
    provenance.commit.cache_clear()
    assert provenance.commit().endswith("+")


def test_a_git_that_does_not_answer_costs_no_record(fresh, monkeypatch):
    def hangs(words, **options):
        raise subprocess.TimeoutExpired(words, options["timeout"])

    monkeypatch.setattr(subprocess, "run", hangs)
    assert provenance.commit() == ""
