"""Optimizers from elsewhere and several in one, in studies: read, trained, stopped, reported."""

# ruff: noqa: E501 a row of a table is a line

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from nos_repro.cli import main
from nos_repro.errors import ConfigError
from nos_repro.experiments.build import Conditions
from nos_repro.experiments.code import trial_code
from nos_repro.experiments.files import write_json
from nos_repro.experiments.grid import points, sweep_trial
from nos_repro.experiments.load import load_study
from nos_repro.experiments.optimizer_facts import facts_of
from nos_repro.experiments.parameters import group_lines, model_parameters
from nos_repro.experiments.runner import run_trial
from nos_repro.experiments.schema import Row
from nos_repro.experiments.trained import load_trained
from nos_repro.experiments.training import Stopped
from nos_repro.experiments.trial import Trial
from nos_repro.report.study.rows import values_per_parameter
from tests.experiments.helpers import TASK, digits_trial, filled

HERE = Conditions(Path("unused"))
MUON = {
    "split": {
        "kernels": {"name": "torch.optim.Muon", "flatten": True},
        "rest": {"name": "torch.optim.AdamW", "betas": [0.9, 0.95]},
    },
    "groups": {"no_decay": ["norms", "biases"], "rates": {"kernels": 5}},
}
MIXED = {"split": {"kernels": "schedulefree.SGDScheduleFree", "heads": "powersign-ld",
                   "rest": "rule: g + noise"}}  # fmt: skip
# fmt: off
RESUMED: list[tuple[str, dict[str, Any], str]] = [
    ("torch.optim.AdamW",              {"betas": [0.9, 0.95]},      "torch"),
    ("split",                          MUON,                        "torch"),
    ("schedulefree.AdamWScheduleFree", {"warmup_steps": 3},         "schedulefree"),
    ("pytorch_optimizer.SOAP",         {"precondition_frequency": 3, "max_precondition_dim": 64}, "pytorch_optimizer"),
    ("torch.optim.NAdam",              {},                          "torch"),
    ("torch.optim.Adafactor",          {"groups": MUON["groups"]},  "torch"),
    ("split",                          MIXED,                       "schedulefree"),
]
"""The optimizer, its options, the package that brings it; slow from the fifth on."""
# fmt: on


class Moody(torch.optim.SGD):
    """Has to be told what comes next."""

    def train(self) -> None: ...

    def eval(self) -> None: ...


def named(named_parameters: Any, *, lr: float, weight_decay: float = 0.0) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for _, p in named_parameters], lr=lr, weight_decay=weight_decay)


def trial_of(optimizer: str, options: dict[str, Any], **changes: Any) -> Trial:
    given = {"lr": 0.003, "weight_decay": 0.01, "schedule": "cosine", **changes}
    task = filled(train_images=100, batch_size=20)
    return digits_trial(optimizer=optimizer, options=options, task_settings=task, **given)


def record_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "record.json").read_text())
    return found


def run_stopping(trial: Trial, folder: Path, after: int) -> list[str]:
    """Runs the trial, stopped after that many updates each time; returns the notes."""
    said: list[str] = []
    for _ in range(10):
        asked = itertools.count(1)
        try:
            said += run_trial(trial, folder, HERE, stop=lambda: next(asked) == after)[1]  # noqa: B023
        except Stopped:
            continue
        return said
    raise AssertionError("it never ends")


@pytest.mark.parametrize(
    ("optimizer", "options", "package"),
    [*RESUMED[:4], *(pytest.param(*each, marks=pytest.mark.slow) for each in RESUMED[4:])],
)
def test_a_trial_that_is_stopped_and_resumed_is_the_one_that_never_stopped(
    optimizer: str, options: dict[str, Any], package: str, tmp_path: Path
) -> None:
    pytest.importorskip(package)
    trial = trial_of(optimizer, options)
    run_trial(trial, tmp_path / "whole", HERE)
    assert run_stopping(trial, tmp_path / "parts", 3) == []
    whole, parts = record_of(tmp_path / "whole"), record_of(tmp_path / "parts")
    assert (whole["status"], whole["steps"]) == ("finished", 10), whole["traceback"]
    assert parts["metrics"] == whole["metrics"]
    one, other = (
        torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)["model"]
        for name in ("whole", "parts")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_trial_whose_optimizer_cannot_go_on_starts_over_and_its_record_says_so(
    tmp_path: Path,
) -> None:
    trial = trial_of("tests.optim.test_tryout.Counts", {}, weight_decay=0.0)
    with pytest.raises(Stopped):
        run_trial(trial, tmp_path / "parts", HERE, stop=lambda: True)
    _, notes = run_trial(trial, tmp_path / "parts", HERE)
    assert "the interrupted trial starts over: tests.optim.test_tryout.Counts" in notes[0]
    run_trial(trial, tmp_path / "whole", HERE)
    whole, parts = record_of(tmp_path / "whole"), record_of(tmp_path / "parts")
    assert parts["metrics"] == whole["metrics"]
    assert "lacks something" in whole["provenance"]["starts_over"]


def test_a_record_says_whose_optimizer_it_was(tmp_path: Path) -> None:
    run_trial(trial_of("split", MUON), tmp_path / "split", HERE)
    muon, adamw = record_of(tmp_path / "split")["provenance"]["optimizers"]
    assert (muon["class"], muon["package"]) == ("torch.optim.Muon", "torch")
    assert muon["version"] == torch.__version__.partition("+")[0]
    assert adamw["options"]["betas"] == [0.9, 0.95]
    run_trial(digits_trial(), tmp_path / "ours", HERE)
    assert "optimizers" not in record_of(tmp_path / "ours")["provenance"]


def test_what_uses_the_trained_model_gets_the_weights_that_were_evaluated(tmp_path: Path) -> None:
    pytest.importorskip("schedulefree")
    trial = trial_of("schedulefree.SGDScheduleFree", {})
    write_json(tmp_path / "settings.json", trial.to_json())
    run_trial(trial, tmp_path, HERE)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    task, _ = load_trained(tmp_path, Path("unused"))
    weight = dict(task.named_parameters())["model.8.weight"]
    assert torch.equal(weight, state["evaluated"]["model.8.weight"])
    assert not torch.equal(weight, state["model"]["model.8.weight"])


def test_a_trial_s_code_is_that_of_all_its_optimizers() -> None:
    """So a change of one of them makes the record stale."""
    ours = {"split": {"kernels": "powersign", "rest": "adam"}}
    other = {"split": {"kernels": "addsign", "rest": "adam"}}
    codes = {trial_code(trial_of("split", each).to_json()) for each in (ours, other, MUON)}
    assert len(codes) == 3
    plain = trial_of("adam", {}).to_json()
    assert trial_code(plain) != trial_code(trial_of("adam", {"groups": {}}).to_json())


STUDY = f"""
study: any
task: {{name: convnet, {", ".join(f"{key}: {value}" for key, value in TASK.items())}}}
training: {{epochs: 1}}
sweep: {{lr: [0.003], weight_decay: [0.01]}}
selection: {{repeats: 1}}
rows:
"""
# fmt: off
WRONG = [
    ("no_such_package.SOAP",                                "no Python module 'no_such_package.SOAP'"),
    ("torch.optim.AdmaW",                                   "(?s)no optimizer 'AdmaW'.*did you mean 'AdamW'"),
    ("torch.nn.Linear",                                     "is a class, but not a torch.optim.Optimizer"),
    ("{name: torch.optim.AdamW, betes: [0.9, 0.95]}",       "(?s)unknown option.*did you mean 'betas'"),
    ("{name: torch.optim.AdamW, eps: big}",                 "torch.optim.AdamW': eps must be a number"),
    ("torch.optim.LBFGS",                                   "calls a closure"),
    ("tests.optim.test_tryout.NeedsModel",                  "needs the model itself"),
    ("torch.optim.Rprop",                                   "sweep.weight_decay: optimizer 'torch.optim.Rprop' takes no"),
    ("torch.optim.Muon",                                    "(?s)takes only matrices, and model.0.weight is 32x3x3x3.*split: .matrices"),
    ("{split: {kernels: torch.optim.Muon, rest: adam}}",    r"split\.kernels: .*takes only matrices"),
    ("{split: {matrices: torch.optim.Muon, rest: adam}}",   r"split\.matrices: the model has no matrices; it has 2 kernels"),
    ("{split: {layer*: adam, rest: adam}}",                 r"no parameter's name matches 'layer\*'"),
    ("{split: {kernels: adam, model.0.*: adam, rest: sgd}}", r"model\.0\.weight is claimed twice"),
    ("{split: {kernels: split, rest: adam}}",               r"split\.kernels: a part cannot be split again"),
    ("{split: {kernels: adam, rest: {name: adam, flatten: true}}}", r"split\.rest: flatten: true makes matrices of kernels, and model\.3\.weight is 32"),
    ("{split: {kernels: {name: tests.experiments.test_any_optimizer.Moody, flatten: true}, rest: adam}}", r"split\.kernels: .*Moody' has train\(\) and eval\(\), and cannot be combined with flatten"),
    ("{name: torch.optim.AdamW, mark: {lr: 5}}",            "mark: 'lr' follows from the row"),
    ("{split: {kernels: {name: torch.optim.AdamW, mark: {weight_decay: 5}}, rest: adam}}", r"split\.kernels: mark: 'weight_decay' follows"),
    ("{name: tests.experiments.test_any_optimizer.named, groups: {no_decay: [biases]}}", "named' makes its own groups; leave out `groups`"),
    ("{split: {kernels: 'rule: language 2: orthogonal(g)', rest: adam}}", '(?s)takes only matrices.*matrices: "rule: language 2: orthogonal'),
    ("{split: {biases: torch.optim.Rprop, rest: adam}}",    r"sweep.weight_decay: split\.biases: optimizer 'torch.optim.Rprop' takes no"),
    ("{name: adam, groups: {no_decay: [lm_head]}}",         r"groups\.no_decay: no parameter's name matches"),
    ("{name: adam, split: {rest: adam}}",                   "unknown option of adam: 'split'"),
]
# fmt: on


@pytest.mark.parametrize(("optimizer", "says"), WRONG)
def test_an_impossible_optimizer_is_one_error_when_the_file_is_read(
    optimizer: str, says: str, tmp_path: Path
) -> None:
    path = tmp_path / "any.yaml"
    path.write_text(f"{STUDY}  New: {{optimizer: {optimizer}}}\n")
    with pytest.raises(ConfigError, match=says) as refused:
        load_study(path, scale="default")
    assert "rows.New: " in str(refused.value)


def test_the_command_line_names_a_class_and_a_split(tmp_path: Path) -> None:
    path = tmp_path / "any.yaml"
    path.write_text(f"{STUDY}  A: {{optimizer: adam}}\n")
    words = ["rows.A.optimizer.name=torch.optim.AdamW", "rows.A.optimizer.betas=[0.8, 0.9]"]
    row = load_study(path, scale="default", overrides=words).rows["A"]
    assert (row.optimizer, row.options) == ("torch.optim.AdamW", {"betas": [0.8, 0.9]})
    words = ["rows.A.optimizer={split: {kernels: sgd, rest: adam}}"]
    row = load_study(path, scale="default", overrides=words).rows["A"]
    assert (row.optimizer, row.options) == ("split", {"split": {"kernels": "sgd", "rest": "adam"}})


def test_a_word_changes_an_option_of_a_part_that_is_a_bare_name(tmp_path: Path) -> None:
    path = tmp_path / "any.yaml"
    path.write_text(f"{STUDY}  A: {{optimizer: {{split: {{kernels: sgd, rest: adam}}}}}}\n")
    words = ["rows.A.optimizer.split.rest.eps=1.0e-4"]
    row = load_study(path, scale="default", overrides=words).rows["A"]
    assert row.options == {"split": {"kernels": "sgd", "rest": {"name": "adam", "eps": 1e-4}}}


def test_one_optimizer_takes_the_place_of_a_split(tmp_path: Path) -> None:
    path = tmp_path / "any.yaml"
    path.write_text(f"{STUDY}  A: {{optimizer: {{split: {{kernels: sgd, rest: adam}}}}}}\n")
    with pytest.raises(ConfigError, match=r"(?s)unknown option of adam: 'split'.*split: null"):
        load_study(path, scale="default", overrides=["rows.A.optimizer=adam"])
    words = ["rows.A.optimizer={name: adam, split: null}"]
    row = load_study(path, scale="default", overrides=words).rows["A"]
    assert (row.optimizer, row.options) == ("adam", {})


def test_an_option_of_a_part_that_is_a_bare_name_can_be_swept(tmp_path: Path) -> None:
    path = tmp_path / "any.yaml"
    row = "optimizer: {split: {kernels: sgd, rest: adam}}"
    path.write_text(f"{STUDY}  A: {{{row}, sweep: {{lr: [0.1], split.rest.eps: [1.0e-8]}}}}\n")
    study = load_study(path, scale="default")
    (point,) = points(study, study.rows["A"])
    trial = sweep_trial(study, study.rows["A"], point)
    assert trial.options == {"split": {"kernels": "sgd", "rest": {"name": "adam", "eps": 1e-8}}}


def test_an_option_of_a_part_can_be_swept(tmp_path: Path) -> None:
    path = tmp_path / "any.yaml"
    row = "optimizer: {split: {kernels: sgd, rest: {name: adam}}}"
    sweep = "sweep: {lr: [0.1], split.rest.eps: [1.0e-8, 1.0e-4]}"
    path.write_text(f"{STUDY}  A: {{{row}, {sweep}}}\n")
    load_study(path, scale="default")
    path.write_text(f"{STUDY}  A: {{{row}, {sweep.replace('eps', 'esp')}}}\n")
    with pytest.raises(ConfigError, match="unknown option of adam: 'esp'"):
        load_study(path, scale="default")


def test_a_dry_run_counts_what_each_optimizer_gets() -> None:
    task = {"name": "convnet", **filled()}
    lines = group_lines(task, "split", MUON)
    assert lines == [
        "torch.optim.Muon: 2 tensors, 10,080 parameters (kernels), rate x 5",
        "torch.optim.AdamW: 5 tensors, 138 parameters (norms, biases), no weight decay",
        "torch.optim.AdamW: 1 tensor, 20,480 parameters (heads)",
    ]
    assert sum(each.size for each in model_parameters(task)) == 10_080 + 138 + 20_480
    assert group_lines(task, "adam", {}) == []


def test_a_split_keeps_the_mean_of_what_its_parts_keep() -> None:
    task = {"name": "convnet", **filled()}
    kept = values_per_parameter(Row("split", options=MUON), task)
    assert kept == pytest.approx((10_080 * 1 + (138 + 20_480) * 2) / (10_080 + 138 + 20_480))
    assert values_per_parameter(Row("adam", options={"groups": MUON["groups"]})) == 2


# fmt: off
OUTPUTS = {
    "convnet":     ({"data": "digits"}, {"model.8.weight"}),
    "wide_resnet": ({"data": "digits"}, {"model.23.weight"}),
    "mlp":         ({}, {"model.3.weight"}),
    "ptb_lstm":    ({}, set()),
    "gnmt":        ({}, {"network.classifier.weight"}),
    "nasnet":      ({}, {"model.classifier.weight", "model.auxiliary.classifier.weight"}),
    "rosenbrock":  ({}, set()),
}
# fmt: on


@pytest.mark.parametrize("task", OUTPUTS)
def test_each_task_says_which_weights_make_its_outputs(task: str) -> None:
    settings, expected = OUTPUTS[task]
    named = model_parameters({"name": task, **settings})
    assert {each.name for each in named if each.kind == "heads"} == expected
    assert all(each.kind for each in named)


def test_a_study_of_them_is_run_reported_and_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("schedulefree")
    monkeypatch.chdir(tmp_path)
    Path("any.yaml").write_text(
        f"{STUDY}  Muon: {{optimizer: {json.dumps(MUON)}}}\n"
        "  AdamW: {optimizer: {name: torch.optim.AdamW, betas: [0.9, 0.95]}}\n"
        "  Free: {optimizer: schedulefree.AdamWScheduleFree}\n"
    )
    assert main(["run", "any.yaml", "--workers", "0"]) == 0
    assert main(["report", "any.yaml"]) == 0
    capsys.readouterr()
    assert main(["why", "any.yaml:Muon"]) == 0
    said = capsys.readouterr().out
    version = torch.__version__.partition("+")[0]
    assert f"Optimizer torch.optim.Muon of torch {version}: weight_decay 0.01" in said
    assert "kernels:torch.optim.Muon rest:torch.optim.AdamW" in said
    assert "nothing is missing, stale or failed" in said
    monkeypatch.setattr(
        "nos_repro.experiments.optimizer_facts.package_version", lambda package: "99"
    )
    assert main(["why", "any.yaml:AdamW"]) == 0
    assert f"torch {version} made records, here it is 99" in capsys.readouterr().out
    assert main(["recheck", "any.yaml:Free"]) == 0
    assert "PASS" in capsys.readouterr().out


def test_what_an_optimizer_keeps_for_itself_is_no_option_in_a_record() -> None:
    """Those of heavyball keep their class among their defaults."""
    made = torch.optim.SGD([torch.zeros(2, requires_grad=True)], lr=0.1, momentum=0.9)
    made.defaults["__class__"] = torch.optim.SGD
    (facts,) = facts_of("torch.optim.SGD", {}, made, "")["optimizers"]
    assert facts["options"]["momentum"] == 0.9
    assert not [key for key in facts["options"] if key.startswith("_")]


def test_the_rules_of_a_split_are_in_the_study_s_language(tmp_path: Path) -> None:
    path = tmp_path / "any.yaml"
    split = '{split: {%s: "rule: orthogonal(m)", rest: adam}}'
    path.write_text(f"{STUDY}  A: {{optimizer: {split % 'heads'}}}\nlanguage: 2\n")
    options = load_study(path, scale="default").rows["A"].options
    assert options["split"] == {"heads": "rule: language 2: orthogonal(m)", "rest": "adam"}
    path.write_text(f"{STUDY}  A: {{optimizer: {split % 'kernels'}}}\nlanguage: 2\n")
    with pytest.raises(ConfigError, match=r"split\.kernels: .*orthogonal.* takes only matrices"):
        load_study(path, scale="default")
