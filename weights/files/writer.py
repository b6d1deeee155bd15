"""Writes files that torch.load reads (`weights_only=True` for state_dicts), without torch."""

from __future__ import annotations

import re
import struct
import zipfile
from pathlib import Path

import numpy as np

from weights.errors import NotWritten, Usage
from weights.files.inputs import as_path
from weights.files.outputs import new_file
from weights.files.pickles.pickler import Pickler

ALIGNMENT = 64
CHUNK = 16 << 20
_LARGE = 1 << 30


def write(path: str | Path, root: object, overwrite: bool = False) -> None:
    """Writes plain data with `Tensor`s to `path`, whole or not at all. Tensors on one storage stay tied.

    overwrite: replaces a file that is there; without it, NotWritten.

    The layout is torch's (1.6 and later): data.pkl, byteorder, data/<key>, version, under one folder named as the file.
    """
    path = as_path(path)
    if not isinstance(overwrite, bool):
        raise Usage(f"overwrite is a {type(overwrite).__name__}", "Give True or False", path=path)
    pickler = Pickler()
    try:
        pickle = pickler.dump(root)
    except TypeError as error:
        raise NotWritten(str(error), "Keep plain data and tensors", path=path) from None
    top = re.sub(r"[^\w.\- ]", "_", path.stem).lstrip(".") or "archive"  # a name on a disk may be any bytes, with signs that zip forbids
    with new_file(path, overwrite) as temporary, zipfile.ZipFile(temporary, "w") as file:
        entry(file, f"{top}/data.pkl", pickle)
        entry(file, f"{top}/.format_version", b"1")
        entry(file, f"{top}/.storage_alignment", b"64")
        entry(file, f"{top}/byteorder", b"little")
        for key, storage in enumerate(pickler.storages):
            flat = np.ascontiguousarray(storage.read())
            if flat.dtype.byteorder == ">":
                flat = flat.byteswap()
            entry(file, f"{top}/data/{key}", flat.view(np.uint8).data)
            storage.forget()
            del flat  # before the next one is made
        entry(file, f"{top}/version", b"3\n")


def entry(file: zipfile.ZipFile, name: str, *parts: bytes | memoryview) -> None:
    """Adds an uncompressed entry whose bytes begin at a multiple of 64."""
    info = zipfile.ZipInfo(name)
    info.file_size = sum(map(len, parts))
    large = info.file_size > _LARGE
    assert file.fp is not None
    start = file.fp.tell() + 30 + len(name.encode()) + 4 + (20 if large else 0)
    padding = -start % ALIGNMENT
    info.extra = struct.pack("<2sH", b"FB", padding) + b"Z" * padding
    with file.open(info, "w", force_zip64=large) as out:
        for data in parts:
            for at in range(0, len(data), CHUNK):
                out.write(data[at : at + CHUNK])


__all__ = ["entry", "write"]
