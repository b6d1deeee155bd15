"""Which cases of a table `make test` runs: a few of each kind; the rest is left to `make test-slow`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

import pytest


def all_but(kept: Collection[Any] | Callable[[Any], bool], values: Iterable[Any]) -> list[Any]:
    """The values for `pytest.mark.parametrize`, marked slow but for those that `kept` contains, or says yes to."""
    values = list(values)
    stays = [bool(kept(value)) if callable(kept) else value in kept for value in values]
    if not any(stays):
        raise ValueError("every case would be slow: keep one that is in the table")
    return [value if here else _slow(value) for value, here in zip(values, stays)]


def _slow(value: Any) -> Any:
    if hasattr(value, "marks"):
        return pytest.param(*value.values, id=value.id, marks=(*value.marks, pytest.mark.slow))
    return pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.slow)
