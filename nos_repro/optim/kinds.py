"""Of which kind each parameter of a model is (`grouping.KINDS`), for who groups them."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

_KIND = "_nos_repro_kind"


def mark_kinds(model: nn.Module, heads: Iterable[nn.Module] | None = None) -> None:
    """Notes on each parameter of which kind it is.

    ``heads``: the modules that make the outputs (default: the last one that has a weight, is
    trained, and is no embedding).
    """
    embeddings = {id(p) for m in model.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)
                  for p in m.parameters()}  # fmt: skip
    for name, p in model.named_parameters():
        if p.ndim > 1 and "embed" in name.lower():
            embeddings.add(id(p))
    if heads is None:
        heads = [m for m in model.modules() if any(
            p.ndim > 1 and p.requires_grad and id(p) not in embeddings
            for p in m.parameters(recurse=False))][-1:]  # fmt: skip
    outputs = {id(p) for module in heads for p in module.parameters()}
    for name, p in model.named_parameters():
        setattr(p, _KIND, _kind(name, p, id(p) in embeddings, id(p) in outputs))


def _kind(name: str, p: Tensor, embeds: bool, is_output: bool) -> str:
    if p.ndim < 2:
        return "biases" if name.rpartition(".")[2].startswith("bias") else "norms"
    if embeds:
        return "embeddings"
    if is_output:
        return "heads"
    return "matrices" if p.ndim == 2 else "kernels"


def kind_of(p: Tensor) -> str:
    """The kind that was noted; "" if none was."""
    return str(getattr(p, _KIND, ""))
