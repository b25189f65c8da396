"""A trial's digest changes exactly where what it executes does: modules of one's own, both ways."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from nos_repro.experiments.digest import Sources
from nos_repro.experiments.kept_digests import KeptDigests

MODULES = {
    "__init__": "from mine.scales import HALF\n",
    "task": '''
        """What is trained."""

        from __future__ import annotations

        import math

        import torch
        import torch.nn.functional as F

        import mine
        from mine import helpers
        from mine.constants import WIDTH
        from mine.rows import ROWS
        from nos_repro.tasks.base import Task

        from .noise import add_noise as disturb


        class MyTask(Task):
            """A model."""

            label = "mine"

            def __init__(self, settings, make=None):
                super().__init__(settings, make)
                self.layer = torch.nn.Linear(WIDTH, 1)

            def forward(self, x):
                return F.relu(self.layer(x))

            def training_step(self, batch, batch_idx: int = 0) -> torch.Tensor:
                if batch is None:
                    raise ValueError("no batch")
                late = getattr(self, "penalty")
                return self(disturb(batch)).mean() * mine.HALF + late() + ROWS["a"].value

            def penalty(self):
                from mine.late import weight

                return weight() * helpers.scale(math.pi)

            def describe(self):
                return "a task"


        class Unused:
            pass
    ''',
    "helpers": '''
        from mine.deep import factor


        def scale(x, power=2):
            """x to a power."""
            # of deep's factor
            return factor() * x**power


        def unused():
            return 1
    ''',
    "deep": "def factor():\n    return 0.25\n",
    "late": "def weight():\n    return 0.5\n",
    "noise": '''
        from mine.stars import *


        def add_noise(batch):
            """Disturbs."""
            return batch + SIZE
    ''',
    "stars": "SIZE = 0.125\nOTHER = 2\n",
    "scales": "HALF = 0.5\n",
    "constants": """
        import torch

        WIDTH = 8
        HEIGHT = 9
        torch.set_flush_denormal(True)
    """,
    "rows": """
        from dataclasses import dataclass
        from typing import ClassVar

        from nos_repro.registry import Table


        @dataclass
        class Row:
            name: str
            latex: str
            value: float
            meaning: str = ""
            display: ClassVar[tuple[str, ...]] = ("latex", "meaning")


        ROWS = Table(
            Row("a", "A", 1.0, meaning="the first"),
            Row("b", "B", 2.0),
        )
    """,
    "loop": "def train(task, batch):\n    task.training_step(batch).backward()\n",
    "neighbour": "NOBODY = 'imports this'\n",
}
ROOTS = ("mine.loop:train", "mine.task:MyTask", "mine.rows:ROWS[a]")

Edit = Callable[[Path], None]
Digest = Callable[[Path], str]


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A package of one's own."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for name, source in MODULES.items():
        lines = source.splitlines()
        (folder / f"{name}.py").write_text("\n".join(line.removeprefix(" " * 8) for line in lines))
    return folder


@pytest.fixture(scope="session", autouse=True)
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the package's own modules are kept, so that they are read once."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def digest(kept: Path) -> Digest:
    return lambda folder: Sources({"mine": folder}, kept=kept).digest(ROOTS)


def swap(module: str, old: str, new: str) -> Edit:
    """The edit that writes ``new`` for ``old``, which must be there."""

    def edit(folder: Path) -> None:
        path = folder / f"{module}.py"
        source = path.read_text()
        assert old in source
        path.write_text(source.replace(old, new))

    return edit


def append(module: str, text: str) -> Edit:
    def edit(folder: Path) -> None:
        with (folder / f"{module}.py").open("a") as file:
            file.write(f"\n\n{text}\n")

    return edit


def everywhere(old: str, new: str) -> Edit:
    def edit(folder: Path) -> None:
        for path in folder.glob("*.py"):
            path.write_text(path.read_text().replace(old, new))

    return edit


def rename(old: str, new: str) -> Edit:
    """The edit that renames a module, in a file's name and in all imports."""

    def edit(folder: Path) -> None:
        (folder / new).parent.mkdir(exist_ok=True)
        (folder / f"{old}.py").rename(folder / f"{new}.py")
        dotted = new.replace("/", ".")
        for path in folder.rglob("*.py"):
            source = path.read_text().replace(f"mine.{old}", f"mine.{dotted}")
            source = source.replace(f"from mine import {old}\n", f"import mine.{dotted} as {old}\n")
            path.write_text(source)

    return edit


def reorder(folder: Path) -> None:
    path = folder / "helpers.py"
    head, scale, unused = path.read_text().split("\n\n\n")
    path.write_text("\n\n\n".join([head, unused, scale]))


# fmt: off
NOTHING_CHANGED = {
    "a comment":                  swap("helpers", "# of deep's factor", "# of another thing"),
    "a docstring":                swap("helpers", '"""x to a power."""', '"""x ** power."""'),
    "a docstring less":           swap("noise", '    """Disturbs."""\n', ""),
    "a module's docstring":       swap("task", "What is trained.", "What trains."),
    "layout":                     swap("helpers", "(x, power=2)", "(\n    x,\n    power = 2,\n)"),
    "quotes and brackets":        swap("helpers", "() * x**power", "() * (x ** power)"),
    "type hints":                 swap("helpers", "x, power=2)", "x: int, power: int = 2)"),
    "an error's words":           swap("task", '"no batch"', 'f"no batch: {batch}"'),
    "a function nobody calls":    append("helpers", "def more():\n    return 3"),
    "a class nobody uses":        append("task", "class Other:\n    x = 1"),
    "a constant nobody reads":    swap("constants", "HEIGHT = 9", "HEIGHT = 10"),
    "a method nobody calls":      swap("task", 'return "a task"', 'return "my task"'),
    "an attribute nobody reads":  swap("task", 'label = "mine"', 'label = "yours"'),
    "an import nobody uses":      swap("helpers", "from mine", "import json\nfrom mine"),
    "a module nobody imports":    swap("neighbour", "imports", "reads"),
    "an import's alias":          everywhere("disturb", "shake"),
    "the order of functions":     reorder,
    "a renamed module":           rename("helpers", "assistance"),
    "a renamed module, deep":     rename("deep", "bottom"),
    "a moved module":             rename("deep", "below/deep"),
    "a renamed function":         everywhere("factor", "coefficient"),
    "a renamed constant":         everywhere("WIDTH", "COLUMNS"),
    "a renamed class":            everywhere("Row", "Line"),
    "another row of a table":     swap("rows", '"B", 2.0', '"B", 3.0'),
    "a row more":                 swap("rows", "Table(\n", 'Table(\n    Row("c", "C", 3.0),\n'),
    "how a row is printed":       swap("rows", '"A", 1.0, meaning="the first"', r'"\\alpha", 1.0'),
    "what runs as a script":      append("task", 'if __name__ == "__main__":\n    print(1)'),
}
SOMETHING_CHANGED = {
    "a constant":                 swap("constants", "WIDTH = 8", "WIDTH = 16"),
    "a helper's helper":          swap("deep", "0.25", "0.5"),
    "a default":                  swap("helpers", "power=2", "power=3"),
    "an operator":                swap("noise", "batch + SIZE", "batch - SIZE"),
    "a layer":                    swap("task", "Linear(WIDTH, 1)", "Linear(WIDTH, 2)"),
    "a library's function":       swap("task", "F.relu(", "F.gelu("),
    "which library it is from":   swap("task", "import math", "import cmath as math"),
    "what torch calls":           swap("task", "self.layer(x)", "self.layer(x + 1)"),
    "which helper is called":     swap("task", "helpers.scale(math.pi)", "helpers.unused()"),
    "a method asked for by text": swap("task", "return weight() *", "return 2 * weight() *"),
    "a late import":              swap("late", "0.5", "0.75"),
    "a starred import":           swap("stars", "0.125", "0.25"),
    "what the package exports":   swap("scales", "0.5", "0.25"),
    "where an import is from":    swap("__init__", "import HALF", "import WHOLE as HALF"),
    "the row that is used":       swap("rows", '"A", 1.0', '"A", 1.5'),
    "how an import acts":         swap("constants", "(True)", "(False)"),
    "a decorator":                swap("deep", "def factor", "@staticmethod\ndef factor"),
    "the base class":             swap("task", "class MyTask(Task)", "class MyTask(Unused, Task)"),
    "a statement more":           swap("noise", "return", "batch = 2 * batch\n    return"),
}
# fmt: on


@pytest.mark.parametrize("edit", NOTHING_CHANGED.values(), ids=NOTHING_CHANGED)
def test_what_a_trial_does_not_execute_leaves_its_digest(
    mine: Path, digest: Digest, edit: Edit
) -> None:
    before = digest(mine)
    edit(mine)
    assert digest(mine) == before


@pytest.mark.parametrize("edit", SOMETHING_CHANGED.values(), ids=SOMETHING_CHANGED)
def test_what_a_trial_executes_changes_its_digest(mine: Path, digest: Digest, edit: Edit) -> None:
    before = digest(mine)
    edit(mine)
    assert digest(mine) != before


def test_a_digest_counts_its_roots_and_texts(mine: Path) -> None:
    sources = Sources({"mine": mine})
    digests = [
        sources.digest(["mine.deep:factor"]),
        sources.digest(["mine.late:weight"]),
        sources.digest(["mine.deep:factor", "mine.late:weight"]),
        sources.digest(["mine.deep:factor"], "g * m"),
        sources.digest(["mine.deep:factor"], "g * v"),
    ]
    assert len(set(digests)) == len(digests)


def test_a_root_that_is_made_inside_a_function_counts_as_its_whole_module(mine: Path) -> None:
    def digest() -> str:
        return Sources({"mine": mine}).digest(["mine.deep:make.<locals>.inner"])

    before = digest()
    append("deep", "OTHER = 1")(mine)
    assert digest() != before


def test_a_root_without_source_counts_by_its_name(mine: Path) -> None:
    digests = [
        Sources({"mine": mine}).digest([root])
        for root in ("mine.compiled:f", "mine.compiled:g", "torch.optim.adamw:AdamW")
    ]
    assert len(set(digests)) == 3


def test_a_digest_from_an_earlier_process_s_cache_is_the_same(
    mine: Path, digest: Digest, tmp_path: Path
) -> None:
    fresh = digest(mine)
    kept = tmp_path / "kept"
    for _ in range(2):
        assert Sources({"mine": mine}, kept=kept).digest(ROOTS) == fresh
    swap("deep", "0.25", "0.5")(mine)
    assert Sources({"mine": mine}, kept=kept).digest(ROOTS) == digest(mine) != fresh


def test_a_damaged_or_unwritable_cache_costs_only_time(
    mine: Path, digest: Digest, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    Sources({"mine": mine}, kept=kept).digest(ROOTS)
    for number, path in enumerate(kept.iterdir()):
        path.write_bytes([b"", b"{", b"[]", b'{"name": 1}'][number % 4])
    assert Sources({"mine": mine}, kept=kept).digest(ROOTS) == digest(mine)
    shutil.rmtree(kept)
    kept.write_text("a file")
    assert Sources({"mine": mine}, kept=kept).digest(ROOTS) == digest(mine)


def test_a_field_named_display_is_a_field_like_any_other(kept: Path) -> None:
    """`syntax.Definition` has one: a search's code reaches it."""
    assert Sources(kept=kept).digest(["nos_repro.experiments.syntax:Definition"])


def test_another_copy_of_the_same_package_has_the_same_digest(
    mine: Path, digest: Digest, tmp_path: Path
) -> None:
    copy = tmp_path / "elsewhere" / "mine"
    shutil.copytree(mine, copy)
    assert digest(copy) == digest(mine)


def test_a_kept_digest_is_used_as_long_as_nothing_that_it_was_made_of_changes(
    mine: Path, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    plain = Sources.digest

    def counted(self: Sources, roots: Sequence[str], *texts: str) -> str:
        made.append(1)
        return plain(self, roots, *texts)

    monkeypatch.setattr(Sources, "digest", counted)

    def digest(*texts: str) -> str:  # as another process sees it
        return KeptDigests(Sources({"mine": mine}, kept=kept), tmp_path / "kept").digest(
            ROOTS, *texts
        )

    first = digest()
    assert (digest(), len(made)) == (first, 1)
    assert (digest("g * m") != first, len(made)) == (True, 2)
    swap("deep", "0.25", "0.5")(mine)
    assert (digest() != first, len(made)) == (True, 3)
    swap("deep", "0.5", "0.25")(mine)
    assert (digest(), len(made)) == (first, 4)
    append("neighbour", "MORE = 1")(mine)  # nobody imports it
    assert (digest(), len(made)) == (first, 4)
    (mine / "helpers").mkdir()  # a package takes the module's place
    (mine / "helpers" / "__init__.py").write_text("def scale(x):\n    return x\n")
    assert (digest() != first, len(made)) == (True, 5)
    for path in (tmp_path / "kept").iterdir():
        path.write_bytes(b"{")
    assert digest() != first
