"""`new` writes what runs as it is, and `check` finds out what is wrong with a task: each fault that
a user can make is made here, one at a time, in the template."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from nos_repro.cli import main
from tests.conftest import ROOT

AT_HOME = ["--workers", "0"]
"""In this process: no worker has to be started."""


def said(capsys: pytest.CaptureFixture[str]) -> str:
    printed = capsys.readouterr()
    return printed.out + printed.err


def test_a_newcomer_walks_from_an_empty_folder_to_an_exported_rule(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each step names the next one at its end."""
    assert main(["new", "task", "walked"]) == 0
    assert "check walked.Walked " in said(capsys)
    assert main(["check", "walked.Walked"]) == 0
    told = said(capsys)
    assert "0 failed" in told
    assert "new search my_search --task walked.Walked " in told
    assert main(["new", "search", "walk", "--task", "walked.Walked"]) == 0
    assert "search walk.yaml " in said(capsys)
    assert main(["search", "walk.yaml", "samples=12", *AT_HOME]) == 0
    words = "walk.yaml --scale default samples=12"
    told = said(capsys)
    assert f"search {words} --confirm " in told
    assert f"search {words} --export-best 12 " in told
    assert main(["search", *words.split(), "--confirm", "confirm.seeds=1", *AT_HOME]) == 0
    told = said(capsys)
    assert "--export-best 12 " in told
    assert "--confirm " not in told
    rule = told.partition(" export '")[2].partition("'")[0]
    assert rule.startswith("rule: ")
    best = ["--export-best", "2", "--output", "filter.yaml", "filter.training.epochs=4"]
    assert main(["search", *words.split(), *best]) == 0
    assert "run filter.yaml --scale default " in said(capsys)
    assert main(["run", "filter.yaml", "--scale", "default", *AT_HOME]) == 0
    told = said(capsys)
    assert "report filter.yaml --scale default --html filter_walk.html " in told
    assert main(["export", rule]) == 0
    assert "(Optimizer)" in said(capsys)


def test_own_optimizers_are_a_row_of_any_study(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "task", "pulled"]) == 0
    assert main(["new", "optimizer", "pull"]) == 0
    assert main(["new", "study", "pull_study", "--task", "pulled.Pulled"]) == 0
    rows = [
        f"+rows.{row}={{optimizer: pull.{what}, sweep: {{lr: [0.01]}}}}"
        for row, what in (("Rule", "pull_rule"), ("Class", "Pull"))
    ]
    elsewhere = ["--results", "my results", *rows]
    assert main(["run", "pull_study.yaml", *elsewhere, *AT_HOME]) == 0
    told = said(capsys)
    seen = [follow(told, capsys)]
    while seen[-1]:
        seen.append([each for text in seen[-1] for each in follow(text, capsys)])
    for row in ("SGD", "AdamW", "A rule", "Rule", "Class"):
        assert f"\n{row} " in told
    assert "diverged" not in told
    assert "failed" not in told
    assert len(seen) == 3, "run proposes report, which proposes why, which proposes nothing"
    assert list(Path().glob("*.html"))
    assert not Path("results").exists()


def follow(told: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What the commands say that the end of a verb proposes; each must work as it is printed."""
    _, _, lines = told.rpartition("next:\n") if "next:\n" in told else ("", "", "")
    texts = []
    for line in lines.splitlines():
        python, _, package, *words = shlex.split(line.partition("   # ")[0].partition(" > ")[0])
        assert (python, package) == ("python", "nos_repro")
        assert main(words) == 0
        texts.append(said(capsys))
    return texts


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["study", "search", "optimizer"])
def test_what_is_written_runs_as_it_is_with_either_command(kind: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nos_repro"]
    script = [sys.executable, "-P", "-c", "import sys; from nos_repro.cli import main;"
              "sys.exit(main(sys.argv[1:]))"]  # fmt: skip
    verb = "search" if kind == "search" else "run"
    for words in ([*command, "new", kind], [*script, verb, f"my_{kind}.yaml"]):
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert "next:" in done.stderr
    assert "failed" not in done.stdout


def test_what_is_written_is_formatted_and_has_no_unused_import(tmp_path: Path) -> None:
    for kind in ("task", "optimizer"):
        assert main(["new", kind]) == 0
    config = ["--config", str(ROOT / "pyproject.toml"), "."]
    for words in (["check", *config], ["format", "--diff", *config]):
        done = subprocess.run([sys.executable, "-m", "ruff", *words],
                              capture_output=True, text=True)  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_is_overwritten_and_a_part_of_it_is_not_written(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("mine_task.py").write_text("# a year of work\n")
    assert main(["new", "search", "mine"]) == 2
    assert "mine_task.py exists, and nothing is overwritten" in said(capsys)
    assert Path("mine_task.py").read_text() == "# a year of work\n"
    assert not Path("mine.yaml").exists()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["study", "table2"], "table2 is a study or search that ships"),
        (["task", "random"], "random is a Python module already"),
        (["task", "my-task"], "as for a Python module"),
        (["task", "class"], "class is a Python module already"),
        (["study", "../mine"], "the file is written into this folder"),
        (["study", "mine", "--task", "convnett"], "did you mean 'convnet'"),
        (["task", "mine", "--task", "convnet"], "--task is for a study or a search"),
    ],
)
def test_a_name_that_cannot_be_is_refused(
    words: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", *words]) == 2
    assert problem in said(capsys)
    assert list(Path().iterdir()) == []


def test_a_check_is_a_list_of_what_passed_and_one_document(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["new", "task", "listed"]) == 0
    said(capsys)
    assert main(["check", "listed.py", "width=8", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["task"] == "listed.Listed"
    assert found["settings"] == {"width": 8}
    names = [each["check"] for each in found["checks"] if each["status"] == "passed"]
    assert names == ["contract", "data", "batches", "loss", "epoch", "learning", "metrics",
                     "reward", "equal runs", "resuming", "cost"]  # fmt: skip
    parameters = 2 * 8 + 8 + 8 * 8 + 8 + 8 * 2 + 2
    assert f"{parameters} parameters; 16 batches of batch_size 64" in found["checks"][1]["said"]
    assert "float32 64x2, int64 64" in found["checks"][1]["said"]


LOSS = "return F.cross_entropy(self.model(x), y)"
FAULTS = {
    # what is done wrong: (the check that finds it, in the template, instead, what it says)
    "no metric": ("contract", "measures = (ACCURACY,)", "pass", "lacks measures"),
    "unknown setting": (
        "data",
        "width: int = 32",
        "depth: int = 32",
        "AttributeError: 'Settings' object has no attribute 'width' (unknown_setting.py, line ",
    ),
    "random batches": (
        "batches",
        "manual_seed(1000 * self.seed + epoch)",
        "manual_seed(torch.seed() % 2**40)",
        "gives other batches the second time",
    ),
    "start is ignored": (
        "batches",
        "order[start : self",
        "order[: self",
        "does not begin with the second batch",
    ),
    "no validation": ("batches", "yield self.val\n", "yield from ()\n", "yields no batch"),
    "wrong layer": (
        "loss",
        "torch.nn.Linear(width, 2)",
        "torch.nn.Linear(width + 1, 2)",
        "RuntimeError: mat1 and mat2 shapes cannot be multiplied",
    ),
    "loss per example": (
        "loss",
        LOSS,
        LOSS.replace("y)", "y, reduction='none')"),
        "must return a single number, got shape (64,)",
    ),
    "loss without gradient": ("loss", LOSS, f"{LOSS}.detach()", "has no gradient"),
    "loss that is NaN": ("loss", LOSS, f"{LOSS} * torch.nan", "loss is nan"),
    "wrong length": (
        "epoch",
        "return len(self.train[0]) // self.settings.batch_size",
        "return 20",
        "yields 16 batches, and steps_per_epoch is 20",
    ),
    "loss that rises": (
        "learning",
        LOSS,
        f"{LOSS}.detach() + 0 * self.model(x).sum()",
        "do not lower the loss",
    ),
    "a fraction": (
        "metrics",
        "range=(0.0, 100.0)",
        "range=(0.0, 0.2)",
        "outside its declared range, 0 to 0.2",
    ),
    "another metric": (
        "metrics",
        'return {"accuracy":',
        'return {"acc":',
        "measures declares accuracy, and metrics returned acc",
    ),
    "no number": (
        "metrics",
        '100 * sums["correct"] / sums["count"]',
        "[50.0]",
        "TypeError: float() argument must be",
    ),
    "chance": ("metrics", "return 50.0", "return 5000.0", "chance is 5000, outside the range"),
    "unseeded noise": (
        "equal runs",
        LOSS,
        f"{LOSS} + 1e-4 * __import__('os').urandom(1)[0]",  # too little to hide the learning
        "two runs of the same trial differ",
    ),
    "hidden state": (
        "resuming",
        LOSS,
        f"self.seen = getattr(self, 'seen', 0) + 1\n        {LOSS} / self.seen",
        "ends differently from one that does not stop",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_in_seconds_and_said_in_a_line(
    fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    check, right, wrong, problem = FAULTS[fault]
    name = fault.replace(" ", "_")
    assert main(["new", "task", name]) == 0
    said(capsys)
    path = Path(f"{name}.py")
    written = path.read_text()
    assert written.count(right) == 1
    path.write_text(written.replace(right, wrong))
    status = main(["check", f"{path}", "--format", "json"])
    found = json.loads(capsys.readouterr().out)
    failed = [each for each in found["checks"] if each["status"] == "failed"]
    assert (status, found["passed"], [each["check"] for each in failed][:1]) == (1, False, [check])
    assert problem in failed[0]["said"]
    assert "\n" not in failed[0]["said"]


@pytest.mark.parametrize(
    ("right", "more", "note"),
    [
        (", range=(0.0, 100.0)", "", "a study can use the task, a search cannot: no reward"),
        (
            "width = settings.width\n",
            "width = settings.width\n        self.unused = torch.nn.Linear(1, 1)\n",
            "no gradient reaches unused.weight, unused.bias",
        ),
        (
            "measures = (ACCURACY,)",
            'measures = (ACCURACY, Metric("area", "max", "", Tolerance(0.1)))',
            "val area is not measured each time",
        ),
    ],
)
def test_what_only_some_uses_need_is_noted(
    right: str, more: str, note: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"noted_{len(note)}"
    assert main(["new", "task", name]) == 0
    path = Path(f"{name}.py")
    path.write_text(path.read_text().replace(right, more))
    assert main(["check", str(path)]) == 0
    assert note in " ".join(said(capsys).split())


def test_a_module_that_breaks_is_a_line_and_an_unknown_task_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("broken_module.py").write_text("import nowhere_to_be_found\n")
    Path("unfinished.py").write_text("def f(:\n")
    problems = {
        "broken_module": "No module named 'nowhere_to_be_found' (broken_module.py, line 1)",
        "unfinished": "SyntaxError: invalid syntax (unfinished.py, line 1)",
    }
    for module, problem in problems.items():
        for words in (["check", f"{module}.Task"], ["check", f"{module}.py"],
                      ["new", "study", "mine", "--task", f"{module}.Task"],
                      ["run", "table2", f"task.name={module}.Task"]):  # fmt: skip
            assert main(words) == 2
            told = said(capsys)
            assert problem in told
            assert "Traceback" not in told
    assert main(["new", "task", "whole"]) == 0
    assert main(["check", "whole.Whole", "widht=3"]) == 2
    assert "did you mean 'width'" in said(capsys)
    assert main(["check", "rosenbrok"]) == 2
    assert "did you mean 'rosenbrock'" in said(capsys)


def test_everything_that_can_be_named_is_listed_with_a_line_about_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from nos_repro.optim import OPTIMIZERS, SCHEDULES
    from nos_repro.rules.catalog import CATALOG
    from nos_repro.rules.space import SPACES
    from nos_repro.search.algorithms import ALGORITHMS
    from nos_repro.tasks import TASKS

    assert main(["new", "study", "seen"]) == 0
    Path("other.yaml").write_text("image: python:3.12\n")
    said(capsys)
    assert main(["list", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    names = {kind: {each["name"] for each in found[kind]} for kind in list(found)[3:]}
    configs = {path.stem for path in (ROOT / "configs").glob("*.yaml")}
    assert names["studies"] | names["searches"] == configs | {"seen.yaml"}
    assert names["optimizers"] == {*OPTIMIZERS.names(), "powersign", "addsign"}
    for kind, every in (("rules", CATALOG), ("spaces", SPACES), ("schedules", SCHEDULES.names()),
                        ("algorithms", ALGORITHMS.names()), ("tasks", TASKS.names())):  # fmt: skip
        assert names[kind] == set(every)
    ours = [each for kind in names for each in found[kind] if each["name"] != "seen.yaml"]
    assert [each["name"] for each in ours if not each["about"]] == []
    assert main(["list"]) == 0
    assert max(map(len, said(capsys).splitlines())) <= 80


@pytest.mark.parametrize("words", [["new", "task", "__main__"], ["check", "__main__"]])
def test_the_module_that_is_running_is_not_one_s_own(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert "__main__" in capsys.readouterr().err
