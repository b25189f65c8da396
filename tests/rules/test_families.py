"""A family is one row: every decay, every constant, and a new one that the whole suite knows."""

import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nos_repro.errors import ConfigError, RuleError
from nos_repro.rules.families import FAMILIES, family_of, find_family
from nos_repro.rules.rule import Rule
from tests.conftest import ROOT

POWERSIGN, ADDSIGN = FAMILIES["powersign"], FAMILIES["addsign"]


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (POWERSIGN.rule(), "exp(sign(g) * sign(m)) * g"),
        (POWERSIGN.rule("ld"), "exp(ld * (sign(g) * sign(m))) * g"),
        (POWERSIGN.rule("rd7", base=2), "2**(rd7 * (sign(g) * sign(m))) * g"),
        (ADDSIGN.rule(), "(1 + sign(g) * sign(m)) * g"),
        (ADDSIGN.rule("cd3", alpha=0), "(0 + cd3 * (sign(g) * sign(m))) * g"),
        (ADDSIGN.rule(alpha=-0.5), "(neg(0.5) + sign(g) * sign(m)) * g"),
    ],
)
def test_a_family_is_its_formula_with_a_decay_and_constants(rule: Rule, text: str) -> None:
    """Exactly the trees that saved optimizers hold."""
    assert rule == Rule.parse(text)
    assert str(rule) == text


def test_a_name_is_a_family_and_its_decay() -> None:
    assert find_family("powersign") == (POWERSIGN, None)
    assert find_family("addsign-rd20") == (ADDSIGN, "rd20")
    assert find_family("adam") is None
    assert find_family("powersignal-ld") is None


@pytest.mark.parametrize("text", ["g * exp(sign(m) * sign(g) * ld)", "exp(ld*sign(m)*sign(g))*g"])
def test_a_rule_of_a_family_is_known_in_any_form(text: str) -> None:
    assert family_of(Rule.parse(text)) == (POWERSIGN, "ld")
    assert family_of(Rule.parse(f"{text} * 2")) is None


@pytest.mark.parametrize("base", [0.0, -1.0, math.inf, math.nan])
def test_an_impossible_constant_is_refused(base: float) -> None:
    with pytest.raises(ConfigError, match="base must be a finite number > 0"):
        POWERSIGN.rule(base=base)
    with pytest.raises(ConfigError, match="alpha must be a finite number, got nan"):
        ADDSIGN.rule(alpha=math.nan)


@pytest.mark.parametrize("decay", ["", "xd", "cd0", "noise", "g"])
def test_an_unknown_decay_is_refused_with_the_choice(decay: str) -> None:
    with pytest.raises(RuleError, match=r"unknown decay.*\n.*rd\{n\}"):
        POWERSIGN.rule(decay)


ROW = '    Family("mixsign", "MixSign", "sign(f * m + mix * g)", (Constant("mix", 1.0),)),\n'
STUDY = """
study: mine
source: a test
claim: MixSign runs.
task: {name: rosenbrock}
training: {epochs: 1}
sweep: {lr: [0.01]}
selection: {by: final_val, repeats: 0}
columns: {final_val: Final loss}
rows:
  Mix: {optimizer: mixsign-cd, options: {mix: 0.5}}
scales: {small: {}}
"""
TRIAL = """
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO

import torch

from nos_repro import RuleOptimizer, make_optimizer
from nos_repro.cli import main


def walk(make):
    w = torch.nn.Parameter(torch.linspace(-2, 3, 7))
    optimizer = make([w])
    for _ in range(5):
        w.grad = torch.cos(w.detach() * 3)
        optimizer.step()
    return w.detach()


def same(name, constants, text, options):
    ours = walk(lambda p: make_optimizer(name, p, lr=0.1, total_steps=5, **constants, **options))
    rule = walk(lambda p: RuleOptimizer(p, text, 0.1, total_steps=5, **options))
    assert torch.equal(ours, rule), name


def says(line, *expected, status=0):
    with redirect_stdout(StringIO()) as text, redirect_stderr(text):
        assert main(line.split()) == status, text.getvalue()
    for words in expected:
        assert words in text.getvalue(), text.getvalue()


same("mixsign", {}, "sign(m + 1 * g)", {})
same("mixsign-ld", {"mix": 0.5}, "sign(ld * m + 0.5 * g)", {})
same("mixsign-rd20", {}, "sign(rd20 * m + 1 * g)", {"betas": (0.5, 0.9, 0.9)})

family = "mixsign-ld: sign(f * m + mix * g) with f = ld, mix = 1"
says("rule mixsign-ld", "sign(ld * m + 1 * g)", family)
says("export mixsign-rd20", "class MixSignRd20(Optimizer):")
says("run mine.yaml --scale small", "Mix")

says("rule mixsing-ld", "did you mean the name 'mixsign-ld'?", status=2)
says("rule mixsign-xd", "unknown decay 'xd'", status=2)
wrong = "run mine.yaml --scale small rows.Mix.optimizer"
says(f"{wrong}=mixsgn", "did you mean 'mixsign'?", status=2)
says(f"{wrong}=mixsign-xd", "unknown decay 'xd'", status=2)
says(f"{wrong}=mixsign-cd rows.Mix.options.mx=1", "did you mean 'mix'?", status=2)
"""


@pytest.mark.slow
def test_a_family_added_as_one_row_is_known_everywhere(tmp_path: Path) -> None:
    """In a copy of the package: the factory, the verbs rule, export and run, and their errors."""
    shutil.copytree(ROOT / "nos_repro", tmp_path / "nos_repro")
    module = tmp_path / "nos_repro" / "rules" / "families.py"
    source, head = module.read_text(encoding="utf-8"), "FAMILIES = Table(\n"
    assert source.count(head) == 1
    module.write_text(source.replace(head, head + ROW), encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(STUDY, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", TRIAL],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
