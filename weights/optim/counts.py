"""The step counts of a torch optimizer's state, read by index and written in the form that the file had."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from port_jax.optim import torch_counts
from port_jax.optim.torch_counts import DOUBLE, GROUP, NONE, PARAMETER
from weights.errors import Unmatched
from weights.files.tensors import Tensor, from_array


def read(kind: str, group: Mapping, states: Mapping[int, Mapping], number: int) -> tuple[dict[int, int], int]:
    """The count of each index with state, and what is added to it after each update on top of 1."""
    entries = {str(i): {"step": integer(s["step"], "step")} if "step" in s else dict(s) for i, s in states.items()}
    plain = {"step": integer(group["step"], "step")} if "step" in group else {}
    try:
        counts, extra = torch_counts.read(kind, number, plain, list(entries), entries, False)
    except ValueError as error:
        raise Unmatched(str(error), "Take an earlier checkpoint") from None
    return {i: counts[str(i)] for i in states}, extra


def write(kind: str, old: object, count: int) -> object:
    """A count in the form that the file had: a tensor where there was one, else an int."""
    if isinstance(old, Tensor):
        from weights.files.dtypes import NUMPY

        return from_array(np.asarray(count, NUMPY[old.dtype]).reshape(old.shape))
    if isinstance(old, float):
        return float(count)
    return count if old is not None or kind != PARAMETER else from_array(np.asarray(count, np.float32))


def group_count(kind: str, counts: Mapping[int, int], number: int) -> int:
    """What a group's own counter says for these counts, by index in the group's order."""
    if kind == DOUBLE:
        counts = {index: count - 2 * turn_of for turn_of, (index, count) in enumerate(counts.items())}
    if len(set(counts.values())) > 1:
        raise Unmatched(
            f"the parameters of group {number} have seen {sorted(set(counts.values()))} gradients; the file has one count",
            "Give every parameter a gradient at each step, or convert from geoopt 0.5.1",
        )
    return next(iter(counts.values()))


def integer(value: Any, name: str) -> int:
    """A count as an int; Unmatched for what is none."""
    if isinstance(value, Tensor):
        value = value.array()
    try:
        return torch_counts.integer(value, name)
    except ValueError as error:
        raise Unmatched(str(error), "Take an earlier checkpoint") from None


__all__ = ["DOUBLE", "GROUP", "NONE", "PARAMETER", "group_count", "integer", "read", "write"]
