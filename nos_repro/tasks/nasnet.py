"""NASNet-A on photographs (002 sec. 6.3, Table 3): its settings, its loss, its replicas.

*Readings of the paper*, which says "see Zoph et al. for the rest of the training details": those
come from the authors' TensorFlow code. The auxiliary loss has weight 0.4, labels are smoothed by
0.1, weight decay acts only on convolutions and linear layers, an average of the weights is
evaluated.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from nos_repro.errors import DataError
from nos_repro.tasks.base import OptimizerMaker, Task
from nos_repro.tasks.facts.nasnet import NASNetFacts, NASNetSettings
from nos_repro.tasks.nasnet_data import Images, PhotographBatch
from nos_repro.tasks.nasnet_model import NASNet, decayed, norms
from nos_repro.tasks.registry import TASKS


@TASKS.register("nasnet")
class NASNetTask(NASNetFacts, Task):
    """NASNet-A, trained with synchronous replicas and evaluated with the average of its weights.

    *Departures*:

    - In TensorFlow each replica moves the running means and variances of batch norm by
      1 - norm_decay in turn: 50 moves per update. Here they move once per update, by
      1 - norm_decay ** replicas towards the mean over all replicas. That is the mean of the 50
      moves over all their orders, and does not depend on which process computes which replica.
    - They are averaged with the weights, as in TensorFlow; t of the average's warm-up
      min(decay, (1 + t) / (10 + t)) counts the updates done, and is 1 after the first.
    - Weight decay is added to the gradient after its clipping, not to the loss.
    """

    updates: Int64[Tensor, ""]
    classes: Int64[Tensor, ""]

    def __init__(
        self, settings: NASNetSettings, make_optimizer: OptimizerMaker | None = None
    ) -> None:
        make = cast(Any, make_optimizer)
        super().__init__(settings, make and (lambda parameters: make(self._groups())))
        self.memory_format = (
            torch.channels_last if settings.channels_last else torch.contiguous_format
        )
        self.model = NASNet(
            settings.cells,
            settings.filters,
            settings.classes,
            stem=settings.stem,
            auxiliary=settings.size if settings.auxiliary else None,
            dropout=settings.dropout,
        ).to(memory_format=self.memory_format)
        self.averaged = copy.deepcopy(self.model).requires_grad_(False)
        self._norms = norms(self.model)
        self._statistics: list[Tensor] = []
        """For every pass of an update, the means and variances of all norms:
        [2, channels of all]."""
        self.register_buffer("updates", torch.tensor(0))
        self.register_buffer("classes", torch.tensor(0))
        self._agreed = False
        self._counted: int | None = None

    @classmethod
    def make_data(cls, settings: NASNetSettings, *, data_dir: Path, seed: int) -> Images:
        return Images(
            settings.data,
            classes=settings.classes,
            size=settings.size,
            batch_size=settings.batch_size,
            replicas=settings.replicas,
            steps_per_epoch=settings.steps_per_epoch,
            data_dir=data_dir,
            seed=seed,
        )

    def output_layers(self) -> Iterable[nn.Module]:
        """The classifier, and the auxiliary one."""
        auxiliary = self.model.auxiliary
        return [self.model.classifier, *([] if auxiliary is None else [auxiliary.classifier])]

    def configure_optimizers(self) -> Any:
        """Weight decay only for convolutions and linear layers; the average follows every
        update."""
        made = super().configure_optimizers()
        made["optimizer"].register_step_post_hook(lambda *given: self.average())
        return made

    def _groups(self) -> list[dict[str, Any]]:
        own = {id(weight) for weight in decayed(self.model)}
        groups: list[dict[str, Any]] = [{"params": []}, {"params": [], "weight_decay": 0.0}]
        for name, parameter in self.model.named_parameters():
            groups[id(parameter) not in own]["params"].append((name, parameter))
        return groups

    @torch.no_grad()
    def average(self) -> None:
        """Moves the averaged weights, and statistics, towards the current ones."""
        if self._counted is None:  # once per loaded state: reading it waits for the device
            self._counted = int(self.updates)
        self.updates += 1
        self._counted += 1
        t = self._counted
        decay = min(self.settings.average_decay, (1 + t) / (10 + t))
        now, average = self.model.state_dict(), self.averaged.state_dict()
        torch._foreach_lerp_([average[name] for name in now], list(now.values()), 1 - decay)

    def forward(self, images: UInt8[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch classes"]:
        """The logits of the averaged weights."""
        return self._logits(self.averaged, images)[0]

    def _logits(self, network: NASNet, images: Tensor) -> tuple[Tensor, Tensor | None]:
        kind = network.stem.weight.dtype
        scaled = images.to(kind, memory_format=self.memory_format) / 127.5 - 1
        bf16 = self.settings.precision == "bf16"
        with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
            logits, second = network(scaled)
        return logits.to(kind), None if second is None else second.to(kind)

    def training_step(self, batch: PhotographBatch, batch_idx: int = 0) -> Float[Tensor, ""]:
        """The mean loss of the replicas in the batch, `replicas_at_once` of them in a pass."""
        self.agree(batch.classes)
        images = self.settings.batch_size // self.settings.replicas
        together = _largest_divisor(len(batch.labels) // images, self.settings.replicas_at_once)
        for layer in self._norms:
            layer.replicas = together
        self._statistics.clear()
        size = images * together
        passes = [
            functools.partial(self._loss, _in_turn(part, together), _in_turn(labels, together))
            for part, labels in zip(
                torch.split(batch.images, size), torch.split(batch.labels, size), strict=True
            )
        ]
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        if len(passes) == 1 or not torch.is_grad_enabled():
            loss = torch.stack([one() for one in passes]).mean()
        else:
            loss = _Accumulated.apply(passes, *parameters)
        self._absorb()
        return loss

    def _loss(self, images: Tensor, labels: Tensor) -> Tensor:
        smoothing = self.settings.label_smoothing
        logits, second = self._logits(self.model, images)
        self._statistics.append(torch.cat([layer.batch for layer in self._norms], dim=1))
        loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
        if second is not None:
            again = F.cross_entropy(second, labels, label_smoothing=smoothing)
            loss = loss + self.settings.auxiliary * again
        return loss

    @torch.no_grad()
    def _absorb(self) -> None:
        """Moves batch norm's running statistics towards the mean over the replicas of all
        processes, as far as if each replica had moved them."""
        found = torch.stack(self._statistics).mean(0)
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            dist.all_reduce(found)
            found /= dist.get_world_size()
        layers = self._norms
        parts = torch.split(found, [len(layer.mean) for layer in layers], dim=1)
        running = [each for layer in layers for each in (layer.mean, layer.variance)]
        kept = self.settings.norm_decay**self.settings.replicas
        torch._foreach_lerp_(running, [row for part in parts for row in part], 1 - kept)

    def evaluation_sums(self, batch: PhotographBatch) -> dict[str, Tensor]:
        self.agree(batch.classes)
        logits, labels = self(batch.images), batch.labels
        best = logits.topk(min(5, self.settings.classes)).indices == labels[:, None]
        return {
            "loss": F.cross_entropy(logits, labels, reduction="sum").detach(),
            "correct": best[:, 0].sum(),
            "among_five": best.sum(),
            "count": torch.tensor(len(labels)),
        }

    @staticmethod
    def metrics(sums: dict[str, float]) -> dict[str, float]:
        """Mean loss in nats, top-1 and top-5 accuracy in percent."""
        count = sums["count"]
        return {
            "loss": sums["loss"] / count,
            "accuracy": 100 * sums["correct"] / count,
            "top5_accuracy": 100 * sums["among_five"] / count,
        }

    def agree(self, classes: Int64[Tensor, ""]) -> None:
        """Notes which classes the weights belong to; a checkpoint keeps it.

        Raises DataError if they are other ones, or in another order.
        """
        if self._agreed:
            return
        own, given = int(self.classes), int(classes)
        if own not in (0, given):
            raise DataError(
                f"the class folders of '{self.settings.data}' (fingerprint {given:012x}) are not"
                f" those that the checkpoint was trained with ({own:012x})\n"
                "  restore the old folders, or train again under another --results"
            )
        self.classes.fill_(classes)
        self._agreed = True

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """Raises DataError if the weights have another number of classes."""
        weight = state_dict.get("model.classifier.weight")
        if weight is not None and len(weight) != self.settings.classes:
            raise DataError(
                f"the checkpoint has {len(weight):,} classes, task.classes is"
                f" {self.settings.classes:,}\n"
                f"  set task.classes={len(weight)}, or train again under another --results"
            )
        self._agreed, self._counted = False, None
        return super().load_state_dict(state_dict, strict, assign)


def _largest_divisor(number: int, most: int) -> int:
    return next(d for d in range(min(number, most), 0, -1) if number % d == 0)


def _in_turn(part: Tensor, replicas: int) -> Tensor:
    """The images, or labels, of some replicas, which follow each other, in the order in which a
    pass has them: the first of each replica, then the second of each."""
    if replicas == 1:
        return part
    return part.view(replicas, -1, *part.shape[1:]).transpose(0, 1).flatten(0, 1)


class _Accumulated(torch.autograd.Function):
    """The mean of the passes' losses. Its gradient is added up pass by pass while it is computed,
    so that the memory of one pass is enough; `backward` only returns it."""

    @staticmethod
    def forward(ctx: Any, passes: Sequence[Callable[[], Tensor]], *parameters: Tensor) -> Tensor:
        losses, gradients = [], None
        for one in passes:
            with torch.enable_grad():
                loss = one() / len(passes)
            found = torch.autograd.grad(loss, parameters)
            losses.append(loss.detach())
            if gradients is None:
                gradients = list(found)
            else:
                torch._foreach_add_(gradients, found)
        ctx.gradients = gradients
        return torch.stack(losses).sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return None, *torch._foreach_mul(ctx.gradients, gradients[0])
