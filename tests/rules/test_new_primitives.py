"""A primitive is one row: three are added to a copy of the package, a row each and nothing else."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

ROWS = {
    "UNARY": 'UnaryRow("tanh", r"\\tanh({x})", "torch.tanh", "-1 and 1 far from 0"),',
    "BINARY": 'BinaryRow("max", r"\\max({x}, {y})", "torch.maximum", "NaN if either is"),',
    "OPERANDS": 'OperandRow("g4", "g^4", "its fourth power", Binary("*", _G2, _G2)),',
}
RULES = [
    "tanh(g * m)",
    "max(ld, w) + max(2, tanh(0.1))",
    "max(tanh(g * m), 0.5 * ld) * max(g4, g)",
]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package, whose tables have one more row each, in front."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(
        ROOT / "nos_repro", folder / "nos_repro", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copytree(ROOT / "configs", folder / "configs")
    tables = folder / "nos_repro" / "rules" / "primitives.py"
    source = tables.read_text(encoding="utf-8")
    for table, row in ROWS.items():
        head = f"\n{table} = Table(\n"
        assert source.count(head) == 1
        source = source.replace(head, f"{head}    {row}\n")
    tables.write_text(source, encoding="utf-8")
    return folder


def run(copy: Path, *words: str) -> str:
    """What `python ...` prints with the copy as the package."""
    environment = {**os.environ, "PYTHONPATH": str(copy), "NOS_REPRO_DATA": str(copy / "data")}
    done = subprocess.run(
        [sys.executable, *words], cwd=copy, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


LANGUAGE = """
import torch
from nos_repro.rules.evaluate import evaluate
from nos_repro.rules.rule import Rule
from nos_repro.rules.space import SPACES, Space

for text in RULES:
    assert str(Rule.parse(text)) == text
    normal = Rule.parse(text).normal()
    assert normal.normal() == normal
assert str(Rule.parse("tanh(m * g)").normal()) == "tanh(g * m)"
assert str(Rule.parse("max(g4, tanh(m))").normal()) == "max(g4, tanh(m))"
assert Rule.parse("tanh(g)").fingerprint() != Rule.parse("g").fingerprint()
assert Rule.parse("tanh(g * m)").latex() == r"\\tanh(g * \\hat{m})"
assert Rule.parse("max(g, m)").latex() == r"\\max(g, \\hat{m})"

space = Space(("g", "m", "g4"), ("identity", "tanh"), ("*", "max"), 2)
tokens = "g m identity identity * #1 g4 tanh identity max".split()
rule = Rule.from_tokens(tokens, space)
assert str(rule) == "max(tanh(g * m), g4)"
assert rule.tokens() == tokens
for named in SPACES.values():
    assert not {"tanh", "max", "g4"} & {*named.operands, *named.unary, *named.binary}

g = torch.randn(9, dtype=torch.float64)
values = evaluate(Rule.parse("max(tanh(g), 0) - g4 + max(2, tanh(0.1))").expr, {"g": g})
assert torch.allclose(values, torch.tanh(g).clamp(min=0) - g**4 + 2)
"""
EXECUTIONS = """
import torch
from nos_repro import RuleOptimizer

generator = torch.Generator().manual_seed(0)
start, *gradients = torch.randn(5, 64, 3, generator=generator, dtype=torch.float64)
for execution in ({"foreach": False}, {"foreach": True}, {"fused": True}):
    expected, average = start.clone(), torch.zeros_like(start)
    p = torch.nn.Parameter(start.clone())
    optimizer = RuleOptimizer([p], RULE, 0.1, total_steps=10, **execution)
    for t, g in enumerate(gradients):
        average = 0.9 * average + 0.1 * g
        m, ld = average / (1 - 0.9 ** (t + 1)), 1 - t / 10
        expected -= 0.1 * torch.tanh(g * m).clamp(min=0.5 * ld) * torch.maximum(g**4, g)
        p.grad = g
        optimizer.step()
    torch.testing.assert_close(p.detach(), expected, rtol=1e-12, atol=1e-12)
"""
EXPORTED = """
import sys
import torch
import my_optimizer

p = torch.nn.Parameter(torch.linspace(-1, 1, 9, dtype=torch.float64))
q = torch.nn.Parameter(p.detach().clone())
theirs = my_optimizer.Mine([p], lr=0.1, total_steps=10)
assert not any(name.startswith("nos_repro") for name in sys.modules)
from nos_repro import RuleOptimizer
ours = RuleOptimizer([q], RULE, 0.1, total_steps=10, foreach=False)
for _ in range(4):
    p.grad, q.grad = p.detach().sin(), q.detach().sin()
    theirs.step()
    ours.step()
assert torch.equal(p, q)
"""
SEARCH = """
search: mine
source: nowhere
claim: a new word is tried
space: {operands: [g, m, g4], unary: [identity, tanh], binary: [max, "*"], iterations: 1}
algorithm: {name: random}
child:
  task: {name: convnet, data: digits, train_images: 100, batch_size: 50}
  sweep: {train_images: 50}
  rates: [0.1]
  sweep_epochs: 1
  epochs: 1
scales:
  smoke: {samples: 8}
"""


def test_rules_with_it_are_read_printed_compared_and_written_as_tokens(copy: Path) -> None:
    run(copy, "-c", f"RULES = {RULES}\n{LANGUAGE}")


def test_the_three_executions_do_what_torch_does(copy: Path) -> None:
    run(copy, "-c", f"RULE = {RULES[-1]!r}\n{EXECUTIONS}")


def test_the_command_line_explains_it(copy: Path) -> None:
    said = run(copy, "-m", "nos_repro", "rule", "tanh(g4 * m)")
    assert r"\tanh(g^4 * \hat{m})" in said
    assert "g4: its fourth power" in said
    assert "tanh(g4 * m)" in said


def test_the_exported_file_runs_alone(copy: Path) -> None:
    written = run(copy, "-m", "nos_repro", "export", f"rule: {RULES[-1]}", "--name", "Mine")
    (copy / "my_optimizer.py").write_text(written, encoding="utf-8")
    run(copy, "-c", f"RULE = {RULES[-1]!r}\n{EXPORTED}")


def test_a_search_whose_space_names_it_tries_it(copy: Path) -> None:
    file = copy / "mine.yaml"
    file.write_text(SEARCH, encoding="utf-8")
    run(copy, "-m", "nos_repro", "search", str(file), "--scale", "smoke", "--results", "results")
    log = (copy / "results" / "mine" / "smoke" / "log.jsonl").read_text(encoding="utf-8")
    assert "tanh(" in log
    assert "max(" in log
