"""Rules of the second edition against the optimizers that they are, in double precision."""

import inspect
import itertools
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import schedulefree
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.testing._internal.distributed.fake_pg import FakeStore

from nos_repro import RuleOptimizer, make_optimizer
from nos_repro.errors import ConfigError
from nos_repro.optim.export import export
from nos_repro.rules.rule import Rule

SHAPES = [(33, 7), (16,), (64, 20), (5,), (), (300,), (8, 4, 3, 3), (2, 40)]
MATRICES = [(8, 8), (8, 24), (24, 8), (1, 5), (40, 3)]
STEPS = 25
LR, DECAY = 0.05, 0.01
Make = Callable[[list[Parameter]], Optimizer]


def starts(shapes: list[tuple[int, ...]]) -> list[Parameter]:
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]
    return [Parameter(x) for x in made]


def gradients(shapes: list[tuple[int, ...]]) -> Iterator[list[Tensor]]:
    """Noisy gradients whose signs differ from step to step; some elements are 0."""
    generator = torch.Generator().manual_seed(1)
    while True:
        row = [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]
        yield [torch.where(x.abs() < 0.1, 0.0, x) for x in row]


def trained(make: Make, shapes: list[tuple[int, ...]]) -> list[Tensor]:
    params = starts(shapes)
    optimizer = make(params)
    for row in itertools.islice(gradients(shapes), STEPS):
        for p, g in zip(params, row, strict=True):
            p.grad = g.clone()
        optimizer.step()
    return [p.detach() for p in params]


def rule(text: str, **options: Any) -> Make:
    options = {"lr": LR, **options}
    return lambda params: RuleOptimizer(params, Rule.parse(text, language=2), **options)


def check(made: Make, known: Make, shapes: list[tuple[int, ...]] = SHAPES) -> None:
    for ours, theirs in zip(trained(made, shapes), trained(known, shapes), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


HEAVY_BALL = "u <- 0.9 * u + g; u"
NESTEROV = "u <- 0.9 * u + g; g + 0.9 * u"
LION = "u <- 0.99 * u + 0.01 * g; sign(0.9 * old(u) + 0.1 * g)"
CAUTIOUS_ADAM = (
    "m1 <- 0.9 * m1 + 0.1 * g;"
    " agree <- max(sign(m1 * g), 0);"
    " average(g, 0.9) / sqrt(average(g * g, 0.999)) * agree * max(mean(agree), 1e-3)**-1"
)
MUON = "u <- 0.95 * u + 0.05 * g; orthogonal(0.05 * g + 0.95 * u)"
SCHEDULE_FREE = (
    "d <- (1 - step**-1) * (d + 0.9 * g); old(d) * step**-1 + (0.1 + 0.9 * step**-1) * g"
)
KNOWN = [HEAVY_BALL, NESTEROV, LION, CAUTIOUS_ADAM, SCHEDULE_FREE, "sign(ema(g, 0.9))"]


@pytest.mark.parametrize("weight_decay", [0.0, DECAY])
@pytest.mark.parametrize("options", [{"foreach": False}, {"foreach": True}])
@pytest.mark.parametrize(
    ("text", "nesterov"), [(HEAVY_BALL, False), ("velocity(g, 0.9)", False), (NESTEROV, True)]
)
def test_heavy_ball_and_nesterov_are_torchs_sgd(
    text: str, nesterov: bool, options: dict[str, Any], weight_decay: float
) -> None:
    def known(params: list[Parameter]) -> Optimizer:
        given = {"momentum": 0.9, "nesterov": nesterov, "weight_decay": weight_decay}
        return torch.optim.SGD(params, lr=LR, **given)

    check(rule(text, weight_decay=weight_decay, **options), known)


@pytest.mark.parametrize(
    ("text", "name", "given", "eps"),
    [
        ("average(g, 0.9) / sqrt(average(g * g, 0.999))", "Adam", {}, 1e-8),
        ("average(g, 0.8) / sqrt(average(g2, 0.9))", "Adam", {"betas": (0.8, 0.9)}, 1e-8),
        ("g / sqrt(ema(g * g, 0.99))", "RMSprop", {}, 1e-8),
        ("s <- s + g * g; g / sqrt(s)", "Adagrad", {}, 1e-10),
        (
            "s <- 0.9 * s + 0.1 * g * g;"
            " x <- ((d + 1e-6) ** 0.5) * (s + 1e-6) ** -0.5 * g;"
            " d <- 0.9 * d + 0.1 * x * x; x",
            "Adadelta",
            {},
            0.0,
        ),
        (
            "n <- max(0.999 * n, abs_g); average(g, 0.9) / n".replace(
                "abs_g", "sqrt(g * g) + 1e-8"
            ),
            "Adamax",
            {},
            0.0,
        ),
    ],
)
def test_rules_with_averages_of_their_own_are_torchs_optimizers(
    text: str, name: str, given: dict[str, Any], eps: float
) -> None:
    kind = getattr(torch.optim, name)
    if name == "Adamax":
        given = {"eps": 1e-8}
    check(rule(text, eps=eps), lambda params: kind(params, lr=LR, **given))


class Written(Optimizer):
    """An optimizer by a formula of one tensor: formula(w, g, state, k) changes w and the state."""

    def __init__(self, params: list[Parameter], formula: Callable[..., None]) -> None:
        super().__init__(params, {})
        self.formula, self.k = formula, 0

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        self.k += 1
        for p in self.param_groups[0]["params"]:
            self.formula(p, p.grad, self.state[p], self.k)


def lion(w: Tensor, g: Tensor, state: dict[str, Tensor], k: int) -> None:
    """Chen et al. (2023), algorithm 2, with betas 0.9 and 0.99, without its weight decay."""
    average = state.setdefault("average", torch.zeros_like(w))
    w.sub_(LR * torch.sign(average * 0.9 + g * (1 - 0.9)))
    average.mul_(0.99).add_(g, alpha=1 - 0.99)


def cautious_adam(w: Tensor, g: Tensor, state: dict[str, Tensor], k: int) -> None:
    """Liang et al. (2024), algorithm 2, rescaled by the share of the elements that are kept."""
    first = state.setdefault("first", torch.zeros_like(w))
    second = state.setdefault("second", torch.zeros_like(w))
    first.lerp_(g, 1 - 0.9)
    second.mul_(0.999).addcmul_(g, g, value=1 - 0.999)
    mask = (first * g > 0).to(g.dtype)
    mask.div_(mask.mean().clamp_(min=1e-3))
    root = (second / (1 - 0.999**k)).sqrt() + 1e-8
    w.sub_(LR * mask * (first / (1 - 0.9**k)) / root)


def signum(w: Tensor, g: Tensor, state: dict[str, Tensor], k: int) -> None:
    """Bernstein et al. (2018)."""
    average = state.setdefault("average", torch.zeros_like(w))
    average.mul_(0.9).add_(g, alpha=1 - 0.9)
    w.sub_(LR * average.sign())


def qhm(w: Tensor, g: Tensor, state: dict[str, Tensor], k: int) -> None:
    """Ma and Yarats (2018), equation 3, with nu = 0.7 and beta = 0.999."""
    average = state.setdefault("average", torch.zeros_like(w))
    average.copy_((1 - 0.999) * g + 0.999 * average)
    w.sub_(LR * ((1 - 0.7) * g + 0.7 * average))


def lars(w: Tensor, g: Tensor, state: dict[str, Tensor], k: int) -> None:
    """You et al. (2017), without weight decay: the step is as long as the weights."""
    w.sub_(LR * g * (w.norm() / (g.norm() + 1e-8)))


def adabelief(w: Tensor, g: Tensor, state: dict[str, Tensor], k: int) -> None:
    """Zhuang et al. (2020), without the second epsilon."""
    first = state.setdefault("first", torch.zeros_like(w))
    belief = state.setdefault("belief", torch.zeros_like(w))
    first.copy_(0.9 * first + (1 - 0.9) * g)
    belief.copy_(0.999 * belief + (1 - 0.999) * (g - first) ** 2)
    w.sub_(LR * (first / (1 - 0.9**k)) / ((belief / (1 - 0.999**k)).sqrt() + 1e-8))


def delayed(w: Tensor, g: Tensor, state: dict[str, Tensor], k: int) -> None:
    """The gradient of two steps ago."""
    w.sub_(LR * state.get("two", torch.zeros_like(w)))
    state["two"] = state.get("one", torch.zeros_like(w))
    state["one"] = g.clone()


@pytest.mark.parametrize("options", [{"foreach": False}, {"foreach": True}])
@pytest.mark.parametrize(
    ("text", "formula"),
    [
        (LION, lion),
        (CAUTIOUS_ADAM, cautious_adam),
        ("sign(ema(g, 0.9))", signum),
        ("0.3 * g + 0.7 * ema(g, 0.999)", qhm),
        ("unit(g) * norm(w)", lars),
        ("u <- 0.9 * u + 0.1 * g; average(g, 0.9) / sqrt(average((g - u) ** 2, 0.999))", adabelief),
        ("two <- one; one <- g; old(two)", delayed),
    ],
)
def test_rules_are_what_their_papers_write(
    text: str, formula: Callable[..., None], options: dict[str, Any]
) -> None:
    check(rule(text, **options), lambda params: Written(params, formula))


def test_adamw_is_adam_with_decoupled_decay() -> None:
    check(
        rule("average(g, 0.9) / sqrt(average(g * g, 0.999))",
             weight_decay=0.1, decoupled_weight_decay=True),
        lambda params: torch.optim.AdamW(params, lr=LR, weight_decay=0.1),
    )  # fmt: skip


@pytest.mark.parametrize("options", [{"foreach": False}, {"foreach": True}])
def test_muon_is_torchs(options: dict[str, Any]) -> None:
    """Torch also multiplies the rate by a factor that depends on the shape."""
    for shape in MATRICES:
        rate = LR * max(1.0, shape[0] / shape[1]) ** 0.5
        check(
            rule(MUON, lr=rate, **options),
            lambda params: torch.optim.Muon(params, lr=LR, weight_decay=0.0),
            [shape],
        )
    check(
        rule(MUON, weight_decay=0.1, decoupled_weight_decay=True, **options),
        lambda params: torch.optim.Muon(params, lr=LR, weight_decay=0.1),
        [(8, 8), (8, 24)],
    )


def test_schedule_free_sgd_is_the_packages_at_a_constant_rate() -> None:
    def known(params: list[Parameter]) -> Optimizer:
        optimizer = schedulefree.SGDScheduleFree(params, lr=LR, momentum=0.9)
        optimizer.train()
        return optimizer

    check(rule(SCHEDULE_FREE), known)


def test_its_averaged_weights_follow_from_the_state() -> None:
    """`eval()` of the package moves the weights to their average; a rule can be moved by hand."""
    params, others = starts(SHAPES), starts(SHAPES)
    ours = RuleOptimizer(params, Rule.parse(SCHEDULE_FREE, language=2), lr=LR)
    theirs = schedulefree.SGDScheduleFree(others, lr=LR, momentum=0.9)
    theirs.train()
    for row in itertools.islice(gradients(SHAPES), STEPS):
        for p, q, g in zip(params, others, row, strict=True):
            p.grad, q.grad = g.clone(), g.clone()
        ours.step()
        theirs.step()
    theirs.eval()
    for p, q in zip(params, others, strict=True):
        average = p.detach() - (1 - 1 / 0.9) * LR * ours.state[p]["state_d"]
        torch.testing.assert_close(average, q.detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("text", KNOWN)
def test_foreach_is_the_reference_to_the_bit(text: str) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        found = []
        for foreach in (False, True):
            params = [Parameter(p.detach().to(dtype)) for p in starts(SHAPES)]
            params[6].data = params[6].data.to(memory_format=torch.channels_last)
            optimizer = rule(text, foreach=foreach, weight_decay=DECAY, maximize=True)(params)
            for row in itertools.islice(gradients(SHAPES), STEPS):
                for p, g in zip(params, row, strict=True):
                    p.grad = g.to(dtype)
                optimizer.step()
            found.append([p.detach() for p in params])
        for a, b in zip(*found, strict=True):
            assert torch.equal(a, b)


ODD = [
    "two <- one; one <- g; old(two)",
    "u <- step; old(u) * g",
    "u <- ld; old(u) * g + max(2, ld)",
    "a <- old(b) + g; b <- old(a) * 2; b",
    "u <- w; old(u) - w + g",
    "u <- m; old(u) * v",
    "u <- 0.5 * u + drop(g, 0.3); u + noise * drop(g, 0.3)",
    "max(ema(g, 0.9), min(w, 0.1)) * exp(sign(g) * sign(average(g, 0.5))) * ld",
]
WHOLE = ["unit(g) * norm(w) + mean(step * g)", "max(mean(g), min(g, step))", CAUTIOUS_ADAM]
DRAWS = {"total_steps": 50, "seed": 3, "weight_decay": DECAY}


SLOWER = [pytest.param(x, marks=pytest.mark.slow) for x in (NESTEROV, SCHEDULE_FREE, *ODD)]


@pytest.mark.parametrize("text", [LION, *SLOWER])
def test_fused_is_the_reference(text: str) -> None:
    options = {**DRAWS, "decoupled_weight_decay": True}
    ours = trained(rule(text, fused=True, **options), SHAPES)
    reference = trained(rule(text, foreach=False, **options), SHAPES)
    for a, b in zip(ours, reference, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_states_of_half_precision_are_fused_as_the_reference_does() -> None:
    found = []
    for options in ({"fused": True}, {"foreach": False}):
        params = [Parameter(p.detach().bfloat16()) for p in starts([(64, 20), (33, 7)])]
        optimizer = rule(LION, **options)(params)
        for row in itertools.islice(gradients([(64, 20), (33, 7)]), STEPS):
            for p, g in zip(params, row, strict=True):
                p.grad = g.bfloat16()
            optimizer.step()
        assert optimizer.state[params[0]]["state_u"].dtype == torch.float32
        found.append([p.detach() for p in params])
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("text", [*KNOWN, *ODD, *WHOLE])
def test_a_step_kept_on_the_device_changes_no_bit(text: str) -> None:
    ours = trained(rule(text, capturable=True, **DRAWS), SHAPES)
    for a, b in zip(ours, trained(rule(text, foreach=False, **DRAWS), SHAPES), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("text", "shapes"), [*((text, SHAPES) for text in [*KNOWN, *ODD, *WHOLE]), (MUON, MATRICES)]
)
def test_an_exported_file_takes_exactly_the_steps_of_the_reference(
    text: str, shapes: list[tuple[int, ...]]
) -> None:
    scope: dict[str, Any] = {}
    exec(compile(export(f"rule: language 2: {text}", "Mine"), "mine.py", "exec"), scope)
    taken = inspect.signature(scope["Mine"]).parameters
    options = {key: value for key, value in DRAWS.items() if key in taken}
    theirs = trained(lambda params: scope["Mine"](params, lr=LR, **options), shapes)
    for a, b in zip(theirs, trained(rule(text, foreach=False, **DRAWS), shapes), strict=True):
        assert torch.equal(a, b)


def test_muon_sees_matrices_however_they_lie_in_memory() -> None:
    found = []
    for turned in (False, True):
        params = starts(MATRICES)
        if turned:
            for p in params:
                p.data = p.data.T.contiguous().T
        optimizer = rule(MUON)(params)
        for row in itertools.islice(gradients(MATRICES), 3):
            for p, g in zip(params, row, strict=True):
                p.grad = g.clone()
            optimizer.step()
        found.append([p.detach() for p in params])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0.01)  # bfloat16 adds up in another order


@pytest.fixture
def four_processes() -> Iterator[DeviceMesh]:
    """Of which only the first exists."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=4)
    yield init_device_mesh("cpu", (4,))
    dist.destroy_process_group()


def test_parts_of_tensors_are_refused_where_a_rule_reads_whole_ones(
    four_processes: DeviceMesh,
) -> None:
    part = torch.randn(2, 3, dtype=torch.float64)
    spread = Parameter(DTensor.from_local(part.clone(), four_processes, [Shard(0)]))
    with pytest.raises(ConfigError, match="norm takes whole tensors, and of parameter 0"):
        rule("unit(g)")([spread])
    copied = Parameter(DTensor.from_local(part.clone(), four_processes, [Replicate()]))
    rule("unit(g)")([copied])
    alone = Parameter(part.clone())
    for p in (spread, alone):
        optimizer = rule(LION)([p])
        p.grad = p.detach().sin()
        optimizer.step()
    assert isinstance(spread, DTensor)
    assert torch.equal(spread.to_local(), alone)


def test_a_function_of_whole_tensors_is_not_fused() -> None:
    with pytest.raises(ConfigError, match="mean takes whole tensors, and a kernel sees some"):
        trained(rule("g * mean(g2)", fused=True), SHAPES)


def test_orthogonal_refuses_what_is_not_a_matrix() -> None:
    params = starts([(3, 4), (5,)])
    with pytest.raises(ConfigError, match=r"parameter 1 of the group has the shape \(5,\)"):
        RuleOptimizer(params, Rule.parse(MUON, language=2), lr=0.1)
    with pytest.raises(ConfigError, match="takes matrices"):
        make_optimizer(f"rule: language 2: {MUON}", starts([(2, 3, 3, 3)]), lr=0.1)


@pytest.mark.parametrize("text", [*KNOWN, "max(average(g, 0.9), mean(g)) * step**-0.5"])
def test_a_resumed_run_is_the_uninterrupted_one(text: str) -> None:
    params, others = starts(SHAPES), starts(SHAPES)
    whole, first = rule(text)(params), rule(text)(others)
    for number, row in enumerate(itertools.islice(gradients(SHAPES), STEPS)):
        if number == 11:
            saved = pickle.loads(pickle.dumps(first.state_dict()))
            others = [Parameter(p.detach().clone()) for p in others]
            first = rule(text)(others)
            first.load_state_dict(saved)
        for p, q, g in zip(params, others, row, strict=True):
            p.grad, q.grad = g.clone(), g.clone()
        whole.step()
        first.step()
    for p, q in zip(params, others, strict=True):
        assert torch.equal(p, q)


def test_a_state_belongs_to_one_rule_and_must_fit() -> None:
    params = starts(SHAPES)
    optimizer = rule(HEAVY_BALL)(params)
    for p, g in zip(params, next(gradients(SHAPES)), strict=True):
        p.grad = g
    optimizer.step()
    saved = optimizer.state_dict()
    with pytest.raises(ConfigError, match="belongs to another update rule"):
        rule(NESTEROV)(starts(SHAPES)).load_state_dict(saved)
    with pytest.raises(ConfigError, match="belongs to another update rule"):
        RuleOptimizer(starts(SHAPES), "m", lr=0.1).load_state_dict(saved)
    del saved["state"][0]["state_u"]
    with pytest.raises(ConfigError, match="state 'u' of parameter 0 must have shape"):
        rule(HEAVY_BALL)(starts(SHAPES)).load_state_dict(saved)


def test_only_what_is_read_later_is_kept() -> None:
    assert Rule.parse(CAUTIOUS_ADAM, language=2).kept_states == ("m1", "average_1", "average_2")
    assert Rule.parse("x <- g * g; x + 1", language=2).kept_states == ()
