"""Reads checkpoints without torch and without running code of theirs: torch files of all versions, safetensors, shards."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from weights.errors import ConversionError, Refused, Unreadable, Usage
from weights.files import npz, safetensors, torch_legacy, torch_zip
from weights.files.pickles.bounds import checked_tree
from weights.files.tensors import Tensor

MAX_INDEX = 64 << 20
CONVERTED = "a converted checkpoint, not a torch file", "Use weights.restore, or hyperport export to get the torch file back"


@dataclass
class TorchFile:
    """The contents of a file. `format`: "zip", "legacy", "safetensors" or "sharded". `root`: plain data, `Tensor`s and `Record`s."""

    path: Path
    format: str
    root: object


def read(path: str | Path) -> TorchFile:
    """Reads a checkpoint's structure; the tensors' bytes stay in the file until `Tensor.array()` asks for them.

    Raises Unreadable for a file that is not a checkpoint or is damaged, Refused for one that asks for code to be run or claims more
    data than it has.
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
        return "legacy", torch_legacy.load
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
    return torch_zip.load(path)


def _safetensors(path: Path) -> OrderedDict[str, Tensor]:
    tensors, metadata = safetensors.read(path)
    if "hyperport" in metadata:
        raise Usage(*CONVERTED)
    return tensors


def _sharded(path: Path) -> OrderedDict[str, Tensor]:
    """The state_dict whose tensors an index {"weight_map": {key: file}} finds in the files beside it."""
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
                raise Unreadable(f"the shard {name} is not a state_dict", "Give the shards that the index was written with")
            shards[name] = root
        if not isinstance(shards[name].get(key), Tensor):
            raise Unreadable(
                f"the index places {key!r} in {name}, which does not contain it", "Give the shards that the index was written with"
            )
    extra = [(name, key) for name, shard in shards.items() for key in shard if names.get(key) != name]
    if extra:
        raise Unreadable(
            f"the shard {extra[0][0]} contains {extra[0][1]!r}, which the index does not place there",
            "Give the index of these shards",
        )
    return OrderedDict((key, shards[name][key]) for key, name in pairs)


__all__ = ["TorchFile", "read"]
