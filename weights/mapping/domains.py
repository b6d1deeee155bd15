"""What a configuration may say of a setting: the kind of its default, and what its name adds."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

from weights.errors import Unmatched

RATES = ("dropout", "drop_h", "drop_e", "attention_dropout")
POSITIVE = ("t",)
"""Temperatures, by which models divide."""


def require(name: str, value: Any, like: Any, where: str) -> None:
    """Raises Unmatched for a value that a setting whose default is `like` cannot have.

    A switch is a truth value, or 0 or 1. A number is finite, a rate lies between 0 and 1, and a temperature is positive. A whole number
    is at least 0. A word is a word, or None.
    """
    if (wanted := _wanted(name, value, like)) is not None:
        raise Unmatched(f"{name} is {value!r} according to {where}; it has to be {wanted}", f"Correct {name!r} there")


def _wanted(name: str, value: Any, like: Any) -> str | None:
    """What the value should be; None where it is that."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    size = float(value) if number else math.nan
    if isinstance(like, bool):
        return None if isinstance(value, bool) or size in (0, 1) else "true or false"
    if name in RATES:
        return None if 0 <= size <= 1 else "a number from 0 to 1"
    if name in POSITIVE:
        return None if 0 < size < math.inf else "a positive number"
    if isinstance(like, Integral):
        return None if size >= 0 and size.is_integer() else "a whole number"
    if isinstance(like, Real):
        return None if math.isfinite(size) else "a finite number"
    if isinstance(like, str):
        return None if value is None or isinstance(value, str) else "a word"
    return None


__all__ = ["require"]
