"""What each key of a file becomes, and where it stands among nested variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from weights.errors import Unmatched
from weights.files.tensors import Tensor
from weights.mapping.rules import IDENTITY, Layout


@dataclass(frozen=True)
class Entry:
    """What one key of the file becomes. `role` is "parameter" or "buffer" (at `path`), "constant" or "tied" (to `tied`)."""

    key: str
    role: str
    shape: tuple[int, ...]
    dtype: str
    path: str | None = None
    layout: Layout = IDENTITY
    tied: str | None = None


def inverse(entry: Entry, array: np.ndarray, path: str) -> np.ndarray:
    """An array at a parameter's path in torch's layout; Unmatched if its shape is not the parameter's."""
    try:
        back = entry.layout.inverse(array, entry.shape)
    except ValueError:
        back = array
    if back.shape != entry.shape:
        raise Unmatched(f"{path} has shape {array.shape}; {entry.key!r} takes {entry.shape}", "Export variables of the same model")
    return back


def tie_repeats(tensors: Mapping[str, Tensor], entries: Sequence[Entry]) -> list[Entry]:
    """Entries in which every name but the first of one tensor is tied to the first."""
    first: dict[tuple, str] = {}
    result = []
    for entry in entries:
        owner = first.setdefault(tensors[entry.key].place, entry.key)
        result.append(entry if owner == entry.key else replace(entry, role="tied", path=None, tied=owner))
    return result


def place(tree: dict, path: str, value: object) -> None:
    """Sets the value at a slash-separated path of nested dicts."""
    *parents, last = path.split("/")
    for name in parents:
        tree = tree.setdefault(name, {})
        if not isinstance(tree, dict):
            raise Unmatched(f"{path} lies below the parameter {name}", "Rename one of the keys in torch")
    if isinstance(tree.get(last), dict):
        raise Unmatched(f"{path} is a parameter, and other parameters lie below it", "Rename one of the keys in torch")
    tree[last] = value


def flatten(tree: Mapping, prefix: str = "") -> dict[str, Any]:
    """Nested dicts as slash-separated paths."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat.update(flatten(value, f"{prefix}{name}/") if isinstance(value, Mapping) else {f"{prefix}{name}": value})
    return flat


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Slash-separated paths as nested dicts: the inverse of `flatten`."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        place(tree, path, value)
    return tree


__all__ = ["Entry", "flatten", "inverse", "nested", "place", "tie_repeats"]
