"""Storages as the persistent ids of a torch file declare them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from weights.errors import Refused, Unreadable, shown
from weights.files.dtypes import STORAGES
from weights.files.pickles.standins import Known, Name
from weights.files.tensors import Storage


def declared(kind: object, key: object, location: object, numel: object, fetch: Callable[[Storage], np.ndarray]) -> Storage:
    """The storage of a persistent id, whose elements `fetch` reads when they are asked for; Unreadable for an id that is malformed."""
    name = kind.name if isinstance(kind, (Known, Name)) else ""
    if name.startswith(("QInt", "QUInt")):
        raise Refused("a tensor is quantized, and its numbers are not those of the trained model", "Save the model before quantization")
    if (
        not isinstance(kind, Known)
        or name not in STORAGES
        or type(numel) is not int
        or not 0 <= numel < 1 << 60
        or not isinstance(key, str)
        or not isinstance(location, str)
    ):
        raise Unreadable(f"a storage of type {shown(kind)}, key {shown(key)} and {shown(numel)} elements", "The file is damaged")
    storage = Storage(dtype=STORAGES[name], numel=numel, fetch=lambda: fetch(storage), location=location, untyped=name == "UntypedStorage")
    return storage


def class_of(storage: Storage) -> str:
    """The name of torch's class of such storages."""
    if storage.untyped:
        return "UntypedStorage"
    return next(name for name, dtype in STORAGES.items() if dtype == storage.dtype and name != "UntypedStorage")


__all__ = ["class_of", "declared"]
