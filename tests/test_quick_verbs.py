"""The verbs that only read are quick: they import neither torch nor anything else that takes long.

The rule: what the reading verbs import may name torch, Lightning, scipy, matplotlib and their like
only where it computes or draws with them, inside a function. Two kinds of module import torch at
their top: those that train, and those of a user's own.
"""

import functools
import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nos_repro.bench import BENCHMARKS
from nos_repro.data import CORPORA, IMAGES, PARALLEL_TEXTS, PHOTOGRAPHS
from nos_repro.optim import OPTIMIZERS, SCHEDULES
from nos_repro.optim.lookup import find_optimizer, optimizer_names
from nos_repro.optim.registry import keywords
from nos_repro.optim.rule_optimizer import RuleOptimizer
from nos_repro.registry import Registry, _modules
from nos_repro.report.claims.kinds.base import CLAIM_TESTS
from nos_repro.report.figures.base import FIGURES
from nos_repro.search.algorithms import ALGORITHMS
from nos_repro.tasks import TASKS
from nos_repro.tasks.facts.gnmt import SIGNATURES
from nos_repro.tasks.gnmt_bleu import signatures
from nos_repro.tasks.registry import FACTS, describe
from tests.conftest import ROOT

HEAVY = ("torch", "torchvision", "torchtext", "pytorch_lightning", "lightning_fabric", "scipy",
         "sklearn", "sacrebleu", "sentencepiece", "submitit", "matplotlib", "wandb",
         "omegaconf")  # fmt: skip

WATCHED = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HEAVY:
            raise AssertionError(f"imports {name}")

sys.meta_path.insert(0, Refuse())
from nos_repro.cli import main

sys.exit(main(sys.argv[1:]))
"""
# fmt: off
VERBS = {
    "report of a study":      ["report", "configs/table2.yaml", "--scale", "small"],
    "report of a search":     ["report", "configs/search.yaml", "--scale", "small"],
    "page of a study":        ["report", "configs/table2.yaml", "--scale", "small", "--html", "."],
    "report of translation":  ["report", "configs/table4.yaml", "--scale", "small"],
    "report of everything":   ["report", "--all", "--html", "pages"],
    "status of a study":      ["status", "configs/table5.yaml", "--scale", "small"],
    "status of a search":     ["status", "configs/search.yaml", "--scale", "small"],
    "why":                    ["why", "table2:PowerSign (cosine)", "--scale", "small"],
    "claims":                 ["claims"],
    "verdicts":               ["verdicts", "configs/table2.yaml", "--scale", "small"],
    "list":                   ["list"],
    "rule":                   ["rule", "clip(adam, 1e-4) * exp(ld)"],
    "a document":             ["report", "configs/table2.yaml", "--scale", "small",
                               "--format", "json"],
}
# fmt: on


@pytest.mark.parametrize("words", VERBS.values(), ids=VERBS)
def test_a_verb_that_reads_imports_nothing_that_takes_long(
    words: list[str], committed: Path, tmp_path: Path
) -> None:
    results = [] if words[0] in ("rule", "list") else ["--results", str(committed)]
    words = [str(ROOT / word) if word.startswith("configs/") else word for word in words]
    watched = [sys.executable, "-c", f"HEAVY = {HEAVY}\n{WATCHED}", *words, *results]
    done = subprocess.run(watched, cwd=tmp_path, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_a_dashboard_says_what_it_is_before_it_loads_w_and_b(tmp_path: Path) -> None:
    words = ["dashboard", str(ROOT / "configs/table2.yaml"), "--scale", "small", "--project", "own"]
    watched = [sys.executable, "-c", f"HEAVY = {HEAVY}\n{WATCHED}", *words]
    done = subprocess.run(watched, cwd=tmp_path, capture_output=True, encoding="utf-8")
    assert done.stderr.startswith("dashboard of table2, scale small, for W&B's project own\n")
    assert done.stderr.endswith("AssertionError: imports wandb\n")


REGISTRIES = [IMAGES, CORPORA, PARALLEL_TEXTS, PHOTOGRAPHS, OPTIMIZERS, SCHEDULES, TASKS, FACTS,
              FIGURES, CLAIM_TESTS, ALGORITHMS, BENCHMARKS]  # fmt: skip


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.kind)
def test_what_a_registry_reads_in_the_sources_is_what_the_decorators_do(
    registry: Registry[Any],
) -> None:
    modules = [module.name for module in _modules(registry.package)]
    for module in modules:
        importlib.import_module(module)
    made = {e.name: e for e in registry._entries.values() if e.module in modules}
    assert made == registry._shipped
    for name, entry in made.items():
        read = registry._shipped[name].facts
        assert read == {fact: entry.facts[fact] for fact in read}


@pytest.mark.parametrize("name", TASKS.names())
def test_a_task_that_ships_has_its_facts_apart(name: str) -> None:
    if not TASKS.entry(name).module.startswith("nos_repro."):
        pytest.skip("registered by another test")
    assert issubclass(TASKS.find(name), describe(name))
    assert describe(name) is FACTS.find(name)


@pytest.mark.parametrize("name", [*optimizer_names(), "torch.optim.AdamW"])
def test_the_options_that_are_read_in_a_source_are_the_maker_s(name: str) -> None:
    found = find_optimizer(name)
    made = found.make
    if isinstance(made, functools.partial):
        assert found.accepted >= keywords(RuleOptimizer) - {"rule"}
    else:
        assert found.accepted == keywords(made) - {"rule"}


def test_the_table_names_the_bleu_that_sacrebleu_computes() -> None:
    said = {form: sign.partition("|version:")[0] for form, sign in signatures().items()}
    assert said == SIGNATURES
