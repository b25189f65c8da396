"""Searches and studies over the second edition: what they read, refuse, probe and go on with."""

import json
from pathlib import Path

import pytest

from nos_repro.errors import ConfigError, RuleError
from nos_repro.experiments.code import trial_roots
from nos_repro.experiments.grid import points, sweep_trial
from nos_repro.experiments.load import load_study
from nos_repro.rules.rule import Rule
from nos_repro.search.judging import negative
from nos_repro.search.probe import probe
from nos_repro.search.settings import load_search
from tests.search.helpers import Instant, loop, tiny_search

LION = "u <- 0.99 * u + 0.01 * g; sign(0.9 * old(u) + 0.1 * g)"
SEARCH = """
search: mine
claim: rules with states are found
language: 2
space:
  operands: [g, m, "velocity(g,0.9)"]
  unary: [identity, {unary}]
  binary: ["*", max]
  iterations: 1
algorithm: {{name: random}}
baselines: {{Lion: "{lion}", Adam: adam}}
child:
  task: {{name: {task}}}
  rates: [0.1]
scales:
  smoke: {{samples: 3}}
"""
STUDY = """
study: mine
claim: a rule with a state trains
language: 2
task: {{name: mlp}}
sweep: {{lr: [0.1]}}
rows:
  Mine: {{optimizer: "{rule}"}}
  PowerSign: {{optimizer: powersign-cd}}
  Adam: {{optimizer: torch.optim.Adam}}
scales:
  smoke: {{training: {{epochs: 1}}}}
"""
FLAT = """
from torch import nn
from nos_repro.tasks.mlp import MLP
from nos_repro.tasks.registry import TASKS


@TASKS.register("flat_task")
class Flat(MLP):
    def make_model(self, classes, size):
        side = self.settings.side
        return nn.Sequential(nn.Flatten(), nn.Linear(side * side, classes, bias=False))
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def search_file(tmp_path: Path, unary: str = "ema0.9", task: str = "mlp", lion: str = LION) -> Path:
    return written(tmp_path, SEARCH.format(unary=unary, task=task, lion=lion))


def test_a_search_says_which_edition_its_words_are_of(tmp_path: Path) -> None:
    path = search_file(tmp_path)
    search = load_search(path, scale="smoke")
    assert search.make_space().language == search.language == 2
    assert search.baselines == {"Lion": f"rule: {Rule.parse(LION, 2)}", "Adam": "adam"}
    with pytest.raises(ConfigError, match="unknown word in the space's operands 'velocity"):
        load_search(path, scale="smoke", overrides=["language=1"])
    with pytest.raises(ConfigError, match="language must be 1"):
        load_search(path, scale="smoke", overrides=["language=3"])
    with pytest.raises(ConfigError, match=r"space.language: 1: write it beside the space"):
        load_search(path, scale="smoke", overrides=["space.language=1"])


def test_a_word_of_matrices_is_refused_where_a_task_has_others(tmp_path: Path) -> None:
    path = search_file(tmp_path, "orthogonal")
    with pytest.raises(
        ConfigError, match=r"space: orthogonal takes matrices alone, and 2 of the 4"
    ):
        load_search(path, scale="smoke")
    text = f"rule: language 2: {LION}".replace("sign", "orthogonal")
    with pytest.raises(ConfigError, match=r"rows\.Mine: orthogonal takes matrices alone"):
        load_study(written(tmp_path, STUDY.format(rule=text)), scale="smoke")


def test_a_task_of_matrices_may_be_searched_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "flat_task.py").write_text(FLAT, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    search = load_search(search_file(tmp_path, "orthogonal", task="flat_task.Flat"), scale="smoke")
    assert "orthogonal" in search.make_space().unary


def test_a_study_says_which_edition_its_rules_are_of(tmp_path: Path) -> None:
    path = written(tmp_path, STUDY.format(rule=f"rule: {LION}"))
    study = load_study(path, scale="smoke")
    mine = study.rows["Mine"]
    assert mine.optimizer == f"rule: {Rule.parse(LION, 2)}"
    assert study.rows["PowerSign"].optimizer == "powersign-cd"
    assert study.rows["Adam"].optimizer == "torch.optim.Adam"
    trial = sweep_trial(study, mine, points(study, mine)[0]).to_json()
    roots, rule = trial_roots(trial)
    assert rule == str(Rule.parse(LION, 2))
    rows = {root.partition(":")[2] for root in roots if root.endswith("]")}
    assert rows == {"OPERANDS[g]", "UNARY[sign]", "BINARY[*]", "BINARY[+]"}
    roots, _ = trial_roots({**trial, "optimizer": "rule: language 2: max(average(g, 0.9), 0)"})
    rows = {root.partition(":")[2] for root in roots if root.endswith("]")}
    assert rows >= {"UNARY_2[average]", "BINARY_2[max]", "OPERANDS_2[step]", "BINARY[**]"}
    with pytest.raises(RuleError, match=r"rows.Mine: '<' is not allowed in a rule"):
        load_study(path, scale="smoke", overrides=["language=1"])
    with pytest.raises(ConfigError, match="language must be 1"):
        load_study(path, scale="smoke", overrides=["language=3"])
    plain = written(tmp_path, STUDY.format(rule="rule: g * exp(m)"))
    assert load_study(plain, scale="smoke").rows["Mine"].optimizer == "rule: g * exp(m)"
    wrong = written(tmp_path, STUDY.format(rule="powersing"))
    with pytest.raises(ConfigError, match=r"rows\.Mine: unknown optimizer 'powersing'"):
        load_study(wrong, scale="smoke")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("sign(mean(g2))", "constant"),
        ("velocity(w, 0.9)", "gradient-free"),
        ("unit(w) * step", "gradient-free"),
        ("-velocity(g, 0.9)", "no descent"),
        ("norm(g)", "no descent"),
        ("ema(g2, 0.9)", "no descent"),
        ("u <- 0.5 * u + g2; u", "no descent"),
        ("-orthogonal(g)", "no descent"),
    ],
)
def test_a_rule_that_cannot_train_is_refused_for_its_reason(text: str, reason: str) -> None:
    assert probe(Rule.parse(text, 2)) == reason


@pytest.mark.parametrize(
    "text",
    [
        *("velocity(g, 0.9)", "ema(g, 0.99)", "unit(g)", "orthogonal(g)", "mean(g)", "g - mean(g)"),
        *("max(g, 0)", "min(g, m)", "g * norm(w)", "orthogonal(ema(g, 0.9))", LION),
        "two <- one; one <- g; old(two)",
        "drop(ema(g, 0.9), 0.5) * step**-0.5",
    ],
)
def test_a_rule_that_may_train_is_left_to_training(text: str) -> None:
    assert probe(Rule.parse(text, 2)) is None


def test_the_probes_see_what_the_papers_language_would() -> None:
    for ours, theirs in {
        "average(g, 0.9)": "m",
        "average(g, 0.9) / sqrt(average(g * g, 0.999))": "adam",
        "-average(g, 0.9)": "-m",
        "average(g2, 0.999)": "v",
    }.items():
        assert probe(Rule.parse(ours, 2)) == probe(Rule.parse(theirs))


def test_a_negative_keeps_its_states() -> None:
    rule = Rule.parse(LION, 2)
    assert negative(negative(rule)) == rule
    assert str(negative(rule)) == f"{rule}".replace("; sign", "; -sign")


def test_an_interrupted_search_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    space = {
        "operands": ["g", "m", "velocity(g,0.9)", "ema(g,0.99)"],
        "unary": ["identity", "ema0.9", "unit", "sign"],
        "binary": ["*", "max", "keep_left"],
        "iterations": 2,
    }
    found = []
    for folder, parts in (("whole", [25]), ("parts", [9, 25])):
        for samples in parts:
            search = tiny_search(language=2, space=space, samples=samples)
            made = loop(tmp_path / folder, Instant(), search)
            made.run()
        lines = (tmp_path / folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
        events = [json.loads(line) for line in lines]
        judged = [e for e in events if e["event"] == "evaluated"]
        found.append([(e["sample"], e["rule"], e["key"], e["reward"]) for e in judged])
    assert found[0] == found[1]
    assert len(found[0]) == 25
    assert any(rule.startswith("language 2: ") for _, rule, *_ in found[0])
