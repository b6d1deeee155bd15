"""What of a file's objects is nowhere taken: export writes it again as it is, and the report names it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from weights.files.pickles.standins import Record, unwrapped
from weights.files.tensors import Tensor

DEEPEST = 20


def left_over(root: object, used: Collection[tuple], model_at: tuple, taken: Collection[int]) -> list[tuple]:
    """The paths of the outermost parts of a tree in which nothing is used, in the tree's order; without those that are None.

    used: the paths of what is interpreted. model_at: that of the model, of which the tensors are `taken`, by their ids.
    """
    above = {path[:n] for path in used for n in range(len(path))}
    return list(_left((), root, frozenset(used), above, model_at, taken))


def _left(path: tuple, node: object, used: Collection[tuple], above: Collection[tuple], model_at: tuple, taken: Collection[int]
          ) -> Iterator[tuple]:  # fmt: skip
    if path in used or node is None:
        return
    inside = path[: len(model_at)] == model_at
    on_the_way = path in above or model_at[: len(path)] == path
    if (on_the_way or (inside and _holds(node, taken))) and len(path) < DEEPEST + len(model_at):
        for name, value in _items(node):
            yield from _left((*path, name), value, used, above, model_at, taken)
    elif not (inside and _holds(node, taken)):
        yield path


def _items(node: object) -> Iterator[tuple[object, object]]:
    """What is inside of a part that is used in part; a module's attributes and a tensor's numbers are one with it."""
    if isinstance(node, Mapping):
        yield from node.items()
    elif isinstance(node, (list, tuple)):
        yield from enumerate(node)
    elif isinstance(node, Record) and not node.is_module:
        yield from {**node.items, **node.attributes}.items()


def _holds(node: object, taken: Collection[int], depth: int = 0) -> bool:
    """Whether a part of the model is one of the tensors taken, has one of them under names, or is a module."""
    node = unwrapped(node)
    if isinstance(node, Tensor):
        return id(node) in taken
    if isinstance(node, Mapping) and depth < DEEPEST:
        return any(isinstance(name, str) and _holds(value, taken, depth + 1) for name, value in node.items())
    return isinstance(node, Record) and node.is_module


__all__ = ["left_over"]
