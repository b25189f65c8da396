"""What a candidate may not change in its own process: torch's and Python's functions, and settings
that belong to the whole program."""

from __future__ import annotations

import builtins
import importlib
import os
import sys
from collections.abc import Iterator
from typing import Any

import torch

MODULES = (
    *("torch", "torch.nn.functional", "torch.nn.init", "torch.autograd", "torch.linalg"),
    *("torch.random", "torch.optim", "time", "math", "random", "os", "json", "gc", "io", "pickle"),
)
CLASSES = (torch.Tensor, torch.nn.Parameter, torch.nn.Module, torch.optim.Optimizer)


class Originals:
    """The functions and classes that are watched, as they were, and the program's settings."""

    def __init__(self) -> None:
        self._spaces = dict(_spaces())
        self._values = {
            name: {key: value for key, value in space.items() if callable(value)}
            for name, space in self._spaces.items()
        }
        self.settle()

    def settle(self) -> None:
        """Takes the settings as they are now for the right ones."""
        self._settings = settings()

    def patched(self) -> str:
        """The first function that is another one now, or gone; "" if there is none."""
        for name, values in self._values.items():
            space = self._spaces[name]
            for key, value in values.items():
                if space.get(key) is not value:
                    return f"{name}.{key}"
        return ""

    def changed(self) -> str:
        """The first setting of the program that has another value now; "" if there is none."""
        now = settings()
        return next((name for name, was in self._settings.items() if now[name] != was), "")


def _spaces() -> Iterator[tuple[str, Any]]:
    yield "builtins", vars(builtins)
    for name in MODULES:
        yield name, vars(importlib.import_module(name))
    for cls in CLASSES:
        yield f"{cls.__module__}.{cls.__qualname__}", vars(cls)


def settings() -> dict[str, Any]:
    """The settings of the whole program that an optimizer has no business with."""
    return {
        "torch's number of threads": torch.get_num_threads(),
        "torch's default dtype": torch.get_default_dtype(),
        "torch's gradient mode": torch.is_grad_enabled(),
        "the seed of torch's generator": torch.initial_seed(),
        "torch's deterministic mode": torch.are_deterministic_algorithms_enabled(),
        "torch's default device": str(torch.get_default_device()),
        "the working folder": os.getcwd(),
        "Python's limit of recursion": sys.getrecursionlimit(),
    }
