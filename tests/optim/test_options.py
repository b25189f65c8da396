"""Options as torch's users give them: in groups, from NumPy, in states that others made."""

import copy
import io
import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import Parameter

from nos_repro import AddSign, PowerSign, RuleOptimizer
from nos_repro.errors import ConfigError, NosError, RuleError
from tests.conftest import ROOT

OPTIMIZERS: list[tuple[type[RuleOptimizer], dict[str, Any]]] = [
    (PowerSign, {"lr": 0.1}),
    (AddSign, {"lr": 0.1}),
    (RuleOptimizer, {"rule": "drop(m, 0.3) + ld * adam", "lr": 0.1, "total_steps": 20}),
]


def parameter(n: int = 6) -> Parameter:
    return Parameter(torch.linspace(-1, 1, n))


def walk(optimizer: torch.optim.Optimizer, start: int = 0, end: int = 3) -> list[Tensor]:
    params = [p for group in optimizer.param_groups for p in group["params"]]
    for t in range(start, end):
        for i, p in enumerate(params):
            p.grad = torch.sin(torch.arange(p.numel()) * 1.7 + t + 31 * i).to(p.dtype).view(p.shape)
        optimizer.step()
    return [p.detach().clone() for p in params]


# In groups


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (PowerSign, {"base": 3.0}),
        (PowerSign, {"beta": 0.2}),
        (PowerSign, {"decay": "ld", "total_steps": 5}),
        (PowerSign, {"base": 2.0, "decay": "cd", "total_steps": 7, "lr": 0.01}),
        (AddSign, {"alpha": 5.0}),
        (AddSign, {"beta": 0.2}),
        (AddSign, {"decay": "rd3", "total_steps": 9}),
        (AddSign, {"weight_decay": 0.1, "decoupled_weight_decay": True}),
        (AddSign, {"maximize": True}),
    ],
)
@pytest.mark.parametrize("foreach", [False, True])
def test_an_option_in_a_group_acts_as_the_same_option_of_the_optimizer(
    cls: Any, options: dict[str, Any], foreach: bool
) -> None:
    grouped = cls([{"params": [parameter()], **options}], foreach=foreach)
    (ours,) = walk(grouped)
    (theirs,) = walk(cls([parameter()], foreach=foreach, **options))
    (plain,) = walk(cls([parameter()], foreach=foreach))
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, plain)


def test_an_option_that_is_changed_between_steps_is_obeyed() -> None:
    optimizer = AddSign([parameter()], lr=1.0, beta=0.0)
    optimizer.param_groups[0]["alpha"] = 3.0
    before = parameter().detach()
    (after,) = walk(optimizer, 0, 1)
    g = optimizer.param_groups[0]["params"][0].grad
    assert torch.allclose(before - after, (3.0 + 1.0) * g)


@pytest.mark.parametrize(("cls", "options"), OPTIMIZERS)
def test_the_defaults_make_the_same_optimizer_again(
    cls: type[RuleOptimizer], options: dict[str, Any]
) -> None:
    first = cls([parameter()], **options)
    again = type(first)([parameter()], **first.defaults)
    assert again.defaults == first.defaults
    assert torch.equal(*walk(first), *walk(again))
    first.load_state_dict(copy.deepcopy(first.state_dict()))
    assert type(first)([parameter()], **first.defaults).defaults == again.defaults


def test_a_family_says_which_option_it_does_not_have() -> None:
    with pytest.raises(TypeError, match=r"PowerSign.* unexpected keyword argument 'betas'"):
        PowerSign([parameter()], betas=(0.9, 0.999))  # type: ignore[call-arg]


def test_a_groups_rule_is_any_text_of_the_rule() -> None:
    def make() -> RuleOptimizer:
        return RuleOptimizer([{"params": [parameter()], "rule": "g*m"}], "g", 0.1)

    first, second = make(), make()
    assert first.param_groups[0]["rule"] == "g * m"
    walk(first)
    second.load_state_dict(first.state_dict())


def test_a_groups_changed_rule_reads_the_averages_that_are_there() -> None:
    optimizer = RuleOptimizer([parameter()], "m", 0.1)
    walk(optimizer)
    optimizer.param_groups[0]["rule"] = "2 * m"
    walk(optimizer)
    optimizer.param_groups[0]["rule"] = "adam"
    with pytest.raises(ConfigError, match=r"(?s)changed to adam.*average 'v'.*state\.clear"):
        walk(optimizer)
    optimizer.param_groups[0]["rule"] = "ld * m"
    with pytest.raises(RuleError, match="total_steps"):
        walk(optimizer)


def test_one_group_may_give_what_the_optimizer_leaves_out() -> None:
    PowerSign([{"params": [parameter()], "total_steps": 5}], decay="ld")
    with pytest.raises(RuleError, match="total_steps"):
        PowerSign([{"params": [parameter()], "decay": "ld"}])


# Values


def test_numpys_numbers_are_numbers_and_a_state_with_them_loads_without_code() -> None:
    optimizer = RuleOptimizer(
        [{"params": [parameter()], "weight_decay": np.float64(0.1)}],
        "drop(m, 0.3) * ld",
        np.float32(0.125),  # type: ignore[arg-type]
        betas=np.array([0.5, 0.9, 0.9]),  # type: ignore[arg-type]
        total_steps=np.int64(10),  # type: ignore[arg-type]
        seed=np.int64(3),  # type: ignore[arg-type]
    )
    plain = RuleOptimizer(
        [parameter()], "drop(m, 0.3) * ld", 0.125, betas=(0.5, 0.9, 0.9), total_steps=10, seed=3,
        weight_decay=0.1,
    )  # fmt: skip
    assert torch.equal(*walk(optimizer), *walk(plain))
    stored = io.BytesIO()
    torch.save(optimizer.state_dict(), stored)
    stored.seek(0)
    plain.load_state_dict(torch.load(stored, weights_only=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": torch.tensor(-1.0)}, "lr must be a finite number >= 0, got -1.0"),
        ({"lr": torch.tensor([math.nan])}, "lr must be a finite number >= 0, got nan"),
        ({"lr": "0.1"}, "lr must be a finite number >= 0, got '0.1'"),
        ({"seed": 1.7}, "seed must be a whole number, got 1.7"),
        ({"betas": (0.9, 1.0, 0.9)}, r"betas\[1\] must be a number in \[0, 1\), got 1.0"),
        ({"betas": 0.9}, r"betas must be three numbers in \[0, 1\), got 0.9"),
        ({"total_steps": True}, "total_steps must be a whole number >= 1, got True"),
        ({"total_steps": math.nan}, "total_steps must be a whole number >= 1, got nan"),
        ({"foreach": "yes"}, "foreach must be True or False, got 'yes'"),
    ],
)
def test_an_impossible_option_is_named_at_construction(options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RuleOptimizer([parameter()], "g", **{"lr": 0.1, **options})
    with pytest.raises(ConfigError, match=message):
        RuleOptimizer([{"params": [parameter()], **options}], "g", 0.1)


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (PowerSign, {"beta": 1.0}, r"beta must be a number in \[0, 1\), got 1.0"),
        (PowerSign, {"base": "x"}, "base must be a finite number, got 'x'"),
        (PowerSign, {"base": 0.0}, "base must be a finite number > 0, got 0.0"),
        (AddSign, {"alpha": [1]}, r"alpha must be a finite number, got \[1\]"),
        (AddSign, {"decay": 3}, "decay must be a name such as 'ld', got 3"),
    ],
)
def test_a_familys_impossible_option_is_named(cls: Any, options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        cls([parameter()], **options)
    optimizer = cls([parameter()])
    with pytest.raises(ConfigError, match=message):
        optimizer.add_param_group({"params": [parameter()], **options})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize(("cls", "options"), OPTIMIZERS)
@pytest.mark.parametrize("name", ["differentiable"])
def test_what_a_rule_cannot_do_is_refused_by_name(cls: Any, options: Any, name: str) -> None:
    with pytest.raises(TypeError, match=name):
        cls([parameter()], **options, **{name: True})
    optimizer = cls([{"params": [parameter()], name: False}], **options)
    with pytest.raises(ConfigError, match=f"{name}=True is not possible for an update rule"):
        optimizer.add_param_group({"params": [parameter()], name: True})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize(("cls", "options"), OPTIMIZERS)
def test_an_update_is_not_captured_in_a_graph_of_a_gpu(
    cls: Any, options: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    optimizer = cls([parameter()], **options)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(ConfigError, match="cannot be captured in a CUDA graph"):
        walk(optimizer)
    monkeypatch.undo()
    walk(optimizer)


@pytest.mark.parametrize(("cls", "options"), OPTIMIZERS)
def test_foreach_and_fused_exclude_each_other_in_a_group_too(cls: Any, options: Any) -> None:
    with pytest.raises(ConfigError, match="foreach and fused exclude each other"):
        cls([{"params": [parameter()], "fused": True}], foreach=True, **options)
    cls([{"params": [parameter()], "fused": True, "foreach": None}], foreach=True, **options)


@pytest.mark.parametrize(("cls", "options"), OPTIMIZERS)
def test_a_complex_parameter_is_trained_as_its_real_view(cls: Any, options: Any) -> None:
    """As torch's optimizers do inside: real and imaginary part are two weights."""
    z = torch.randn(4, 3, dtype=torch.complex64)
    view = Parameter(torch.view_as_real(z.clone()))
    parts = [Parameter(part.clone()) for part in (z.real, z.imag)]
    whole, apart = cls([view], **options), cls(parts, **options)
    for t in range(3):
        g = torch.randn(4, 3, dtype=torch.complex64, generator=torch.Generator().manual_seed(t))
        view.grad, parts[0].grad, parts[1].grad = torch.view_as_real(g), g.real, g.imag
        whole.step()
        apart.step()
    if cls is not RuleOptimizer:  # which draws by the place in a parameter
        assert torch.equal(torch.view_as_complex(view.detach()), torch.complex(*parts).detach())
    assert view.isfinite().all()


def test_errors_are_also_of_the_types_that_torchs_optimizers_raise() -> None:
    for wrong in ({"lr": -1.0}, {"decay": "xd"}, {"decay": "ld"}):
        with pytest.raises(ValueError) as caught:
            PowerSign([parameter()], **wrong)  # type: ignore[arg-type]
        assert isinstance(caught.value, NosError)
    embedding = torch.nn.Embedding(5, 2, sparse=True)
    optimizer = PowerSign(embedding.parameters())
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="sparse"):
        optimizer.step()


# States


def swap(_: Any, state_dict: dict[str, Any]) -> dict[str, Any]:
    """Gives each of two parameters the other's state."""
    state = state_dict["state"]
    return {**state_dict, "state": {0: state[1], 1: state[0]}}


def test_what_a_load_hook_makes_of_a_state_is_loaded() -> None:
    saved = AddSign([parameter(), parameter()])
    walk(saved)
    loaded = AddSign([parameter(), parameter()])
    loaded.register_load_state_dict_pre_hook(swap)  # type: ignore[arg-type]
    loaded.load_state_dict(saved.state_dict())
    (a, b), (x, y) = (list(o.state.values()) for o in (saved, loaded))
    assert torch.equal(a["m"], y["m"])
    assert torch.equal(b["m"], x["m"])
    assert not torch.equal(a["m"], b["m"])
    assert len(loaded._optimizer_load_state_dict_pre_hooks) == 1, "its own hook is gone again"


def test_a_hook_after_loading_sees_averages_of_full_precision() -> None:
    def half() -> PowerSign:
        return PowerSign([Parameter(parameter().detach().bfloat16())])

    saved, loaded, seen = half(), half(), []
    walk(saved)
    loaded.register_load_state_dict_post_hook(
        lambda o: seen.extend(s["m"].dtype for s in o.state.values())
    )
    loaded.load_state_dict(saved.state_dict())
    assert seen == [torch.float32]


def test_foreign_entries_of_a_state_are_kept() -> None:
    first, second = PowerSign([parameter()]), PowerSign([parameter()])
    walk(first)
    state = first.state_dict()
    state["state"][0] |= {"note": 7, "extra": torch.ones(3)}
    second.load_state_dict(state)
    second.param_groups[0]["params"][0].data.copy_(first.param_groups[0]["params"][0].data)
    (kept,) = second.state.values()
    assert kept["note"] == 7
    assert torch.equal(kept["extra"], torch.ones(3))
    assert torch.equal(*walk(first, 3, 5), *walk(second, 3, 5))


@pytest.mark.parametrize(("cls", "options"), OPTIMIZERS)
def test_a_count_that_was_saved_as_a_tensor_goes_on(cls: Any, options: Any) -> None:
    """torch's own optimizers save it so, and what converts states may do the same."""
    first, second = (cls([parameter()], **options) for _ in range(2))
    walk(first)
    second.param_groups[0]["params"][0].data.copy_(first.param_groups[0]["params"][0].data)
    state = copy.deepcopy(first.state_dict())
    state["state"][0]["step"] = torch.tensor(float(state["state"][0]["step"]))
    second.load_state_dict(state)
    assert torch.equal(*walk(first, 3, 5), *walk(second, 3, 5))


@pytest.mark.parametrize(("cls", "options"), OPTIMIZERS)
def test_a_state_that_lacks_options_gets_their_defaults_and_goes_on(
    cls: type[RuleOptimizer], options: dict[str, Any]
) -> None:
    def make() -> RuleOptimizer:
        return cls([parameter()], **options)

    for option in make().param_groups[0].keys() - {
        "params", "base", "alpha", "total_steps", *options
    }:  # fmt: skip
        first, second = make(), make()
        walk(first)
        second.param_groups[0]["params"][0].data.copy_(first.param_groups[0]["params"][0].data)
        state = first.state_dict()
        state["param_groups"] = [{k: v for k, v in g.items() if k != option}
                                 for g in state["param_groups"]]  # fmt: skip
        if option == "seed":  # whose default was 0 when it was not saved
            first.param_groups[0]["seed"] = 0
        second.load_state_dict(state)
        assert torch.equal(*walk(first, 3, 5), *walk(second, 3, 5)), option


def test_another_total_length_is_not_taken_in_silence() -> None:
    first = PowerSign([parameter()], decay="ld", total_steps=10)
    second = PowerSign([parameter()], decay="ld", total_steps=20)
    walk(first)
    with pytest.raises(ConfigError, match=r"(?s)total_steps=10, here it is 20.*param_groups"):
        second.load_state_dict(first.state_dict())
    state = first.state_dict()
    state["param_groups"][0]["total_steps"] = 20
    second.load_state_dict(state)
    assert second.param_groups[0]["total_steps"] == 20
    without = PowerSign([parameter()], total_steps=10)
    without.load_state_dict(PowerSign([parameter()]).state_dict())


def test_another_familys_state_is_refused_with_both_rules() -> None:
    with pytest.raises(ConfigError, match=r"(?s)another update rule.*alpha.*exp"):
        PowerSign([parameter()]).load_state_dict(AddSign([parameter()]).state_dict())
    with pytest.raises(ConfigError, match=r"(?s)another update rule.*3\*\*.*exp"):
        PowerSign([parameter()]).load_state_dict(PowerSign([parameter()], base=3).state_dict())


@pytest.mark.parametrize("cls", [PowerSign, AddSign])
def test_torchs_hidden_first_step_does_not_end_the_first_step_of_a_decay(cls: Any) -> None:
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

    models = [torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)]
    models[1].load_state_dict(models[0].state_dict())
    optimizers = [
        cls(model.parameters(), lr=0.1, decay="ld", total_steps=4, weight_decay=0.1)
        for model in models
    ]
    saved = get_optimizer_state_dict(models[0], optimizers[0])
    assert saved["state"]["weight"]["m"].shape == (2, 3), "the state is there to be loaded into"
    for model, optimizer in zip(models, optimizers, strict=True):
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        assert optimizer.param_groups[0]["t"] == 1
    assert torch.equal(models[0].weight, models[1].weight)
    assert all(map(torch.equal, *([s["m"] for s in o.state.values()] for o in optimizers)))


def test_a_first_step_at_rate_zero_counts_if_there_is_a_gradient() -> None:
    optimizer = PowerSign([parameter()], lr=0.0, decay="ld", total_steps=4)
    walk(optimizer, 0, 1)
    assert optimizer.param_groups[0]["t"] == 1


# Half precision


EXECUTIONS = [{"foreach": False}, {"foreach": True}, {"fused": True}]


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_a_float32_copy_keeps_the_updates_that_bfloat16_would_lose(execution: Any) -> None:
    weights = {}
    for master in (False, True):
        p = Parameter(torch.ones(40, dtype=torch.bfloat16))
        p.grad = torch.zeros_like(p)
        optimizer = PowerSign(
            [p], lr=0.01, weight_decay=0.1, decoupled_weight_decay=True, master_weights=master,
            **execution,
        )  # fmt: skip
        for _ in range(100):
            optimizer.step()
        weights[master] = p[0].item()
    assert weights[False] == 1.0
    assert weights[True] == pytest.approx(0.999**100, rel=2**-8)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(6,), (2, 3), ()])
def test_with_a_float32_copy_the_weights_are_those_of_float32_rounded(
    dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    start = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    half, single = Parameter(start.clone()), Parameter(start.float())
    ours = RuleOptimizer([half], "adam", 0.01, master_weights=True)
    theirs = RuleOptimizer([single], "adam", 0.01)
    for t in range(20):
        half.grad = torch.full_like(half, (-1.0) ** (t // 3))
        single.grad = half.grad.float()
        ours.step()
        theirs.step()
        assert torch.equal(half, single.to(dtype))
    assert torch.equal(ours.state[half]["master"], single)


def test_a_float32_copy_is_saved_and_loaded_and_may_begin_later() -> None:
    def make(w: Tensor, master: bool = True) -> PowerSign:
        return PowerSign([Parameter(w.clone())], 0.01, master_weights=master)

    first = make(parameter().detach().bfloat16())
    walk(first)
    stored = io.BytesIO()
    torch.save(first.state_dict(), stored)
    stored.seek(0)
    second = make(first.param_groups[0]["params"][0].detach())
    second.load_state_dict(torch.load(stored, weights_only=True))
    (state,) = second.state.values()
    assert state["master"].dtype == torch.float32
    assert torch.equal(*walk(first, 3, 9), *walk(second, 3, 9))

    late = make(parameter().detach().bfloat16(), master=False)
    walk(late)
    late.param_groups[0]["master_weights"] = True
    before = late.param_groups[0]["params"][0].detach().clone()
    walk(late, 3, 4)
    (state,) = late.state.values()
    assert torch.allclose(state["master"], before.float(), atol=0.1)
    assert state["step"] == 4


def test_full_precision_needs_no_copy() -> None:
    optimizer = PowerSign([parameter()], master_weights=True)
    assert torch.equal(*walk(optimizer), *walk(PowerSign([parameter()])))
    assert all("master" not in state for state in optimizer.state.values())


# Memory


def freed(release: Callable[[RuleOptimizer, Parameter], None], averages: bool) -> bool:
    """Whether the memory of a parameter (or its average) is gone once it is released."""
    p = Parameter(torch.ones(64))
    optimizer = PowerSign([{"params": [p]}, {"params": [parameter()]}], foreach=True)
    walk(optimizer)
    held = optimizer.state[p]["m"] if averages else p
    gone = StorageWeakRef(held.untyped_storage())
    del held
    release(optimizer, p)
    return gone.expired()


def move(optimizer: RuleOptimizer, p: Parameter) -> None:
    p.data = torch.empty(0)


def remove(optimizer: RuleOptimizer, p: Parameter) -> None:
    del optimizer.param_groups[0], optimizer.state[p]


def test_the_memory_of_what_is_moved_or_removed_is_freed_at_once() -> None:
    assert freed(move, averages=False)
    assert freed(remove, averages=True)


# Types


@pytest.mark.slow
def test_a_type_checker_knows_every_option(tmp_path: Path) -> None:
    head = "import torch\nfrom nos_repro import AddSign, PowerSign, RuleOptimizer\n"
    params = "[torch.nn.Parameter(torch.ones(2))]"
    right = f"PowerSign({params}, 0.1, weight_decay=0.1, foreach=True, master_weights=True)\n"
    wrong = [
        f"PowerSign({params}, weight_decy=0.1)",
        f'AddSign({params}, foreach="yes")',
        f"PowerSign({params}, betas=(0.9, 0.999))",
        f'RuleOptimizer({params}, "g", 0.1, seed="x")',
    ]
    file = tmp_path / "use.py"
    file.write_text(head + right + "\n".join(wrong) + "\n", encoding="utf-8")
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", str(file)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    found = re.findall(r"use\.py:(\d+): error", checked.stdout)
    assert found == ["4", "5", "6", "7"], checked.stdout
