"""The fused kernel of a processor: compiled by the C++ compiler, kept on disk, called directly.

Nothing is traced: the first step of a process that finds its library on disk loads it in
milliseconds. A library is named by all that it depends on (source, flags, compiler, torch) and
ends with a checksum; what does not match is compiled anew.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from array import array
from hashlib import blake2b
from pathlib import Path

import torch

from nos_repro.optim.batch import FlatBatch, ParameterBatch
from nos_repro.optim.kernel import KernelKind
from nos_repro.optim.native_source import COLUMNS, constants, native_source
from nos_repro.optim.places import LANES
from nos_repro.optim.scalars import Numbers

GRAIN = 32768  # elements: a thread of its own pays from here, as in torch
CHECKSUM = 16  # bytes at the end of a library, after what the loader reads
LIMIT = 300  # seconds of compiling

FLAGS = (
    "-O3", "-std=c++20", "-fPIC", "-fopenmp", "-fno-math-errno", "-ffp-contract=off", "-Wno-psabi",
)  # fmt: skip
CAPABILITIES = {
    "AVX512": ("-mavx512f", "-mavx512dq", "-mavx512vl", "-mavx512bw", "-mfma"),
    "AVX2": ("-mavx2", "-mfma", "-mf16c"),
}


def native_kernel(kind: KernelKind) -> NativeKernel | None:
    """The kernel; None if it cannot be made here, for the lack of a compiler, say."""
    capability = torch.backends.cpu.get_cpu_capability()
    if kind.device.type != "cpu" or sys.platform != "linux" or capability not in CAPABILITIES:
        return None
    source = None if kind.keyed_rows else native_source(kind)
    if source is None:
        return None
    try:
        library = _library(source, capability)
    except (OSError, ValueError, subprocess.SubprocessError):  # ValueError: CXX has an open quote
        return None
    return NativeKernel(library, kind)


class NativeKernel:
    """`update` of a library: one call for all tensors of a batch."""

    def __init__(self, library: ctypes.CDLL, kind: KernelKind) -> None:
        number, pointer = ctypes.c_int64, ctypes.c_void_p
        self._kept, self._sites = kind.program.kept, kind.program.sites
        self._constants = torch.tensor(constants(kind), dtype=kind.dtype)
        self._call = library.update
        self._call.argtypes = [pointer, number, pointer, pointer, pointer, number]
        self._call.restype = None

    def update(self, batch: ParameterBatch, numbers: Numbers) -> FlatBatch:
        """Updates the whole rows of every tensor; returns what is left: remainders, tensors of
        less than two rows, those whose draws do not follow the rows, and those whose averages were
        made for another precision."""
        table, drawing = array("q"), []
        left, elements, kept = [], 0, []
        flats = zip(batch.parameters, batch.gradients, batch.numbers, strict=True)
        for i, (x, g, number) in enumerate(flats):
            n = x.numel
            fits = n >= 2 * LANES and x.uniform
            places = x.laid.places.rows if fits and self._sites else None
            whole = n - n % LANES if fits and (places or not self._sites) else 0
            if whole < n:
                left.append((i, whole, n))
            if whole == 0:
                continue
            if not x.follows(g):
                g = x.laid.flat_gradient(g).to(x.dtype).contiguous()
                g = g.clone() if g._is_zerotensor() else g  # which holds no memory
                kept.append(g)
            table.extend((whole, x.address, g.data_ptr()))
            table.extend(x.addresses)
            table.extend((0, 1) if places is None else (places.bases.data_ptr(), places.stride))
            drawing.append(number)
            elements += whole
        self._run(table, elements, *numbers.on_device(drawing if self._sites else []))
        rest = FlatBatch()
        for i, start, end in left:
            rest.take(batch.flattened([i]), 0, start, end)
        return rest

    def _run(
        self, table: array[int], elements: int, scalars: torch.Tensor, keys: torch.Tensor
    ) -> None:
        """The rows of the table are those of native_source, `elements` their sum; keys [tensor,
        site, 2] are numbers of 32 bits."""
        threads = min(torch.get_num_threads(), elements // GRAIN + 1)
        start, length = table.buffer_info()
        rows = length // (COLUMNS + len(self._kept))
        inputs = (x.data_ptr() for x in (scalars, self._constants, keys))
        self._call(start, rows, *inputs, threads)


def kernels_folder() -> Path:
    """Where libraries are kept: in the user's cache, which is nobody else's to write."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "nos_repro" / "kernels"


def _library(source: str, capability: str) -> ctypes.CDLL:
    """The library of a source: the one on disk if it is whole, else a new one."""
    compiler = _compiler()
    flags = [*FLAGS, *CAPABILITIES[capability], *_defines(capability)]
    named = "\0".join([source, *compiler, *flags, torch.__version__, torch.__file__]).encode()
    try:
        folder = kernels_folder()
        path = folder / f"{blake2b(named, digest_size=12).hexdigest()}.so"
        folder.mkdir(parents=True, exist_ok=True)
        if not is_whole(path):
            _build(source, compiler, flags, path)
        return ctypes.CDLL(str(path))
    except (OSError, RuntimeError):  # no home, or one that cannot be written
        with tempfile.TemporaryDirectory() as folder_name:
            path = Path(folder_name, "kernel.so")
            _build(source, compiler, flags, path)
            return ctypes.CDLL(str(path))


def _build(source: str, compiler: list[str], flags: list[str], path: Path) -> None:
    """Compiles; the library appears whole or not at all, whoever else writes it too."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="building-") as folder:
        code, thing, library = (Path(folder, f"kernel.{end}") for end in ("cpp", "o", "so"))
        code.write_text(source, encoding="ascii")
        _call(*compiler, *flags, "-c", str(code), "-o", str(thing))
        # without -fopenmp: its functions are then those of the copy that torch has loaded
        torch_cpu = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
        _call(
            *compiler,
            "-shared",
            "-Wl,--no-as-needed",
            str(thing),
            str(torch_cpu),
            "-o",
            str(library),
        )
        content = library.read_bytes()
        library.write_bytes(content + blake2b(content, digest_size=CHECKSUM).digest())
        os.replace(library, path)


def _call(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=LIMIT)


def is_whole(path: Path) -> bool:
    """Whether a library is there with the checksum of its content: the loader would die of a
    truncated one."""
    try:
        content = path.read_bytes()
    except OSError:
        return False
    checksum = blake2b(content[:-CHECKSUM], digest_size=CHECKSUM).digest()
    return content[-CHECKSUM:] == checksum


def _compiler() -> list[str]:
    named = shlex.split(os.environ.get("CXX", ""))
    found = named or list(filter(shutil.which, ("g++", "c++", "clang++")))[:1]
    if not found:
        raise FileNotFoundError("no C++ compiler")
    return found


def _defines(capability: str) -> list[str]:
    include = Path(torch.__file__).parent / "include"
    return [
        f"-DCPU_CAPABILITY={capability}",
        f"-DCPU_CAPABILITY_{capability}",
        f"-I{include}",
    ]
