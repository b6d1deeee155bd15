"""torch files from before 1.6: five pickles in a row, then the storages."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

from weights.errors import Refused, Unreadable, shown
from weights.files.archive import read_into
from weights.files.budget import Budget
from weights.files.dtypes import NUMPY
from weights.files.pickles.unpickler import unpickled
from weights.files.storages import declared
from weights.files.tensors import Storage, buffer

MAGIC = 0x1950A86A20F9469CFC6C
_MAGIC_OPERATION = b"\x8a\n" + MAGIC.to_bytes(10, "little") + b"."


def is_legacy(head: bytes) -> bool:
    """Whether a file starts with torch's magic number, pickled by any protocol from 2."""
    return head[:1] == b"\x80" and _MAGIC_OPERATION in head[:64]


def load(path: Path, budget: Budget) -> object:
    """The object in a file of the old format."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            buffer = memoryview(data)
            try:
                return _load(path, buffer, size, budget)
            finally:
                buffer.release()


def _load(path: Path, buffer: memoryview, size: int, budget: Budget) -> object:
    storages: dict[str, Storage] = {}
    places: dict[str, int] = {}
    little = True

    def persistent(identity: object) -> object:
        if not isinstance(identity, tuple):
            raise Unreadable(f"the pickle refers to {shown(identity)}", "The file is damaged")
        what, kind, *rest = identity
        if what == "module":
            return kind
        if what != "storage" or len(rest) not in (3, 4) or not isinstance(rest[0], str):
            raise Unreadable(f"the pickle refers to {shown(identity)}", "The file is damaged")
        key, location, numel, *view = rest
        if view and view[0] is not None:
            raise Refused("a storage is a view of another, as torch before 0.4 wrote", "Load and save it again in torch")
        if key not in storages:
            storages[key] = declared(kind, key, location, numel, lambda s: _read(path, places[key], s, little))
        return storages[key]

    def plain(identity: object) -> object:
        raise Unreadable("the header refers to storages", "The file is damaged")

    position = 0

    def part(lookup: Callable[[object], object]) -> object:
        nonlocal position
        value, position = unpickled(buffer, lookup, budget, position)
        return value

    if any(type(number := part(plain)) is not int or number != wanted for wanted in (MAGIC, 1001)):
        raise Unreadable("not a torch file: its first pickles are not torch's", "Give the file that torch.save wrote")
    system = part(plain)
    little = not isinstance(system, dict) or system.get("little_endian", True) is not False
    root = part(persistent)
    keys = part(plain)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or sorted(keys) != sorted(storages):
        raise Unreadable("the list of storages is not the one that the tensors use", "Copy the file again")
    for key in keys:
        storage = storages[key]
        head = bytes(buffer[position : position + 8])
        if len(head) != 8 or struct.unpack("<q" if little else ">q", head)[0] != storage.numel:
            raise Unreadable(f"the storage {shown(key)} is cut off or has another length than its tensors", "Copy the file again")
        places[key] = position + 8
        position += 8 + storage.nbytes
        if position > size:
            raise Unreadable(f"the storage {shown(key)} is cut off", "Copy the file again")
    if position != size:
        raise Unreadable(f"{size - position} bytes follow the last storage", "Copy the file again")
    return root


def _read(path: Path, start: int, storage: Storage, little: bool) -> np.ndarray:
    dtype = NUMPY[storage.dtype]
    out = buffer(storage.numel * dtype.itemsize)
    with open(path, "rb", buffering=0) as file:
        read_into(file.fileno(), start, out, "a storage")
    flat = out.view(dtype)
    return flat if little else flat.byteswap()


__all__ = ["is_legacy", "load"]
