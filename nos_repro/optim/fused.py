"""The fused execution: one pass over memory, compiled once for all shapes of a device and dtype.

A processor's kernel is written in C++ (`native`), any other by torch's compiler (`traced`). Both
update whole rows of `LANES` elements; the few elements left over, and tensors with fewer than two
rows, go through the foreach execution, which gives the same numbers.
"""

import threading
import warnings

from torch import Tensor

from nos_repro.errors import ConfigError
from nos_repro.optim.batch import ParameterBatch, Step
from nos_repro.optim.compiled_draws import ONE_LOOP
from nos_repro.optim.compiler import compile_kernel, compiler_errors
from nos_repro.optim.foreach import update_foreach
from nos_repro.optim.kernel import Kernel, KernelKind, build, kind_of
from nos_repro.optim.native import NativeKernel, native_kernel
from nos_repro.optim.reference import update_reference
from nos_repro.optim.scalars import Numbers
from nos_repro.optim.traced import example, update_traced

PAYS_FROM = 1_000_000  # elements: below this, seconds of compiling save too little per step
DEVICES = ("cpu", "cuda", "xpu")

_COMPILED: dict[KernelKind, NativeKernel | Kernel] = {}
_FAILED: dict[str, str] = {}
_COMPILING = threading.RLock()


def uses_fused(wish: bool | None, batch: ParameterBatch, step: Step) -> bool:
    """Whether the fused execution updates a batch: if requested, or possible and worth it.

    Raises ConfigError if it is requested but impossible.
    """
    if wish is False:
        return False
    if step.program.wholes:
        if wish:
            words = " and ".join(step.program.wholes)
            raise ConfigError(
                f"fused=True is not possible for this rule: {words} takes whole tensors, and a"
                " kernel sees some elements at a time"
            )
        return False
    first = batch.parameters[0]
    types = {x.type for x in batch.parameters} - {Tensor}
    if wish is None and (
        types
        or first.device.type not in DEVICES
        or sum(x.numel for x in batch.parameters) < PAYS_FROM
    ):
        return False
    if types:  # of a fake tensor a kernel would read memory that is not there
        names = ", ".join(sorted(each.__name__ for each in types))
        raise ConfigError(f"fused=True is not possible here: a parameter is a {names}")
    kind = kind_of(step, first.dtype, first.device)
    ready = _ready(kind)
    if wish and not ready:
        raise ConfigError(f"fused=True is not possible here: {_FAILED[kind.device.type]}")
    return ready


def update_fused(batch: ParameterBatch, step: Step) -> None:
    """One update of every tensor of the batch, in place; equal to `update_reference`."""
    first = batch.parameters[0]
    kind = kind_of(step, first.dtype, first.device)
    kernel, numbers = _COMPILED[kind], Numbers(kind, step)
    if isinstance(kernel, NativeKernel):
        rest = kernel.update(batch, numbers)
    else:
        rest = update_traced(_traced, kind, batch.flattened(), numbers)
    if rest.weights:
        (update_reference if step.on_device else update_foreach)(rest, step)


def _traced(kind: KernelKind) -> Kernel | None:
    """The kernel of torch's compiler; None if it cannot be made."""
    kernel = _COMPILED[kind] if _ready(kind) else None
    return None if isinstance(kernel, NativeKernel) else kernel


def _ready(kind: KernelKind) -> bool:
    """Compiles the kernel once, on tensors of its own; warns once if that fails."""
    if kind not in _COMPILED:
        with _COMPILING:  # several threads may train with the same rule
            _try_to_compile(kind)
    return kind in _COMPILED


def _try_to_compile(kind: KernelKind) -> None:
    where = kind.device.type
    if kind not in _COMPILED and where not in _FAILED:
        try:
            if where not in DEVICES:
                raise RuntimeError(f"no compiler for device '{where}'")
            options = ONE_LOOP if kind.program.sites else {}
            native = native_kernel(kind)
            _COMPILED[kind] = native or compile_kernel(build(kind), example(kind), options)
        except compiler_errors() as error:
            _FAILED[where] = " ".join(str(error).split())[:300]
            warnings.warn(
                f"nos_repro: the fused update could not be compiled for '{where}' and the foreach "
                f"one goes on in its place (several times slower): {_FAILED[where]}",
                stacklevel=3,
            )
