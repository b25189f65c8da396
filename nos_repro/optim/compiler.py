"""`torch.compile` for a kernel: it starts quickly and leaves the user's own settings alone."""

import subprocess
from collections.abc import Callable, Mapping
from typing import Any

import torch

Kernel = Callable[..., None]


def compiler_errors() -> tuple[type[Exception], ...]:
    """What a missing or broken compiler raises; most of torch's own are RuntimeErrors."""
    from torch._dynamo import exc

    errors = RuntimeError, OSError, ImportError, subprocess.SubprocessError
    return (*errors, exc.FailOnRecompileLimitHit)


def compile_kernel(kernel: Kernel, example: tuple[Any, ...], options: Mapping[str, Any]) -> Kernel:
    """The compiled kernel, after a call on the example. Inductor keeps it in its cache on disk.

    Raises one of `compiler_errors()`. On its first use inductor compiles and loads a program for
    every instruction set of the processor, which takes 13 seconds. The first attempt trusts what
    the processor reports instead; if its kernel does not build or load, the second attempt probes.
    """
    options = {**options, "cpp.dynamic_threads": True}
    try:
        return _compile(kernel, example, {**options, "cpp.vec_isa_ok": True})
    except compiler_errors():
        if example[0][0].device.type != "cpu":
            raise
        _forget_instruction_sets()
        return _compile(kernel, example, options)
    finally:
        _forget_instruction_sets()


def _compile(kernel: Kernel, example: tuple[Any, ...], options: dict[str, Any]) -> Kernel:
    compiled: Kernel = torch.compile(kernel, fullgraph=True, options=options)
    with torch.no_grad():
        compiled(*example)
    return compiled


def _forget_instruction_sets() -> None:
    """Clears the list, so that nobody takes what was trusted here for probed."""
    from torch._inductor import cpu_vec_isa

    forget = getattr(cpu_vec_isa.valid_vec_isa_list, "cache_clear", None)
    if forget is not None:
        forget()
