"""The dialects of the step count: who counts, and where it is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from weights.errors import Unmatched
from weights.tensors import Tensor, from_array

PARAMETER = "parameter"
"""state[i]["step"]: geoopt 0.5.1 and torch."""
GROUP = "group"
"""param_groups[g]["step"]: geoopt 0.4.1 to 0.5.0, and RiemannianSGD always."""
DOUBLE = "double"
"""param_groups[g]["step"] counted twice a parameter, state[i]["step"] 0: geoopt until 0.3.1 and the copies of it."""
NONE = "none"
"""Nowhere: torch.optim.SGD."""


def dialect(group: Mapping, states: Sequence[Mapping], usual: str) -> str:
    """Which dialect a group is in; the optimizer's `usual` one where nothing has been counted yet."""
    beside = [integer(state["step"], "step") for state in states if "step" in state]
    if "step" not in group:
        return PARAMETER if beside else usual
    if beside and any(beside):
        raise Unmatched(
            f"the optimizer counts {group['step']} steps in a group and {max(beside)} beside a parameter",
            "Save it from one version of geoopt",
        )
    return DOUBLE if beside else GROUP


def read(kind: str, group: Mapping, states: Mapping[int, Mapping], number: int) -> tuple[dict[int, int], int]:
    """The count of each index with state, and what is added to it after each update on top of 1."""
    if kind == PARAMETER:
        return {i: integer(state.get("step", 0), f"state[{i}]['step']") for i, state in states.items()}, 0
    total = integer(group.get("step", 0), f"param_groups[{number}]['step']")
    if kind == NONE or not states:
        return dict.fromkeys(states, 0), 0
    if kind == GROUP:
        return dict.fromkeys(states, total), 0
    turn = 2 * len(states)
    if total % turn or group.get("stabilize"):
        raise Unmatched(
            f"param_groups[{number}]['step'] is {total}, not a multiple of {turn} (twice the {len(states)} parameters with state)"
            if total % turn else f"param_groups[{number}] counts twice a parameter and stabilizes every {group['stabilize']}",
            "Reload and save it with geoopt 0.5.1",
        )  # fmt: skip
    return {index: total + 2 * turn_of for turn_of, index in enumerate(states)}, turn - 1


def write(kind: str, old: object, count: int) -> object:
    """A count in the form that the file had: a tensor where there was one, else an int."""
    if isinstance(old, Tensor):
        from weights.dtypes import NUMPY

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


def integer(value: object, name: str) -> int:
    """A count as an int; Unmatched for what is none."""
    if isinstance(value, Tensor):
        value = value.array().reshape(-1)[0].item() if value.numel == 1 else None
    if isinstance(value, np.generic):
        value = value.item()
    if (
        not isinstance(value, (int, float))
        or isinstance(value, bool)
        or value != int(value)
        or not 0 <= value < 1 << 31
    ):
        raise Unmatched(f"the optimizer's {name} is {value!r}, no count", "Take an earlier checkpoint")
    return int(value)
