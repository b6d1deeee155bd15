"""Places in a file's objects: paths of names and positions, and how a person writes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from weights.errors import Usage
from weights.files.pickles.standins import Record

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


def within(root: object, path: tuple = ()) -> Iterator[tuple[tuple, Any]]:
    """The dicts, lists, tuples and pickled modules in the file with their paths, from the top down, each once; nothing in a module."""
    seen: set[int] = set()
    row: list[tuple[tuple, Any]] = [(path, root)] if _holds(root) else []
    for _ in range(DEPTH):
        below: list[tuple[tuple, Any]] = []
        for where, value in row:
            if id(value) in seen:
                continue
            seen.add(id(value))
            yield where, value
            if isinstance(value, Record):
                continue
            items = value.items() if isinstance(value, dict) else enumerate(value)
            below += [((*where, name), item) for name, item in items if isinstance(name, (str, int)) and _holds(item)]
        row = below


def _holds(value: object) -> bool:
    return isinstance(value, (dict, list, tuple)) or (isinstance(value, Record) and value.is_module)


def path_of(root: object, said: str, option: str) -> tuple:
    """The path of a place that a person has written; Usage, with the places there are, if the file has no such place."""
    known = {written(path): path for path, _ in within(root)}
    if said not in known:
        shown = ", ".join(sorted(filter(None, known))[:8]) or "no sections"
        raise Usage(f"the file has nothing at {said!r}; it has {shown}", f"Correct {option}")
    return known[said]


__all__ = ["at", "path_of", "within", "written"]
