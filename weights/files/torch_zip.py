"""torch's files since 1.6: a zip archive of one pickle and the bytes of its storages."""

from __future__ import annotations

import numpy as np

from weights.errors import Refused, Unreadable, shown
from weights.files import other_formats
from weights.files.archive import Archive
from weights.files.dtypes import NUMPY
from weights.files.pickles.standins import Known
from weights.files.pickles.unpickler import unpickled
from weights.files.storages import class_of, declared
from weights.files.tensors import Storage


def load(archive: Archive) -> object:
    """The object in a file of torch's zip format. Refused for TorchScript, which is code."""
    top = next((name.partition("/")[0] for name in archive.entries if name.endswith("/data.pkl") and name.count("/") == 1), None)
    if top is None:
        raise other_formats.of_zip(archive.entries)
    others = {name.partition("/")[0] for name in archive.entries} - {top}
    if others:
        raise Unreadable(f"the zip file has {1 + len(others)} top folders; torch writes one", "Give the file that torch.save wrote")
    if f"{top}/constants.pkl" in archive.entries or any(name.startswith(f"{top}/code/") for name in archive.entries):
        raise Refused("a TorchScript archive, which contains code", "Save the module's state_dict")
    order = archive.whole(f"{top}/byteorder").strip() if f"{top}/byteorder" in archive.entries else b"little"
    if order not in (b"little", b"big"):
        raise Unreadable(f"the byte order is {shown(order, 20)}", "Copy the file again")
    storages: dict[str, Storage] = {}

    def fetch(storage: Storage, key: str) -> np.ndarray:
        dtype = NUMPY[storage.dtype]
        flat = archive.bytes_of(f"{top}/data/{key}", storage.numel * dtype.itemsize).view(dtype)
        return flat if order == b"little" else flat.byteswap()

    def persistent(identity: object) -> object:
        if not isinstance(identity, tuple) or len(identity) != 5 or identity[0] != "storage" or not isinstance(identity[2], str):
            raise Unreadable(f"the pickle refers to {shown(identity)}", "The file is damaged")
        _, kind, key, location, numel = identity
        if key not in storages:
            storages[key] = declared(kind, key, location, numel, lambda s: fetch(s, key))
            entry = archive.entries.get(f"{top}/data/{key}")
            if entry is None or entry.file_size != storages[key].nbytes:
                raise Unreadable(
                    f"the storage data/{shown(key)[1:-1]} is missing or has another length than its tensors",
                    "Copy the file again",
                )
        known = storages[key]
        if class_of(known) != (kind.name if isinstance(kind, Known) else None) or numel != known.numel:
            raise Unreadable(f"the storage data/{shown(key)[1:-1]} is declared twice, differently", "The file is damaged")
        return known

    root, _ = unpickled(archive.whole(f"{top}/data.pkl"), persistent, archive.budget)
    return root


__all__ = ["load"]
