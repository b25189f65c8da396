"""Scores optimizers that a program or a language model proposes (docs/score.md)."""

from typing import Any

__all__ = [
    "evaluate",
    "evaluate_stage1",
    "evaluate_stage2",
    "evaluate_stage3",
    "open_scorer",
    "score",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'nos_repro.score' has no attribute '{name}'")
    from nos_repro.score import contract

    return getattr(contract, name)
