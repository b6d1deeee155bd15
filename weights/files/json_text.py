"""JSON that somebody else may have written: no key twice, no number without an end, no more of it than a budget allows."""

from __future__ import annotations

import json
from typing import Any

from weights.errors import Refused, shown
from weights.files.budget import CHARACTERS, DEPTH, MEMORY, Budget

DIGITS = 40
"""Digits of an integer: enough for the state of any random generator."""
_NODE = 64
"""Bytes that a value takes, for each bracket, comma and colon around it."""
_MARKS = tuple(mark.encode() for mark in "[{,:")


def require(size: int, budget: Budget) -> None:
    """Pays for a JSON text of this size before it is read. A text of more than 32 MiB needs tensors beside it."""
    budget.spend(CHARACTERS, 2 * size, "its JSON")


def parsed(data: bytes, budget: Budget) -> Any:
    """The value of a JSON text. ValueError if it is not JSON.

    Refused for an object with a key twice, for an integer of more than 40 digits, for values that nest more than 200 deep, and for more
    than the budget allows.
    """
    budget.spend(MEMORY, _NODE * sum(map(data.count, _MARKS)), "its JSON")
    try:
        found = json.loads(data, object_pairs_hook=_object, parse_int=_integer)
    except RecursionError:
        found = None
        deep = True
    else:
        deep = _deep(found)
    if deep:
        raise Refused(f"its JSON nests more than {DEPTH} deep", budget.remedy)
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise Refused(f"its JSON has the key {shown(twice)} twice", "Remove one of the two")
    return table


def _integer(text: str) -> int:
    if len(text) > DIGITS:
        raise Refused(f"its JSON has a number of {len(text)} digits", "Correct the number")
    return int(text)


def _deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEPTH):
        level = [item for node in level if isinstance(node, (dict, list)) for item in (node.values() if isinstance(node, dict) else node)]
    return bool(level)


__all__ = ["parsed", "require"]
