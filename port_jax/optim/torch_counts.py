"""The dialects of the step count in torch's optimizer states: who counts, and where it is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

PARAMETER = "parameter"
"""state[i]["step"]: geoopt 0.5.1 and torch."""
GROUP = "group"
"""param_groups[g]["step"], once an update: geoopt 0.4.1 to 0.5.0, its RiemannianSGD always, fully-hyperbolic-nn."""
DOUBLE = "double"
"""param_groups[g]["step"], twice a parameter with state: geoopt until 0.3.1 and HGCN's copy of it."""
NONE = "none"
"""Nowhere: torch.optim.SGD, and the optimizers that keep no state."""


def dialect(usual: str, name: str, number: int, group: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> str:
    """Which dialect a group of the optimizer `name` is in, whose `usual` one it is where nothing else is found.

    entries: the states of the group's parameters. Raises ValueError where both the group and a parameter count.
    """
    if name != "RiemannianAdam":
        return usual
    beside = [integer(entry["step"], "step") for entry in entries if "step" in entry]
    if "step" not in group:
        return PARAMETER
    if any(beside):
        raise ValueError(
            f"the optimizer counts {group['step']} steps in param_groups[{number}] and {max(beside)} beside a parameter: "
            "save it from one version of geoopt"
        )
    return DOUBLE if beside else GROUP


def read(
    kind: str, number: int, group: Mapping[str, Any], members: Sequence[str], entries: Mapping[str, Mapping[str, Any]], begun: bool
) -> tuple[dict[str, int], int]:
    """The count of each member by path, and what is added to it after each update on top of 1.

    begun: whether a member without state has yet to begin, so that its count is 0, although the group has one. In the
    dialect DOUBLE the counts are those that the bias corrections of the next update have, less 1.

    Raises ValueError for a group whose count does not come from its parameters, and for no count.
    """
    if kind == NONE:
        return {path: int(bool(entries.get(path))) for path in members}, 0
    if kind == PARAMETER:
        return {path: _own(entries.get(path) or {}, path) for path in members}, 0
    total = integer(group.get("step", 0), f"param_groups[{number}]['step']")
    if kind == GROUP:
        if not total and any(entries.get(path) for path in members) and "step" not in group:
            path = next(path for path in members if entries.get(path))
            raise ValueError(
                f"the state of {path} has no step, and neither has its group: no bias correction follows; save optimizer.state_dict()"
            )
        return {path: 0 if begun and not entries.get(path) else total for path in members}, 0
    active = [path for path in members if entries.get(path)] or list(members)
    if len(active) < len(members):
        idle = next(path for path in members if path not in active)
        raise ValueError(
            f"parameter {idle} has no state in param_groups[{number}], whose count goes up twice a parameter with one: "
            "leave it out of the group's params, and it is not trained"
        )
    turn = 2 * len(active)
    if total % turn:
        raise ValueError(
            f"param_groups[{number}]['step'] is {total}, not a multiple of {turn} (twice its {len(active)} parameters with "
            "state): reload and save it with geoopt 0.5.1"
        )
    return {path: total + 2 * place for place, path in enumerate(active)}, turn - 1


def integer(value: Any, name: str) -> int:
    """A count as an int; ValueError for what is none."""
    if isinstance(value, np.ndarray | np.generic) or hasattr(value, "__array__"):
        array = np.asarray(value)
        value = array.reshape(-1)[0].item() if array.size == 1 else None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1 << 31 or value != int(value):
        raise ValueError(f"the optimizer's {name} is {value!r}, no count: take an earlier checkpoint")
    return int(value)


def _own(entry: Mapping[str, Any], path: str) -> int:
    if entry and "step" not in entry:
        raise ValueError(
            f"the state of {path} has no step, and neither has its group: no bias correction follows; save optimizer.state_dict()"
        )
    return integer(entry.get("step", 0), f"step of {path}")
