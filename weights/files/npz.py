"""numpy's .npz: a zip file of .npy entries, uncompressed, their bytes at multiples of 64."""

from __future__ import annotations

import contextlib
import io
import math
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from tokenize import TokenError

import numpy as np
from numpy.typing import ArrayLike

from weights.errors import ConversionError, NotWritten, Unreadable, shown
from weights.files.archive import Archive
from weights.files.budget import Budget
from weights.files.outputs import new_file
from weights.files.tensors import MAX_DIMENSIONS
from weights.files.writer import entry

_HEAD = 1 << 16
"""Bytes at the beginning of an entry in which its header is."""


def write(path: Path, arrays: Mapping[str, ArrayLike], documents: Mapping[str, bytes], overwrite: bool = False) -> None:
    """Writes arrays under their names, and documents as strings of bytes, whole or not at all. `numpy.load` reads them.

    Types that numpy itself lacks (bfloat16, float8) are raw bytes of their size, as `numpy.savez` writes them:
    `numpy.load(path)[name].view(ml_dtypes.bfloat16)`.
    """
    if odd := [name for name in arrays if name != name.encode(errors="replace").decode()]:
        raise NotWritten(f"the name {shown(odd[0])} cannot be that of a zip entry", "Give a folder", path=path)
    with new_file(path, overwrite) as temporary, zipfile.ZipFile(temporary, "w") as file:
        for name, value in [*arrays.items(), *((n, np.array(text)) for n, text in documents.items())]:
            array = np.asarray(value)
            flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
            entry(file, f"{name}.npy", _header(array), flat)


def is_converted(archive: Archive) -> bool:
    """Whether a zip file has the description of a converted checkpoint."""
    return "torch.json.npy" in archive.entries


def read(archive: Archive) -> dict[str, np.ndarray]:
    """Every array by name, checksums verified. Unreadable for a file that is not an .npz of plain numbers."""
    arrays = {}
    for name, info in archive.entries.items():
        raw = archive.bytes_of(name, info.file_size)
        with _plain(name):
            arrays[name.removesuffix(".npy")] = _parsed(raw)
    return arrays


def check(path: str | Path) -> None:
    """Raises Unreadable or Refused for an .npz file that `numpy.load` should not be given: a pipe, arrays that are not as large as they
    say, arrays packed beyond the budget. A file that is absent or of another kind is left to who reads it.
    """
    path = Path(path)
    try:
        budget = Budget.of(path, remedy="Save it again with numpy.savez")
        with open(path, "rb") as file:
            if file.read(2) != b"PK":
                return
        archive = Archive(path, budget)
        for name, info in archive.entries.items():
            with _plain(name):
                _described(archive.begin(name, _HEAD), info.file_size, "biufcVSU")
    except (FileNotFoundError, IsADirectoryError):
        return
    except OSError as error:
        raise Unreadable(f"cannot be opened ({error.strerror})", "Give the path of an .npz file", path=path) from None
    except ConversionError as error:
        raise error.at(path) from None


@contextlib.contextmanager
def _plain(name: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, OverflowError, MemoryError, RecursionError, SyntaxError, TokenError) as error:
        raise Unreadable(f"the entry {shown(name)} is not an array of plain numbers ({error!s:.100})", "Save it again") from None


def _header(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    plain = array.dtype.isbuiltin == 1 or array.dtype.kind == "S"
    code = np.lib.format.dtype_to_descr(array.dtype) if plain else f"|V{array.dtype.itemsize}"
    np.lib.format.write_array_header_1_0(out, {"descr": code, "fortran_order": False, "shape": array.shape})
    return out.getvalue()


def _parsed(raw: np.ndarray) -> np.ndarray:
    start, shape, fortran, dtype = _described(raw[:_HEAD].tobytes(), len(raw), "biufcVS")
    return raw[start:].view(dtype).reshape(shape, order="F" if fortran else "C")


def _described(head: bytes, size: int, kinds: str) -> tuple[int, tuple[int, ...], bool, np.dtype]:
    """Where the elements begin in an entry of `size` bytes, and their shape, order and type. ValueError where these do not fit together."""
    file = io.BytesIO(head)
    version = np.lib.format.read_magic(file)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read_header:
        raise ValueError(f"version {version}")
    shape, fortran, dtype = read_header[version](file)
    if dtype.hasobject or dtype.kind not in kinds or dtype.subdtype or dtype.names or (dtype.itemsize == 0 and dtype.kind != "U"):
        raise ValueError(f"type {dtype}")
    if len(shape) > MAX_DIMENSIONS or min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != size - file.tell():
        raise ValueError(f"shape {shown(shape)} of {dtype} in {size - file.tell()} bytes")
    return file.tell(), shape, fortran, dtype


__all__ = ["check", "is_converted", "read", "write"]
