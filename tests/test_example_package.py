"""A package outside the suite adds one of each kind, and takes it through the command line.

`example_package/` is written as a user would write it; its studies take seconds.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nos_repro.cli import main

PACKAGE = Path(__file__).resolve().parent / "example_package"
STUDIES = PACKAGE / "studies"

Command = Callable[..., str]

# fmt: off
STUDY = {
    # study: (kinds that it names, a row, what its page must show)
    "line":      ("task, metric, optimizer, schedule, figure", "Lion", "mse (mm²)"),
    "stripes":   ("image set",     "PowerSign", "accuracy (%)"),
    "letters":   ("corpus",        "SGD",       "perplexity"),
    "plurals":   ("parallel text", "Adam",      "perplexity"),
    "paintings": ("photographs",   "SGD",       "accuracy (%)"),
}
# fmt: on


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where results and data lie; the data are paintings by two painters."""
    folder = tmp_path_factory.mktemp("example")
    draw = np.random.default_rng(0)
    for part, count in (("train", 12), ("val", 6)):
        (folder / "data/paintings" / part).mkdir(parents=True)
        for number in range(count):
            for painter, light in (("miro", 160), ("monet", 40)):
                pixels = (draw.integers(0, 60, (40, 36, 3)) + light).astype("uint8")
                path = folder / "data/paintings" / part / f"{painter}_{number:03}.png"
                Image.fromarray(pixels).save(path)
    return folder


@pytest.fixture
def command(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Runs a verb where the package is found, and gives what it prints."""
    monkeypatch.syspath_prepend(PACKAGE)

    def run(verb: str, *words: object) -> str:
        assert main([verb, *map(str, words), *places(verb, folder)]) == 0
        return capsys.readouterr().out

    return run


def places(verb: str, folder: Path) -> list[str]:
    """The arguments that say where results and data lie."""
    words = ["--results", str(folder / "results")]
    if verb in ("run", "search", "recheck", "verify"):
        words += ["--data", str(folder / "data")]
    return words + (["--workers", "1"] if verb in ("run", "search", "verify") else [])


def without_the_package(
    commands: Sequence[Sequence[object]], folder: Path, root: Path
) -> "subprocess.CompletedProcess[str]":
    """Several commands one after the other in a process started in ``folder``, whose Python finds
    the suite alone, and modules in no working directory (-P), as for an installed `nos-repro`. It
    prints a line with the status of each."""
    script = "import sys, json; from nos_repro.cli import main\n" + "\n".join(
        f"print('status', main({[str(word) for word in words]!r}))" for words in commands
    )
    return subprocess.run(
        [sys.executable, "-P", "-c", script],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(root)},
    )


@pytest.fixture(params=STUDY)
def study(request: pytest.FixtureRequest, command: Command) -> tuple[Path, str, str]:
    """A study that has been run, one of its rows, and what its page shows."""
    path = STUDIES / f"{request.param}.yaml"
    command("run", path, "--scale", "smoke")
    _, row, shown = STUDY[request.param]
    return path, row, shown


def test_a_study_that_names_it_is_trained_reported_judged_explained_and_shown(
    study: tuple[Path, str, str], command: Command, folder: Path
) -> None:
    path, row, shown = study
    table = command("report", path, "--scale", "smoke", "--write")
    assert row in table
    assert "diverged" not in table
    assert "failed" not in table
    assert "0 running, 0 not begun" in command("status", path, "--scale", "smoke")
    assert "Verdicts" in command("verdicts", path, "--scale", "smoke")
    assert "nothing is missing, stale or failed" in command(
        "why", f"{path}:{row}", "--scale", "smoke"
    )
    command("report", path, "--scale", "smoke", "--html", folder / "html")
    page = (folder / "html" / f"example_{path.stem}-smoke.html").read_text()
    assert row in page
    assert shown in page


def test_its_records_are_checked_trained_again_and_shown_on_a_dashboard(
    command: Command, folder: Path
) -> None:
    path = STUDIES / "line.yaml"
    command("run", path, "--scale", "smoke")
    assert "PASS: 1 of 1 trials of Lion" in command("recheck", f"{path}:Lion", "--scale", "smoke")
    assert "0 differ" in command("verify", path, "--scale", "smoke")
    assert "example_line" in command("dashboard", path, "--scale", "smoke")
    command("report", path, "--scale", "smoke", "--write")
    assert (folder / "results/example_line/smoke/figure.png").exists()


def test_its_own_claim_is_decided_by_its_own_test(command: Command) -> None:
    path = STUDIES / "line.yaml"
    command("run", path, "--scale", "smoke")
    judged = command("claims", path, "--file", STUDIES / "claims.yaml", "--scale", "smoke")
    assert "HOLDS" in judged
    assert "the worst of 1 seeds ends at" in judged


def test_a_search_learns_by_its_algorithm_on_its_images(command: Command, folder: Path) -> None:
    path = STUDIES / "climb.yaml"
    command("search", path, "--scale", "smoke")
    events = (folder / "results/example_climb/smoke/log.jsonl").read_text().splitlines()
    assert any("log_probability" in event for event in events)
    assert "AdamW" in command("report", path, "--scale", "smoke")
    assert "6" in command("status", path, "--scale", "smoke")
    command("report", path, "--scale", "smoke", "--html", folder / "html")
    assert "my_package.climb" in (folder / "html/example_climb-smoke.html").read_text()


def test_a_benchmark_runs_by_its_path(command: Command, folder: Path) -> None:
    assert "long rule over short" in command("bench", "my_package.parsing")
    stored = json.loads((folder / "results/bench/my_package.parsing.json").read_text())
    assert stored["rows"][0]["what"] == "long rule over short"


def test_the_script_and_its_workers_find_it_in_the_folder_they_are_started_in(
    tmp_path: Path, root: Path
) -> None:
    words = ["run", STUDIES / "line.yaml", "--scale", "smoke", "--workers", "2"]
    done = without_the_package([[*words, "--results", tmp_path, "--data", tmp_path]], PACKAGE, root)
    assert "status 0" in done.stdout, done.stderr
    records = list(tmp_path.glob("example_line/smoke/trials/*/record.json"))
    assert {json.loads(record.read_text())["status"] for record in records} == {"finished"}


def test_a_package_that_is_missing_is_one_clear_line_and_loses_nothing_else(
    command: Command, folder: Path, tmp_path: Path, root: Path
) -> None:
    path, other = STUDIES / "line.yaml", tmp_path / "plain.yaml"
    text = (STUDIES / "stripes.yaml").read_text()
    other.write_text(
        text.replace("example_stripes", "plain").replace("my_package.stripes", "digits")
    )
    command("run", path, "--scale", "smoke")
    command("run", other, "--scale", "smoke")
    every = ["report", "--all", path, other, *places("report", folder)]
    verbs = ("report", "status", "verdicts", "verify", "run", "dashboard")
    each = [[verb, path, "--scale", "smoke", *places(verb, folder)] for verb in verbs]
    why = ["why", f"{path}:Lion", "--scale", "smoke", *places("why", folder)]
    done = without_the_package([every, *each, why], tmp_path, root)
    assert "1 of 1 rows complete" in done.stdout, done.stderr
    first, *others = [line for line in done.stderr.splitlines() if "no Python module" in line]
    assert first.startswith("warning: example_line, scale smoke:")
    assert "no Python module 'my_package.line'" in first
    assert "PYTHONPATH" in first
    assert len(others) == len(each) + 1
    assert all("error: " in line and "task.name: no Python module" in line for line in others)
    assert done.stdout.count("status 2") == len(others)
    assert "Traceback" not in done.stderr
