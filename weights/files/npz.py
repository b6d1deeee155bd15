"""numpy's .npz: a zip file of .npy entries, uncompressed, their bytes at multiples of 64."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from weights.errors import Unreadable
from weights.files.archive import Archive
from weights.files.outputs import new_file
from weights.files.writer import entry


def write(path: Path, arrays: Mapping[str, ArrayLike], documents: Mapping[str, bytes], overwrite: bool = False) -> None:
    """Writes arrays under their names, and documents as strings of bytes, whole or not at all. `numpy.load` reads them.

    Types that numpy itself lacks (bfloat16, float8) are raw bytes of their size, as `numpy.savez` writes them:
    `numpy.load(path)[name].view(ml_dtypes.bfloat16)`.
    """
    with new_file(path, overwrite) as temporary, zipfile.ZipFile(temporary, "w") as file:
        for name, value in [*arrays.items(), *((n, np.array(text)) for n, text in documents.items())]:
            array = np.asarray(value)
            flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
            entry(file, f"{name}.npy", _header(array), flat)


def names(path: Path) -> list[str]:
    """The names of the arrays of a zip file; an empty list for any other file."""
    try:
        with zipfile.ZipFile(path) as file:
            return [name.removesuffix(".npy") for name in file.namelist()]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError):
        return []


def read(path: Path) -> dict[str, np.ndarray]:
    """Every array by name, checksums verified. Unreadable for a file that is not an .npz of plain numbers."""
    archive = Archive(path, folder=False)
    arrays = {}
    for name, info in archive.entries.items():
        raw = archive.bytes_of(name, info.file_size)
        try:
            arrays[name.removesuffix(".npy")] = _parsed(raw)
        except (ValueError, TypeError, OverflowError, MemoryError, RecursionError, SyntaxError) as error:
            raise Unreadable(f"the entry {name[:100]!r} is not an array of plain numbers ({error})", "Copy the file again") from None
    return arrays


def _header(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    plain = array.dtype.isbuiltin == 1 or array.dtype.kind == "S"
    code = np.lib.format.dtype_to_descr(array.dtype) if plain else f"|V{array.dtype.itemsize}"
    np.lib.format.write_array_header_1_0(out, {"descr": code, "fortran_order": False, "shape": array.shape})
    return out.getvalue()


def _parsed(raw: np.ndarray) -> np.ndarray:
    head = io.BytesIO(raw[: 1 << 16].tobytes())
    version = np.lib.format.read_magic(head)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read_header:
        raise ValueError(f"version {version}")
    shape, fortran, dtype = read_header[version](head)
    if dtype.hasobject or dtype.kind not in "biufcVS" or dtype.subdtype or dtype.names or dtype.itemsize == 0:
        raise ValueError(f"type {dtype}")
    body = raw[head.tell() :]
    if int(np.prod(shape, dtype=object)) * dtype.itemsize != len(body):
        raise ValueError(f"shape {shape} of {dtype} in {len(body)} bytes")
    return body.view(dtype).reshape(shape, order="F" if fortran else "C")


__all__ = ["names", "read", "write"]
