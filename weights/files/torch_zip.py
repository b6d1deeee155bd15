"""torch's files since 1.6: a zip archive of one pickle and the bytes of its storages."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from weights.errors import Refused, Unreadable
from weights.files.archive import Archive
from weights.files.dtypes import NUMPY
from weights.files.pickles.unpickler import unpickled
from weights.files.storages import class_of, declared
from weights.files.tensors import Storage


def load(path: Path) -> object:
    """The object in a file of torch's zip format. Refused for TorchScript, which is code."""
    archive = Archive(path)
    if "data.pkl" not in archive.entries:
        raise Unreadable("a zip file without data.pkl", "Give the file that torch.save wrote")
    if "constants.pkl" in archive.entries or any(name.startswith("code/") for name in archive.entries):
        raise Refused("a TorchScript archive, which contains code", "Save the module's state_dict")
    order = archive.small("byteorder").strip() if "byteorder" in archive.entries else b"little"
    if order not in (b"little", b"big"):
        raise Unreadable(f"the byte order is {order[:20]!r}", "Copy the file again")
    storages: dict[str, Storage] = {}

    def fetch(storage: Storage, key: str) -> np.ndarray:
        dtype = NUMPY[storage.dtype]
        flat = archive.bytes_of(f"data/{key}", storage.numel * dtype.itemsize).view(dtype)
        return flat if order == b"little" else flat.byteswap()

    def persistent(identity: object) -> object:
        if not isinstance(identity, tuple) or len(identity) != 5 or identity[0] != "storage" or not isinstance(identity[2], str):
            raise Unreadable(f"the pickle refers to {str(identity)[:80]}", "The file is damaged")
        _, kind, key, location, numel = identity
        if key not in storages:
            storages[key] = declared(kind, key, location, numel, lambda s: fetch(s, key))
            entry = archive.entries.get(f"data/{key}")
            if entry is None or entry.file_size != storages[key].numel * NUMPY[storages[key].dtype].itemsize:
                raise Unreadable(
                    f"the storage data/{key[:40]} is missing or has another length than its tensors",
                    "Copy the file again",
                )
        known = storages[key]
        if str(kind).rpartition(".")[2] != ("UntypedStorage" if known.untyped else class_of(known)) or numel != known.numel:
            raise Unreadable(f"the storage data/{key[:40]} is declared twice, differently", "The file is damaged")
        return known

    root, _ = unpickled(archive.small("data.pkl"), persistent)
    return root


__all__ = ["load"]
