"""Optimizers from elsewhere: who is refused and why, what is said of the others."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import SGD

from nos_repro.errors import ConfigError
from nos_repro.optim.factory import check_optimizer, make_optimizer, starts_over, try_optimizer

HERE = "tests.optim.test_tryout"


class NeedsModel(SGD):
    def __init__(self, model: torch.nn.Module, lr: float) -> None:
        super().__init__(model.parameters(), lr)


class Wraps(SGD):
    def __init__(self, params: Any, base_optimizer: Any, lr: float) -> None:
        super().__init__(params, lr)


class NeedsLength(SGD):
    def __init__(self, params: Any, lr: float, horizon: int) -> None:
        super().__init__(params, lr)


class Sharpness(SGD):
    """Its closure is optional in the signature, not in fact."""

    def step(self, closure: Any = None) -> Any:
        closure()
        return super().step()


class SecondOrder(SGD):
    def step(self, closure: Any = None) -> Any:
        params = [p for group in self.param_groups for p in group["params"]]
        torch.autograd.grad(sum(p.grad.sum() for p in params), params, retain_graph=True)
        return super().step()


class Idle(SGD):
    def step(self, closure: Any = None) -> Any:
        return None


class Broken(SGD):
    def step(self, closure: Any = None) -> Any:
        raise AssertionError("the moon is full")


class Leaves(SGD):
    def step(self, closure: Any = None) -> Any:
        raise SystemExit(0)


class NoRate(torch.optim.Optimizer):
    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {})


class Counts(SGD):
    """What the rate depends on is in no state."""

    count = 0

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        self.count += 1
        for p in self.param_groups[0]["params"]:
            p.sub_(p.grad, alpha=self.param_groups[0]["lr"] / self.count)


class KeepsFunctions(SGD):
    def step(self, closure: Any = None) -> Any:
        super().step()
        for p in self.param_groups[0]["params"]:
            self.state[p]["say"] = lambda: None


class Draws(SGD):
    """Its noise is from the global generator, which a checkpoint holds."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for p in self.param_groups[0]["params"]:
            p.add_(torch.randn_like(p), alpha=0.01)
        return super().step()


class Late(SGD):
    def step(self, closure: Any = None) -> Any:
        group = self.param_groups[0]
        group["calls"] = group.get("calls", 0) + 1
        return super().step() if group["calls"] > 10 else None


class Typed(SGD):
    def __init__(
        self,
        params: Any,
        lr: float,
        power: float = 1.0,
        often: int = 1,
        on: bool = False,
        mode: str = "a",
        pair: tuple[float, float] = (0.1, 0.2),
        either: float | str = 0.0,
    ) -> None:
        super().__init__(params, lr)
        self.seen = (power, often, on, mode, pair, either)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("torch.optim.LBFGS", "cannot train here: its step calls a closure"),
        ("torch.optim.SparseAdam", "its step fails: .*does not support dense gradients"),
        ("torch.optim.Optimizer", r"expected a function \(params"),
        ("torch.nn.Linear", "torch.nn.Linear is a class, but not a torch.optim.Optimizer"),
        ("NeedsModel", "it needs the model itself"),
        ("Wraps", "it wraps another optimizer"),
        ("NeedsLength", "it needs the option horizon"),
        ("Sharpness", "its step calls a closure"),
        ("SecondOrder", "it needs second derivatives"),
        ("Idle", "24 updates of it change nothing"),
        ("Broken", "its step fails: AssertionError: the moon is full"),
        ("Leaves", r"it ends the program: sys\.exit\(0\)"),
        ("NoRate", "its groups have no lr"),
    ],
)
def test_what_cannot_train_here_is_refused_with_its_reason(name: str, says: str) -> None:
    path = name if "." in name else f"{HERE}.{name}"
    with pytest.raises(ConfigError, match=says) as refused:
        check_optimizer(path)
    assert path in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_option_that_the_maker_needs_can_be_given() -> None:
    check_optimizer(f"{HERE}.NeedsLength", horizon=100)


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("power", "2", "a number"),
        ("power", True, "a number"),
        ("often", 1.5, "a whole number"),
        ("on", "yes", "true or false"),
        ("mode", 3, "text"),
    ],
)
def test_a_value_of_another_type_than_the_signature_asks_for_is_refused(
    option: str, value: Any, expected: str
) -> None:
    with pytest.raises(ConfigError, match=f"Typed': {option} must be {expected}, got {value!r}"):
        check_optimizer(f"{HERE}.Typed", **{option: value})


def test_a_list_becomes_a_tuple_where_the_default_is_one() -> None:
    given = {"power": 2, "often": 3, "on": True, "mode": "b", "pair": [1, 2], "either": "x"}
    made: Any = make_optimizer(f"{HERE}.Typed", [Parameter(torch.ones(2))], lr=0.1, **given)
    assert made.seen == (2, 3, True, "b", (1, 2), "x")


@pytest.mark.parametrize("betas", ["x", [0.9], [2.0, 3.0], 0.9])
def test_impossible_betas_are_one_error(betas: Any) -> None:
    with pytest.raises(ConfigError, match=r"torch\.optim\.AdamW"):
        check_optimizer("torch.optim.AdamW", betas=betas)


KEPT: list[tuple[str, dict[str, Any], int]] = [
    ("torch.optim.SGD", {}, 0),
    ("torch.optim.SGD", {"momentum": 0.9}, 1),
    ("torch.optim.RAdam", {}, 2),
    ("torch.optim.AdamW", {"amsgrad": True}, 3),
    ("torch.optim.Rprop", {}, 2),
]


@pytest.mark.parametrize(("name", "options", "kept"), KEPT)
def test_torchs_own_go_on_from_their_state_and_keep_what_is_known_of_them(
    name: str, options: dict[str, Any], kept: int
) -> None:
    tried = try_optimizer(name, options)
    assert (tried.takes, tried.kept, tried.starts_over) == ("", kept, "")


def test_an_optimizer_of_matrices_is_known_as_one() -> None:
    tried = try_optimizer("torch.optim.Muon", {})
    assert (tried.takes, list(tried.dimensions)) == ("matrices", [2])


def test_what_a_saved_state_lacks_is_noticed() -> None:
    assert "lacks something" in starts_over(f"{HERE}.Counts", {})
    assert "cannot be saved" in starts_over(f"{HERE}.KeepsFunctions", {})
    split = {"split": {"biases": f"{HERE}.Counts", "rest": "adam"}}
    assert starts_over("split", split).startswith(f"split.biases: {HERE}.Counts: ")


@pytest.mark.parametrize("name", [f"{HERE}.Draws", f"{HERE}.Late", "powersign", "sgd"])
def test_what_goes_on_exactly_is_not_accused(name: str) -> None:
    check_optimizer(name)
    assert starts_over(name, {}) == ""


def test_trying_draws_nothing_from_the_global_generator() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    try_optimizer(f"{HERE}.Draws", {"weight_decay": 0.25})
    assert torch.equal(before, torch.get_rng_state())


def test_the_toy_does_not_hide_a_state_that_is_rebuilt_wrongly() -> None:
    """A control: the same class with its count in the state is exact."""
    assert starts_over(f"{HERE}.CountsInState", {}) == ""


class CountsInState(Counts):
    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for p in self.param_groups[0]["params"]:
            count: Tensor = self.state[p].setdefault("count", torch.tensor(0.0))
            count += 1
            p.sub_(p.grad, alpha=self.param_groups[0]["lr"] / float(count))
