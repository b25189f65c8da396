"""Every class of packages that people use trains here, or is refused with a reason."""

# ruff: noqa: E501 a row of a table is a line

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from nos_repro.data.digits import ARRAYS
from nos_repro.errors import ConfigError
from nos_repro.optim.factory import make_optimizer, try_optimizer
from nos_repro.optim.modes import Modes

pytorch_optimizer = pytest.importorskip("pytorch_optimizer", reason="needs pytorch_optimizer")

NAMES = sorted(
    name
    for name, cls in vars(pytorch_optimizer).items()
    if isinstance(cls, type) and issubclass(cls, torch.optim.Optimizer)
)
# fmt: off
REFUSED = {
    "closure": {"LBFGS"},
    "needs the model": {"AdaLOMO", "AdamMini", "GSAM", "LOMO", "WSAM"},
    "wraps another": {"FriendlySAM", "LookSAM", "Lookahead", "OrthoGrad", "SAM", "ScheduleFreeWrapper", "TRAC"},
    "expected a function": {"PCGrad", "SafeFP16Optimizer"},
    "no lr": {"A2Grad", "AliG"},
    "second derivatives": {"AdaHessian", "SophiaH"},
    "needs the option": {"BSAM", "Ranger21"},
    "marks of its own": {"AdaGO", "AdaMuon", "DistributedMuon", "Muon", "MuonClip", "NorMuon"},
    "einops": {"DeMo"},
}
"""The reasons, by a word of each, as of pytorch_optimizer 4.1."""
# fmt: on
STARTS_OVER = {"AdaShift", "Conda", "SCION", "SCIONLight", "ScalableShampoo"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_each_class_of_pytorch_optimizer_steps_or_is_refused_with_a_reason() -> None:
    assert len(NAMES) > 120
    reasons = {name: reason for reason, names in REFUSED.items() for name in names}
    over, wrong = set(), []
    for name in NAMES:
        try:
            tried = try_optimizer(f"pytorch_optimizer.{name}", {})
        except ConfigError as error:
            if name not in reasons or reasons[name] not in str(error) or "\n" in str(error):
                wrong.append(str(error))
            continue
        if name in reasons:
            wrong.append(f"{name} trains")
        if tried.starts_over:
            over.add(name)
        if not tried.takes:
            _train_on_digits(f"pytorch_optimizer.{name}")
    assert not wrong
    assert over == STARTS_OVER


def _train_on_digits(name: str) -> None:
    """A few updates of a small network on the embedded digits."""
    with np.load(ARRAYS) as arrays:
        pixels = torch.from_numpy(arrays["values"]).float().view(-1, 64) / 16
        labels = torch.from_numpy(arrays["labels"]).long()
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(64, 16), torch.nn.ReLU(), torch.nn.Linear(16, 10))
    optimizer = make_optimizer(name, net.named_parameters(), lr=1e-3)
    modes = Modes(optimizer)
    for step in range(4):
        rows = slice(step * 50, step * 50 + 50)
        optimizer.zero_grad()
        F.cross_entropy(net(pixels[rows]), labels[rows]).backward()
        optimizer.step()
    with modes.evaluating():
        assert all(torch.isfinite(p).all() for p in net.parameters()), name


def test_a_mark_is_in_every_group() -> None:
    """`use_muon` tells pytorch_optimizer's Muon whose parameters are matrices."""
    parts = {
        "*.weight": {"name": "pytorch_optimizer.Muon", "mark": {"use_muon": True}},
        "rest": {"name": "pytorch_optimizer.Muon", "mark": {"use_muon": False}, "adamw_wd": 0.1},
    }
    net = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 2))
    made = make_optimizer("split", net.named_parameters(), lr=0.1, split=parts)
    assert [group["use_muon"] for group in made.param_groups] == [True, False]
    with pytest.raises(ConfigError, match="mark: expected keys of a group"):
        try_optimizer("pytorch_optimizer.Muon", {"mark": 3})
