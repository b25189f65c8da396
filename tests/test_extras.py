"""The optimizers need torch alone; every other package comes by an extra that an error names."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from nos_repro.cli import main
from nos_repro.extras import EXTRA_OF, advice, installed_versions
from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"].keys() - {"all", "docs", "dev"}
BROUGHT_BY = {
    "PIL": "torchvision",
    "lightning_fabric": "pytorch-lightning",
    "lightning_utilities": "pytorch-lightning",
    "markupsafe": "jinja2",
    "pydantic": "wandb-workspaces",
    "pytorch_optimizer": "pytorch_optimizer",
    "yaml": "omegaconf",
}
"""Modules that come with a package of another name."""
NAMED = {"pytorch_optimizer", "schedulefree"}
"""Modules that studies name and the package does not import."""


def packages(extra: str) -> set[str]:
    """What an extra brings, with what the extras in it bring."""
    found = set()
    for text in PROJECT["optional-dependencies"][extra]:
        requirement = Requirement(text)
        if requirement.name == "nos-repro":
            found |= set().union(*map(packages, requirement.extras))
        else:
            found.add(requirement.name)
    return found


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module.partition(".")[0]
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).endswith("import_module")
            and isinstance(node.args[0], ast.Constant)
        ):
            yield str(node.args[0].value).partition(".")[0]


def test_every_module_that_is_imported_comes_by_an_extra_that_its_error_names() -> None:
    rooms = (path for path in (ROOT / "nos_repro").rglob("*.py") if path.parent.name != "bench")
    modules = set().union(*map(set, map(imported, rooms))) - sys.stdlib_module_names
    assert modules - {"nos_repro", "torch"} == EXTRA_OF.keys() - NAMED
    for module, extra in EXTRA_OF.items():
        assert BROUGHT_BY.get(module, module.replace("_", "-")) in packages(extra), module


def test_all_is_every_extra_but_those_for_developers() -> None:
    assert packages("all") == set().union(*map(packages, EXTRAS))
    assert packages("all") < packages("dev")
    assert [Requirement(text).name for text in PROJECT["dependencies"]] == ["torch"]


WITHOUT = """
import sys

sys.modules.update(dict.fromkeys({blocked}))  # Python then finds no such module
"""
RUN = (
    WITHOUT
    + """
from nos_repro.cli import main
sys.exit(main({words}))
"""
)
TORCH_ALONE = (
    WITHOUT
    + """
import torch
from nos_repro import AddSign, PowerSign, RuleOptimizer, make_optimizer, make_schedule

def drops(parameters, lr):
    return RuleOptimizer(parameters, "g + drop(m, 0.3)", lr=lr)

for make in (PowerSign, AddSign, drops):
    torch.manual_seed(0)
    model = torch.nn.Linear(16, 4)
    optimizer = make(model.parameters(), lr=0.001)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = model(torch.ones(1, 16)).square().sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0], losses
optimizer = make_optimizer("powersign-ld", model.parameters(), lr=0.1, total_steps=10)
make_schedule("cosine", optimizer, total_steps=10)
from nos_repro.cli import main
assert main(["export", "g * exp(m)"]) == 0
sys.exit(main({words}))
"""
)


def run_with_torch_alone(*words: str) -> subprocess.CompletedProcess[str]:
    code = TORCH_ALONE.format(blocked=sorted(EXTRA_OF.keys() - {"numpy"}), words=list(words))
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_the_optimizers_train_with_torch_alone_and_a_verb_says_which_extra_it_needs() -> None:
    done = run_with_torch_alone("run", "configs/table2.yaml", "--scale", "smoke", "--dry-run")
    assert done.returncode == 2, done.stderr
    assert "error: this needs the package " in done.stderr
    assert 'pip install ".[suite]"' in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_study_runs_with_the_extra_suite_alone(tmp_path: Path) -> None:
    # Lightning imports matplotlib where its metadata says that it is installed
    blocked = [module for module, extra in EXTRA_OF.items() if extra not in ("suite", "report")]
    words = ["run", "figure5_rosenbrock", "--scale", "smoke", "--workers", "0"]
    code = RUN.format(blocked=blocked, words=[*words, "--results", str(tmp_path)])
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert b"PowerSign" in done.stdout


def test_the_advice_names_the_smallest_extra() -> None:
    def missing(module: str) -> str | None:
        return advice(ModuleNotFoundError(f"No module named {module!r}", name=module))

    assert ".[suite]" in str(missing("pytorch_lightning.utilities"))
    assert ".[suite]" in str(missing("yaml"))
    assert ".[report]" in str(missing("matplotlib.pyplot"))
    assert ".[text]" in str(missing("sentencepiece"))
    assert ".[slurm]" in str(missing("submitit"))
    assert ".[wandb]" in str(missing("wandb_workspaces"))
    assert missing("my_package") is None, "a user's own module is no extra of ours"


def test_a_missing_module_that_no_extra_brings_is_a_bug_and_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*given: object) -> str:
        raise ModuleNotFoundError("No module named 'my_package'", name="my_package")

    monkeypatch.setattr("nos_repro.optim.export.export", broken)
    with pytest.raises(ModuleNotFoundError):
        main(["export", "g"])


def test_versions_are_given_of_what_is_installed() -> None:
    assert installed_versions(("torch", "not-a-package")).keys() == {"torch"}
