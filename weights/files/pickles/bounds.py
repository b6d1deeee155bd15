"""What an unpickled tree may contain: keys whose hashing is bounded, shallow nesting, no cycles, nothing foreign."""

from __future__ import annotations

import numpy as np

from weights.errors import Refused
from weights.files.dtypes import ALIASES, NUMPY
from weights.files.pickles.standins import Buildable, Known, Name, Record, kind
from weights.files.tensors import Tensor

DTYPES = frozenset({*NUMPY, *ALIASES})
"""The names of torch's types, which stand among hyper-parameters as they are."""
MAX_DEPTH = 200
MAX_EXPANDED = 20_000_000
MAX_INTEGER = 1 << 61  # larger integers as keys could be chosen to collide in Python's hash


def checked_key(key: object, depth: int = 0) -> None:
    """Keys whose hashing is bounded: scalars, short tuples of them, and objects compared by identity."""
    if isinstance(key, tuple):
        if len(key) > 64 or depth > 3:
            raise Refused("a dictionary key in the pickle is a large tuple", "Save a plain state_dict")
        for part in key:
            checked_key(part, depth + 1)
    elif type(key) is int:
        if abs(key) >= MAX_INTEGER:
            raise Refused(f"a dictionary key in the pickle is the integer {hex(key)[:40]}", "Save a plain state_dict")
    elif not isinstance(key, (str, bytes, float, complex, bool, type(None), Name, Known, Record, Tensor, np.generic)):
        raise Refused(f"a dictionary key in the pickle is a {kind(key)}", "Save a plain state_dict")


def checked_tree(root: object) -> None:
    """Refuses nesting beyond 200, cycles of plain containers, expansion beyond bounds, and foreign objects outside modules."""
    size: dict[int, tuple[int, int]] = {}
    stack: list[tuple[object, bool]] = [(root, False)]
    active: set[int] = set()
    while stack:
        node, leaving = stack.pop()
        if isinstance(node, Record):
            if not node.is_module and not _data(node):
                raise Refused(f"the file contains a {node.name}, which is not on the reader's list", "Save the state_dict alone")
            children: list[object] = list(node.items.values()) if not node.is_module else []
        elif isinstance(node, Known) and node.module == "torch" and node.name in DTYPES:
            continue
        elif isinstance(node, (Name, Known, Buildable)):
            raise Refused(
                f"the file refers to {node if not isinstance(node, Buildable) else kind(node)}, which is not on the reader's list",
                "Save the state_dict alone",
            )
        elif isinstance(node, dict):
            children = [*node.values(), *(k for k in node if not isinstance(k, (str, int, float)))]
        elif isinstance(node, (list, tuple)):
            children = list(node)
        else:
            continue
        at = id(node)
        if leaving:
            active.discard(at)
            inner = [size.get(id(child), (1, 0)) for child in children]
            total, depth = 1 + sum(n for n, _ in inner), 1 + max((d for _, d in inner), default=0)
            if total > MAX_EXPANDED or depth > MAX_DEPTH:
                raise Refused(f"the pickle nests {depth} deep and unfolds into {total} objects or more", "Save a plain state_dict")
            size[at] = total, depth
        elif at in active:
            raise Refused("a container of the pickle contains itself", "Save a plain state_dict")
        elif at not in size:
            active.add(at)
            stack.append((node, True))
            stack.extend((child, False) for child in children)


def _data(record: Record) -> bool:
    return isinstance(record.cls, Known) or (
        record.name.startswith("hypll.tensors.") and isinstance(record.attributes.get("tensor"), Tensor)
    )


__all__ = ["checked_key", "checked_tree"]
