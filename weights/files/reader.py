"""Reads checkpoints without torch and without running anything of theirs: torch files old and new, safetensors, shards."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from weights.errors import ConversionError, Refused, Unreadable, Usage
from weights.files import npz, safetensors, torch_legacy
from weights.files.archive import Archive
from weights.files.dtypes import NUMPY, STORAGES
from weights.files.pickles.allowed import find
from weights.files.pickles.bounds import checked_tree
from weights.files.pickles.standins import Known
from weights.files.pickles.unpickler import Machine
from weights.files.tensors import Storage, Tensor

MAX_INDEX = 64 << 20
CONVERTED = "a converted checkpoint, not a torch file", "Use weights.restore, or hyperport export to have the torch file back"


@dataclass
class TorchFile:
    """What a file holds. `format` is "zip", "legacy", "safetensors" or "sharded"; `root` plain data, `Tensor`s and `Record`s."""

    path: Path
    format: str
    root: object


def read(path: str | Path) -> TorchFile:
    """Reads a checkpoint's structure; the tensors' bytes stay in the file until `Tensor.array()` asks for them.

    Raises Unreadable for what is no checkpoint or a damaged one, Refused for one that wants code run or memory it has no data for.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            head = file.read(64)
    except OSError as error:
        raise Unreadable(f"cannot be opened ({error.strerror})", "Give the path of a checkpoint", path=path) from None
    try:
        kind, load = _format(path, head)
        root = load(path)
        checked_tree(root)
    except ConversionError as error:
        raise error.at(path) from None
    return TorchFile(path, kind, root)


def _format(path: Path, head: bytes) -> tuple[str, Callable[[Path], object]]:
    if head.startswith(b"PK"):
        return "zip", _zip
    if torch_legacy.is_legacy(head):
        return "legacy", lambda p: torch_legacy.load_legacy(p, _storage)
    if head.lstrip()[:1] == b"{" and path.name.endswith(".json"):
        return "sharded", _sharded
    if safetensors.is_safetensors(head):
        return "safetensors", _safetensors
    if head[:1] == b"\x80":
        raise Unreadable("a pickle that torch.save did not write", "Give the file that torch.save wrote")
    raise Unreadable(
        "not a checkpoint: neither torch's formats nor safetensors" if head else "an empty file",
        "Give the file that torch.save wrote",
    )


def _zip(path: Path) -> object:
    if "torch.json" in npz.names(path):
        raise Usage(*CONVERTED)
    archive = Archive(path)
    if "data.pkl" not in archive.entries:
        raise Unreadable("a zip file without data.pkl", "Give the file that torch.save wrote")
    if "constants.pkl" in archive.entries or any(name.startswith("code/") for name in archive.entries):
        raise Refused("a TorchScript archive, which holds code", "Save the module's state_dict")
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
            storages[key] = _storage(kind, key, location, numel, lambda s: fetch(s, key))
            entry = archive.entries.get(f"data/{key}")
            if entry is None or entry.file_size != storages[key].numel * NUMPY[storages[key].dtype].itemsize:
                raise Unreadable(
                    f"the storage data/{key[:40]} is missing or has another length than its tensors",
                    "Copy the file again",
                )
        known = storages[key]
        if str(kind).rpartition(".")[2] != ("UntypedStorage" if known.untyped else _class(known)) or numel != known.numel:
            raise Unreadable(f"the storage data/{key[:40]} is declared twice, differently", "The file is damaged")
        return known

    return Machine(archive.small("data.pkl"), find, persistent).load()


def _class(storage: Storage) -> str:
    return next(name for name, dtype in STORAGES.items() if dtype == storage.dtype and name != "UntypedStorage")


def _storage(kind: object, key: object, location: object, numel: object, fetch: Callable[[Storage], np.ndarray]) -> Storage:
    """A storage as a persistent id declares it."""
    name = kind.name if isinstance(kind, Known) else ""
    if (
        name not in STORAGES
        or type(numel) is not int
        or not 0 <= numel < 1 << 60
        or not isinstance(key, str)
        or not isinstance(location, str)
    ):
        raise Unreadable(f"a storage of type {kind}, key {str(key)[:40]} and {str(numel)[:40]} elements", "The file is damaged")
    storage = Storage(STORAGES[name], numel, lambda: fetch(storage), location, untyped=name == "UntypedStorage")
    return storage


def _safetensors(path: Path) -> OrderedDict[str, Tensor]:
    tensors, metadata = safetensors.read(path)
    if "hyperport" in metadata:
        raise Usage(*CONVERTED)
    return tensors


def _sharded(path: Path) -> OrderedDict[str, Tensor]:
    """The state_dict that an index {"weight_map": {key: file}} spreads over files beside it."""
    try:
        index = json.loads(path.read_bytes()[:MAX_INDEX])
        names = index["weight_map"]
        pairs = list(names.items())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Unreadable('not an index of shards: it has no "weight_map"', "Give the .index.json or the checkpoint") from None
    shards: dict[str, dict] = {}
    for key, name in pairs:
        if not isinstance(name, str) or Path(name).name != name or name in ("", ".", ".."):
            raise Refused(
                f"the index places {key!r} in {str(name)[:80]!r}, which is not a file beside it",
                "Do not trust this index",
            )
        if name not in shards:
            root = read(path.parent / name).root
            if not isinstance(root, dict):
                raise Unreadable(f"the shard {name} is no state_dict", "Give the shards that the index was written with")
            shards[name] = root
        if not isinstance(shards[name].get(key), Tensor):
            raise Unreadable(f"the index places {key!r} in {name}, which lacks it", "Give the shards that the index was written with")
    extra = [(name, key) for name, shard in shards.items() for key in shard if names.get(key) != name]
    if extra:
        raise Unreadable(
            f"the shard {extra[0][0]} holds {extra[0][1]!r}, which the index does not place there",
            "Give the index of these shards",
        )
    return OrderedDict((key, shards[name][key]) for key, name in pairs)
