"""Places in a file's objects: paths of names and positions, and how a person writes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from weights.errors import Usage

DEPTH = 10
"""Wrappers around wrappers that are looked into."""


def at(root: Any, path: tuple) -> Any:
    """The object at a path of keys and positions."""
    for step in path:
        root = root[step]
    return root


def written(path: tuple) -> str:
    """A path as it is said: "optimizer_states.0"."""
    return ".".join(map(str, path))


def within(root: object, path: tuple = ()) -> Iterator[tuple[tuple, object]]:
    """The dicts, lists and tuples in the file with their paths, from the top down, each once."""
    seen: set[int] = set()
    row = [(path, root)]
    for _ in range(DEPTH):
        below: list[tuple[tuple, object]] = []
        for where, value in row:
            if not isinstance(value, (dict, list, tuple)) or id(value) in seen:
                continue
            seen.add(id(value))
            yield where, value
            items = value.items() if isinstance(value, dict) else enumerate(value)
            below += [((*where, n), item) for n, item in items if isinstance(n, (str, int)) and isinstance(item, (dict, list, tuple))]
        row = below


def path_of(root: object, said: str, option: str) -> tuple:
    """The path of a place that a person has written; Usage, with the places there are, if the file has no such place."""
    known = {written(path): path for path, _ in within(root)}
    if said not in known:
        shown = ", ".join(sorted(filter(None, known))[:8])
        raise Usage(f"the file has nothing at {said!r}; it has {shown}", f"Correct {option}")
    return known[said]


__all__ = ["at", "path_of", "within", "written"]
