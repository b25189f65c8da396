"""Scores optimizers that a program or a language model proposes (docs/score.md)."""

from typing import Any

__all__ = ["Scorer", "evaluate", "evaluate_stage1", "evaluate_stage2", "evaluate_stage3", "score"]

_HOME = {"Scorer": "nos_repro.score.cascade"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'nos_repro.score' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_HOME.get(name, "nos_repro.score.contract")), name)
