"""From names to optimizers: what is found, what is refused and how."""

import math
from typing import Any

import pytest
import torch
from torch.nn import Parameter

from nos_repro.errors import ConfigError, RuleError
from nos_repro.optim import OPTIMIZERS, SCHEDULES
from nos_repro.optim.factory import (
    check_optimizer,
    check_schedule,
    make_optimizer,
)
from nos_repro.optim.families import AddSign, PowerSign
from nos_repro.optim.lookup import optimizer_names
from nos_repro.optim.rule_optimizer import RuleOptimizer
from nos_repro.rules.catalog import CATALOG


def make(name: str, **options: Any) -> torch.optim.Optimizer:
    return make_optimizer(name, [Parameter(torch.ones(3))], lr=0.1, total_steps=10, **options)


@pytest.mark.parametrize("name", optimizer_names())
def test_every_name_makes_an_optimizer_that_steps(name: str) -> None:
    p = Parameter(torch.ones(3))
    optimizer = make_optimizer(name, [p], lr=0.1, total_steps=10)
    p.grad = torch.full((3,), 0.5)
    optimizer.step()


def test_a_family_with_a_suffix_is_the_family_with_the_decay() -> None:
    optimizer = make("powersign-rd20")
    assert isinstance(optimizer, PowerSign)
    assert optimizer.rule_of(optimizer.param_groups[0]) == "exp(rd20 * (sign(g) * sign(m))) * g"
    assert isinstance(make("addsign-cd3", alpha=2.0), AddSign)


@pytest.mark.parametrize("name", ["rule: g * exp(m)", "rule:g*exp(m)", "g * exp(m)"])
def test_any_text_is_a_rule(name: str) -> None:
    optimizer = make(name, betas=[0.8, 0.99, 0.99], weight_decay=0.1, seed=3)
    assert isinstance(optimizer, RuleOptimizer)
    group = optimizer.param_groups[0]
    assert (group["rule"], group["weight_decay"], group["seed"]) == ("g * exp(m)", 0.1, 3)


def test_a_baselines_name_is_torchs_class_and_its_rule_is_asked_for_by_rule() -> None:
    assert isinstance(make("adam"), torch.optim.Adam)
    assert isinstance(make("rule: adam"), RuleOptimizer)


def test_a_catalogue_name_is_its_rule() -> None:
    name = next(name for name in CATALOG if name.startswith("table6-1"))
    assert make(name).param_groups[0]["rule"] == str(CATALOG[name].rule)


@pytest.mark.parametrize(
    ("name", "guess"), [("adma", "adam"), ("powersgn", "powersign"), ("Momentun", "momentum")]
)
def test_an_unknown_name_is_answered_with_the_nearest(name: str, guess: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){name}.*did you mean '{guess}'.*rule:"):
        check_optimizer(name)


def test_an_unknown_decay_is_answered_with_the_choice() -> None:
    with pytest.raises(ConfigError, match=r"(?s)powersign-xd.*unknown decay 'xd'.*cd\{n\}"):
        check_optimizer("powersign-xd")


@pytest.mark.parametrize("name", ["adam-ld", "rmsprop-cd", "sgd-ld", "rmsprop-tf-rd20"])
def test_a_baseline_with_a_decay_in_its_name_is_not_taken_for_a_difference(name: str) -> None:
    decay = name.rpartition("-")[2]
    with pytest.raises(ConfigError, match=rf"takes no decay in its name.*'rule: adam \* {decay}'"):
        check_optimizer(name)
    check_optimizer(f"rule: adam - {decay}")


@pytest.mark.parametrize("name", ["sgn(g)", "rule: sgn(g) * m", "rule: g +"])
def test_an_error_in_a_rule_passes_through(name: str) -> None:
    with pytest.raises(RuleError):
        check_optimizer(name)


@pytest.mark.parametrize(
    ("name", "option"),
    [("sgd", "momentum"), ("powersign", "bas"), ("powersign-ld", "decay"), ("g * m", "base")],
)
def test_an_unknown_option_is_answered_with_the_choice(name: str, option: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s)unknown option.*'{option}'.*one of:"):
        check_optimizer(name, **{option: 0.5})


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("adam", {"betas": "x"}),
        ("adam", {"betas": [2.0, 3.0]}),
        ("adam", {"eps": -1.0}),
        ("powersign", {"beta": "x"}),
        ("powersign", {"base": "x"}),
        ("addsign", {"alpha": [1]}),
        ("g * m", {"betas": 0.9}),
    ],
)
def test_an_impossible_value_is_refused(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        check_optimizer(name, **options)


@pytest.mark.parametrize("lr", [0.0, -1.0, math.nan, math.inf, "0.1"])
def test_an_impossible_rate_is_refused(lr: Any) -> None:
    with pytest.raises(ConfigError, match="lr"):
        make_optimizer("sgd", [Parameter(torch.ones(3))], lr=lr)


def test_a_decay_needs_total_steps() -> None:
    with pytest.raises(RuleError, match="total_steps"):
        make_optimizer("powersign-ld", [Parameter(torch.ones(3))], lr=0.1)


def test_an_optimizer_registered_by_a_script_is_found_with_its_options() -> None:
    @OPTIMIZERS.register("test-plain")
    def plain(params: Any, *, lr: float, nudge: float = 0.0) -> torch.optim.Optimizer:
        return torch.optim.SGD(params, lr=lr + nudge)

    assert make("test-plain", nudge=0.5).param_groups[0]["lr"] == 0.6
    with pytest.raises(ConfigError, match="weight_decay"):
        make("test-plain", weight_decay=0.1)
    with pytest.raises(ConfigError, match=r"'adam' of .*test_factory is already registered by nos"):
        OPTIMIZERS.register("adam")(plain)


def test_a_dotted_path_names_a_class_whose_keywords_are_its_options() -> None:
    optimizer = make("torch.optim.AdamW", betas=[0.8, 0.9], weight_decay=0.25)
    assert type(optimizer) is torch.optim.AdamW
    assert optimizer.param_groups[0]["betas"] == (0.8, 0.9)
    assert optimizer.param_groups[0]["weight_decay"] == 0.25
    with pytest.raises(ConfigError, match=r"(?s)option of torch\.optim\.AdamW: 'beta'.*'betas'"):
        check_optimizer("torch.optim.AdamW", beta=0.5)


def test_an_optimizer_of_matrices_alone_is_not_refused_before_there_are_parameters() -> None:
    check_optimizer("torch.optim.Muon", momentum=0.5)
    with pytest.raises(ConfigError, match="Muon only supports 2D parameters"):
        make("torch.optim.Muon")


def test_what_a_dotted_path_names_must_be_an_optimizer() -> None:
    with pytest.raises(ConfigError, match=r"optimizer: no Python module 'no_such\.module'"):
        check_optimizer("no_such.module")
    with pytest.raises(ConfigError, match=r"no optimizer 'AdmaW' in torch\.optim"):
        check_optimizer("torch.optim.AdmaW")
    with pytest.raises(
        ConfigError, match=r"torch\.optim must define one optimizer, not 2: say which"
    ):
        check_optimizer("torch.optim")
    with pytest.raises(ConfigError, match=r"(?s)math\.sqrt: .*got an unexpected .* 'lr'"):
        check_optimizer("math.sqrt")
    with pytest.raises(
        ConfigError, match=r"math\.pi: expected a function \(params, \*, lr, \.\.\.\)"
    ):
        check_optimizer("math.pi")


def test_names_reach_the_optimizer_that_asks_for_them_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(OPTIMIZERS, "_entries", dict(OPTIMIZERS._entries))

    @OPTIMIZERS.register("test-by-name")
    def by_name(named_parameters: Any, *, lr: float, weight_decay: float) -> torch.optim.Optimizer:
        kinds: dict[bool, list[Parameter]] = {True: [], False: []}
        for name, parameter in named_parameters:
            kinds[name.endswith("bias")].append(parameter)
        groups = [{"params": kinds[True], "weight_decay": 0.0}, {"params": kinds[False]}]
        return torch.optim.SGD(groups, lr=lr, weight_decay=weight_decay)

    model = torch.nn.Linear(2, 2)
    made = make_optimizer("test-by-name", model.named_parameters(), lr=1.0, weight_decay=0.5)
    assert [(g["params"], g["weight_decay"]) for g in made.param_groups] == [
        ([model.bias], 0.0), ([model.weight], 0.5)
    ]  # fmt: skip
    grouped = [{"params": model.named_parameters(), "lr": 9.0}]
    assert make_optimizer("test-by-name", grouped, lr=1.0).param_groups[0]["lr"] == 1.0
    for name in ("adam", "powersign", "torch.optim.SGD"):
        made = make_optimizer(name, grouped, lr=1.0)
        assert made.param_groups[0]["lr"] == 9.0
        assert "param_names" not in made.param_groups[0]
        grouped = [{"params": model.named_parameters(), "lr": 9.0}]
    with pytest.raises(ConfigError, match="needs the names of the parameters"):
        make_optimizer("test-by-name", model.parameters(), lr=1.0)


@pytest.mark.parametrize("made", [1.0, lambda t: None])
def test_a_schedule_that_gives_no_factor_is_refused_before_training(made: Any) -> None:
    SCHEDULES.register("test-no-factor")(lambda *, total_steps: made)
    with pytest.raises(ConfigError, match=r"'test-no-factor': expected a function from the step"):
        check_schedule("test-no-factor")
