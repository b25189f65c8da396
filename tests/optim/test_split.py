"""Several optimizers in one, and groups: against the same optimizers made by hand."""

# ruff: noqa: E501 a row of a table is a line

import copy
import itertools
import pickle
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import Parameter
from torch.nn import functional as F
from torch.optim import SGD, AdamW, Muon

from nos_repro import RuleOptimizer, make_optimizer, make_schedule
from nos_repro.errors import ConfigError
from nos_repro.optim.factory import check_optimizer
from nos_repro.optim.kinds import kind_of, mark_kinds
from nos_repro.optim.modes import has_modes
from nos_repro.optim.split import SplitOptimizer

MATRICES = {"matrices": "torch.optim.Muon", "rest": "torch.optim.AdamW"}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed_text = nn.Embedding(7, 6)
        self.conv = nn.Conv1d(6, 6, 3, padding=1)
        self.hidden = nn.Linear(6, 5)
        self.norm = nn.LayerNorm(5)
        self.scale = Parameter(torch.tensor(1.0))
        self.output = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(self.embed_text(x).transpose(1, 2)).mean(2)
        return self.output(self.norm(self.hidden(x)) * self.scale)


def net() -> Net:
    torch.manual_seed(0)
    made = Net()
    mark_kinds(made)
    return made


def train(model: nn.Module, steps: range, *others: Any) -> None:
    """Updates with the same batches by the number of the step."""
    for step in steps:
        random = torch.Generator().manual_seed(step)
        x = torch.randint(7, (8, 4), generator=random)
        y = torch.randint(3, (8,), generator=random)
        model.zero_grad()
        F.cross_entropy(model(x), y).backward()
        for each in others:
            each.step()


def made(model: nn.Module, name: str = "split", **options: Any) -> Any:
    given = {"lr": 0.01, "weight_decay": 0.1, "total_steps": 20, **options}
    return make_optimizer(name, model.named_parameters(), **given)


def assert_same(one: nn.Module, other: nn.Module) -> None:
    for (name, a), b in zip(one.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b), name


def of(model: nn.Module, *kinds: str) -> list[Parameter]:
    return [p for p in model.parameters() if kind_of(p) in kinds]


def test_each_parameter_has_its_kind() -> None:
    kinds = {name: kind_of(p) for name, p in net().named_parameters()}
    assert kinds == {
        "scale": "norms", "embed_text.weight": "embeddings", "conv.weight": "kernels",
        "conv.bias": "biases", "hidden.weight": "matrices", "hidden.bias": "biases",
        "norm.weight": "norms", "norm.bias": "biases", "output.weight": "heads",
        "output.bias": "biases",
    }  # fmt: skip


def test_a_split_is_its_optimizers_side_by_side() -> None:
    ours, theirs = net(), net()
    split = made(ours, split=MATRICES)
    matrices = of(theirs, "matrices")
    rest = [p for p in theirs.parameters() if p is not theirs.hidden.weight]
    pair = Muon(matrices, lr=0.01, weight_decay=0.1), AdamW(rest, lr=0.01, weight_decay=0.1)
    train(ours, range(8), split)
    train(theirs, range(8), *pair)
    assert_same(ours, theirs)
    assert len(split.param_groups) == 2
    assert split.state.keys() == set(ours.parameters())
    split.zero_grad()
    assert all(p.grad is None for p in ours.parameters())


def test_a_schedule_moves_every_rate_relative_to_its_own() -> None:
    model = net()
    rates = {"matrices": 10, "output.*": 0.5}
    split = made(model, split=MATRICES, groups={"rates": rates, "no_decay": ["norms", "biases"]})
    schedule = make_schedule("cosine", split, total_steps=4)
    train(model, range(2), split, schedule)
    half = [(round(g["lr"], 9), g["weight_decay"]) for g in split.param_groups]
    assert half == [(0.05, 0.1), (0.005, 0.0), (0.005, 0.1), (0.0025, 0.1), (0.0025, 0.0)]
    sizes = [len(group["params"]) for group in split.param_groups]
    assert sizes == [1, 5, 2, 1, 1]


@pytest.mark.parametrize("name", ["adam", "powersign", "torch.optim.AdamW", "rule: g * exp(m)"])
def test_groups_are_torchs_groups(name: str) -> None:
    ours, theirs = net(), net()
    groups = {"rates": {"embeddings": 0.1}, "no_decay": ["norms", "biases"]}
    mine = made(ours, name, groups=groups)
    plain = of(theirs, "kernels", "matrices", "heads")
    other = make_optimizer(
        name,
        [
            {"params": plain},
            {"params": of(theirs, "norms", "biases"), "weight_decay": 0.0},
            {"params": of(theirs, "embeddings"), "lr": 0.001},
        ],
        lr=0.01, weight_decay=0.1, total_steps=20,
    )  # fmt: skip
    train(ours, range(6), mine)
    train(theirs, range(6), other)
    assert_same(ours, theirs)
    assert type(mine) is type(other)


def test_kernels_can_be_seen_as_matrices() -> None:
    """Against Muon on a linear layer that does what the convolution does."""
    kernel = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    for order in (torch.contiguous_format, torch.channels_last):
        conv = nn.Conv2d(3, 4, 2, bias=False).to(memory_format=order)
        line = nn.Linear(12, 4, bias=False)
        with torch.no_grad():
            conv.weight.copy_(kernel)
            line.weight.copy_(kernel.flatten(1))
        mark_kinds(conv, heads=())
        parts = {"kernels": {"name": "torch.optim.Muon", "flatten": True}}
        ours = make_optimizer("split", conv.named_parameters(), lr=0.1, split=parts)
        theirs = Muon(line.parameters(), lr=0.1, weight_decay=0.0)
        schedules = [make_schedule("cosine", each, total_steps=5) for each in (ours, theirs)]
        for step in range(4):
            g = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(step))
            conv.weight.grad = g.to(memory_format=order)
            line.weight.grad = g.flatten(1).clone()
            for each in (ours, theirs, *schedules):
                each.step()
        assert torch.equal(conv.weight.flatten(1), line.weight)
        assert ours.param_groups[0]["params"] == [conv.weight]


def test_a_split_goes_on_from_its_state() -> None:
    parts = {
        "kernels": {"name": "torch.optim.Muon", "flatten": True},
        "biases": "rule: drop(g, 0.3) + noise * g",
        "rest": {"name": "adam", "betas": [0.8, 0.9]},
    }
    groups = {"rates": {"hidden.*": 2}}
    whole, first, second = net(), net(), net()
    train(whole, range(6), made(whole, split=parts, groups=groups, seed=1))
    before = made(first, split=parts, groups=groups, seed=1)
    train(first, range(3), before)
    after = made(second, split=parts, groups=groups, seed=1)
    second.load_state_dict(first.state_dict())
    after.load_state_dict(before.state_dict())
    assert [g["lr"] for g in after.param_groups] == [g["lr"] for g in before.param_groups]
    train(second, range(3, 6), after)
    assert_same(second, whole)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
def test_a_copy_of_a_split_goes_on_as_the_split_does(again: Any) -> None:
    parts = {
        "kernels": {"name": "torch.optim.Muon", "flatten": True},
        "biases": "rule: g + noise",
        "rest": "rule: drop(g, 0.3) + noise",
    }
    model = net()
    split = made(model, split=parts, groups={"rates": {"kernels": 2}}, seed=1)
    train(model, range(3), split)
    other, copied = again((model, split))
    for group in [*split.param_groups, *copied.param_groups]:
        group["lr"] *= 0.5
    train(model, range(3, 6), split)
    train(other, range(3, 6), copied)
    assert_same(other, model)


def test_a_copy_of_a_split_still_has_to_be_told_what_comes_next() -> None:
    class Moody(SGD):
        evaluates = False

        def train(self) -> None:
            self.evaluates = False

        def eval(self) -> None:
            self.evaluates = True

    one, two = (Moody([Parameter(torch.ones(1))], lr=0.1) for _ in range(2))
    copied = copy.deepcopy(SplitOptimizer([one, two]))
    assert has_modes(copied)
    copied.eval()
    assert [part.evaluates for part in (*copied.parts, one)] == [True, True, False]


def test_the_state_of_one_optimizer_is_refused_by_a_split() -> None:
    model = net()
    with pytest.raises(ConfigError, match="belongs to one optimizer"):
        made(model, split=MATRICES).load_state_dict(AdamW(model.parameters()).state_dict())


def test_rules_of_two_parts_draw_different_numbers() -> None:
    rule = "rule: g + noise"
    model = nn.ParameterDict({name: torch.zeros(50) for name in "ab"})
    parts = {"a": rule, "b": rule}
    optimizer = make_optimizer("split", model.named_parameters(), lr=1.0, split=parts, seed=5)
    for p in model.values():
        p.grad = torch.zeros(50)
    optimizer.step()
    assert model["a"].abs().sum() > 0
    assert not torch.equal(model["a"], model["b"])
    assert all(isinstance(part, RuleOptimizer) for part in optimizer.parts)  # type: ignore[attr-defined]


def test_a_closure_is_called_once() -> None:
    model, calls = net(), itertools.count()
    split = made(model, split=MATRICES)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    assert split.step(lambda: next(calls)) == 0
    assert next(calls) == 1


def test_a_frozen_parameter_is_in_no_group() -> None:
    model = net()
    model.conv.requires_grad_(False)
    split = made(model, split=MATRICES)
    assert not {model.conv.weight, model.conv.bias} & {
        p for group in split.param_groups for p in group["params"]
    }


def test_a_split_takes_no_more_groups() -> None:
    with pytest.raises(ConfigError, match="takes its parameters when it is made"):
        made(net(), split=MATRICES).add_param_group({"params": [Parameter(torch.ones(1))]})


# fmt: off
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"split": "adam"},                                  "split: expected parameters and their optimizers"),
    ({"split": {}},                                      "split: expected parameters and their optimizers"),
    ({},                                                 "split: expected parameters and their optimizers"),
    ({"split": {"rest": 3}},                             r"split\.rest: expected an optimizer's name"),
    ({"split": {"rest": {"eps": 1}}},                    r"split\.rest: expected an optimizer's name"),
    ({"split": {"rest": {"name": "adam", "lr": 1}}},     "'lr' cannot be set for a part: .*groups.rates"),
    ({"split": {"rest": {"name": "adam", "split": 1}}},  "'split' cannot be set for a part"),
    ({"split": {"rest": {"name": "adam", "flatten": 1}}}, r"split\.rest\.flatten: expected true or false"),
    ({"split": {"rest": {"name": "adam", "bets": 1}}},   r"(?s)split\.rest: unknown option.*'bets'.*'betas'"),
    ({"split": {"rest": "adma"}},                        r"(?s)split\.rest: unknown optimizer 'adma'"),
    ({"split": {"rest": "torch.optim.LBFGS"}},           r"split\.rest: .*closure"),
    ({"split": {"rest": "adam"}, "eps": 1},              r"(?s)unknown option of split: 'eps'"),
    ({"split": {"rest": "adam"}, "groups": []},          "groups: expected no_decay and rates"),
    ({"split": {"rest": "adam"}, "groups": {"decay": 1}}, r"(?s)groups: unknown key 'decay'.*'no_decay'"),
    ({"split": {"rest": "adam"}, "groups": {"no_decay": "norms"}}, r"groups\.no_decay: expected a list"),
    ({"split": {"rest": "adam"}, "groups": {"rates": 2}}, r"groups\.rates: expected factors"),
    ({"split": {"rest": "adam"}, "groups": {"rates": {"heads": 0}}}, r"groups\.rates\.heads must be a finite"),
]
UNFIT: list[tuple[dict[str, Any], str]] = [
    ({"split": {"matrices": "adam"}},                    "split: 9 parameters are in no part, such as scale"),
    ({"split": {"*": "adam", "rest": "sgd"}},            r"split\.rest: no parameter is left for it"),
    ({"split": {"matrices": "adam", "hidden.*": "sgd", "rest": "sgd"}}, "hidden.weight is claimed twice, by 'matrices' and 'hidden"),
    ({"split": {"layer.*": "adam", "rest": "sgd"}},      r"(?s)split: no parameter's name matches 'layer\.\*'"),
    ({"split": {"matrixes": "adam", "rest": "sgd"}},     "(?s)matches 'matrixes'.*did you mean 'matrices'"),
    ({"split": {"rest": "adam"}, "groups": {"rates": {"heads": 2, "output.weight": 3}}}, "output.weight is claimed twice"),
    ({"split": {"rest": "adam"}, "groups": {"no_decay": ["lm_head.*"]}}, r"groups\.no_decay: no parameter's name"),
    ({"split": {"rest": "torch.optim.Muon"}},            "Muon only supports 2D"),
    ({"split": {"biases": {"name": "adam", "flatten": True}, "rest": "adam"}}, r"split\.biases: flatten: true is for kernels"),
    ({"split": {"rest": "torch.optim.Rprop"}},           "takes no weight_decay, got 0.1"),
]
# fmt: on


@pytest.mark.parametrize(("options", "says"), WRONG)
def test_a_split_of_the_wrong_form_is_refused_before_there_is_a_model(
    options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        check_optimizer("split", **options)


@pytest.mark.parametrize(("options", "says"), UNFIT)
def test_a_split_that_does_not_fit_the_model_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        made(net(), **options)


def test_an_empty_part_is_refused_and_says_what_there_is() -> None:
    model = nn.Linear(2, 2)
    mark_kinds(model)
    with pytest.raises(ConfigError, match=r"split\.kernels: the model has no kernels; it has 1 h"):
        made(model, split={"kernels": "adam", "rest": "sgd"})


def test_kinds_have_to_be_known() -> None:
    with pytest.raises(ConfigError, match=r"of which kind weight is\n.*mark_kinds\(model\)"):
        made(nn.Linear(2, 2), split=MATRICES)
    made(nn.Linear(2, 2), split={"weight": "adam", "bias": "sgd"})


def test_names_are_needed() -> None:
    with pytest.raises(ConfigError, match="need the names of the parameters"):
        make_optimizer("split", net().parameters(), lr=0.1, split=MATRICES)


def test_the_groups_of_a_task_keep_their_own_options() -> None:
    model = net()
    named = dict(model.named_parameters())
    output = [("output.weight", named.pop("output.weight"))]
    groups: Any = [{"params": output, "weight_decay": 0.0}, {"params": list(named.items())}]
    optimizer = make_optimizer("split", groups, lr=0.1, weight_decay=0.5, split={"rest": "sgd"})
    assert isinstance(optimizer, SGD)
    bare = [p for g in optimizer.param_groups if g["weight_decay"] == 0 for p in g["params"]]
    assert bare == [model.output.weight]
