"""Decoded once: arrays on disk that every process on the machine maps into its memory.

`<place>/<name>-<key>/<array>.npy`, where the key is a digest of the source files (names, sizes,
modification times), so a changed source gets a new folder. A folder appears complete, with one
rename: two processes that decode at once both do the work, and the second finds the first one's
result. Old folders stay until the user removes them; `.decoded` may be removed at any time.

What is larger than memory is decoded in parts (`decoded_in_parts`), which a process that is killed
leaves to the next one.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nos_repro.data.paths import decoded_folders
from nos_repro.errors import DataError, NosError

FORMAT = "1"
"""Part of every key; to be changed when decoding changes."""


def source_key(root: Path, files: Iterable[str]) -> str:
    """A digest of the files' names, sizes and modification times."""
    digest = hashlib.sha256(FORMAT.encode())
    for name in files:
        state = os.stat(root / name)
        line = f"\n{name} {state.st_size} {state.st_mtime_ns}"
        digest.update(line.encode(errors="surrogateescape"))  # also names that are not UTF-8
    return digest.hexdigest()[:16]


class Arrays(dict[str, Tensor]):
    """The arrays of a folder by name."""

    def __init__(self, place: Path) -> None:
        self.place = place
        maps = {path.stem: np.load(path, mmap_mode="c") for path in place.glob("*.npy")}
        super().__init__({name: torch.from_numpy(array) for name, array in maps.items()})

    def __missing__(self, name: str) -> Tensor:
        raise _damaged(self.place, f"{name}.npy is missing")


def decoded_files(
    data_dir: Path,
    name: str,
    root: Path,
    files: Sequence[str],
    decode: Callable[[], Mapping[str, Tensor]],
) -> Arrays:
    """The arrays that `decode` makes from files below `root`, kept as long as these do not change.

    Raises DataError as `decoded` does, and if the files change while they are decoded.
    """
    key = source_key(root, files)

    def decode_unchanged() -> Mapping[str, Tensor]:
        arrays = decode()
        if source_key(root, files) != key:
            raise DataError(f"files in {root} changed while they were read\n  start again")
        return arrays

    return decoded(data_dir, f"{name}-{key}", decode_unchanged)


def decoded(data_dir: Path, name: str, decode: Callable[[], Mapping[str, Tensor]]) -> Arrays:
    """The arrays kept under `name`, memory-mapped; `decode` makes them the first time.

    The maps are copy-on-write: a process that writes into one does not change another's.

    Raises DataError if no place is writable, the disk is full, or an array is damaged.
    """
    places = [place / name for place in decoded_folders(data_dir)]
    if (found := _found(places)) is not None:
        return found
    arrays = decode()
    refusals = []
    for place in places:
        try:
            _write(place, arrays)
        except OSError as error:
            refusals.append(f"{place.parent}: {error.strerror or error}")
        else:
            return _open(place)
    gigabytes = sum(array.nbytes for array in arrays.values()) / 1e9
    raise DataError(
        f"no place for the {gigabytes:.2f} GB of decoded images of '{name}'\n"
        f"  {'; '.join(refusals)}\n  make one of these writable, or set XDG_CACHE_HOME"
    )


@dataclass(frozen=True)
class LongArray:
    """An array of one dimension that comes in parts, end to end."""

    dtype: type[np.generic]
    length: int
    parts: Iterable[np.ndarray]


def decoded_in_parts(
    data_dir: Path, name: str, fill: Callable[[Path], Mapping[str, LongArray]]
) -> Arrays:
    """The arrays kept under `name`, memory-mapped; `fill` makes them the first time.

    It is handed a folder for the parts of its work, and returns what they amount to. The folder of
    a process that was killed is handed to the next one, which need not make again what it finds
    there. Several processes may fill one folder at once, if each file appears with a rename.

    Raises DataError if no place is writable, the disk is full, or an array is damaged.
    """
    places = [place / name for place in decoded_folders(data_dir)]
    if (found := _found(places)) is not None:
        return found
    refusals = []
    for place in places:
        parts = place.with_name(f".{name}.parts")
        try:
            parts.mkdir(parents=True, exist_ok=True)
            _put_together(place, parts, fill(parts))
        except OSError as error:  # also if another process was faster, and has removed the parts
            refusals.append(f"{place.parent}: {error.strerror or error}")
            shutil.rmtree(parts, ignore_errors=True)
        except NosError:
            shutil.rmtree(parts, ignore_errors=True)
            with suppress(OSError):
                place.parent.rmdir()
            raise
        else:
            shutil.rmtree(parts, ignore_errors=True)
        if (found := _found([place])) is not None:
            return found
    raise DataError(
        f"no place for the decoded form of '{name}'\n"
        f"  {'; '.join(refusals)}\n  make one of these writable, or set XDG_CACHE_HOME"
    )


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a file of several arrays, with one rename. Raises OSError."""
    number, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with open(number, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        os.replace(scratch, path)
    except OSError:
        with suppress(OSError):
            os.unlink(scratch)
        raise


def read_arrays(path: Path) -> dict[str, np.ndarray] | None:
    """The arrays of such a file; None if it is missing or damaged, as after a power failure."""
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            return dict(arrays)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None


def read_array(path: Path, name: str) -> np.ndarray:
    """One array of such a file. Raises OSError if it is gone."""
    with path.open("rb") as file, np.load(file) as arrays:
        array: np.ndarray = arrays[name]
        return array


def _found(places: Iterable[Path]) -> Arrays | None:
    """The arrays in the first of these folders that exists."""
    for place in places:
        with suppress(OSError):  # another user's, which this one must not search
            if place.is_dir():
                return _open(place)
    return None


def _open(place: Path) -> Arrays:
    try:
        return Arrays(place)
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(place, error) from error


def _damaged(place: Path, reason: object) -> DataError:
    return DataError(
        f"{place} is damaged ({reason})\n  remove that folder; it will be decoded again"
    )


def _write(place: Path, arrays: Mapping[str, Tensor]) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    try:
        for name, array in arrays.items():
            whole = np.ascontiguousarray(array.numpy())
            _save(new / f"{name}.npy", whole.dtype.type, whole.shape, [whole])
        _appear(new, place)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _put_together(place: Path, parts: Path, arrays: Mapping[str, LongArray]) -> None:
    new = Path(tempfile.mkdtemp(prefix="whole-", dir=parts))
    for name, array in arrays.items():
        _save(new / f"{name}.npy", array.dtype, (array.length,), array.parts)
    _appear(new, place)


def _appear(new: Path, place: Path) -> None:
    """Renames a folder, unless another process has put the same in place."""
    new.chmod(0o755)
    try:
        new.rename(place)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise


def _save(
    path: Path, dtype: type[np.generic], shape: tuple[int, ...], parts: Iterable[np.ndarray]
) -> None:
    """Like `np.save`, but raises on a full disk: `np.save` can silently lose the last bytes."""
    with path.open("wb") as file:
        header = np.lib.format.header_data_from_array_1_0(np.empty(0, dtype))
        np.lib.format.write_array_header_1_0(file, {**header, "shape": shape})
        for part in parts:
            file.write(part.data.cast("B"))
        file.flush()
        os.fsync(file.fileno())
