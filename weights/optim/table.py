"""What the converter has to know of an optimizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Group = Mapping[str, Any]
Trees = dict[str, Any]


@dataclass(frozen=True)
class OptimizerTable:
    """One table file of `weights/optim`.

    recognise: whether a parameter group's settings are this optimizer's.
    moments: torch's names of the tensors beside a parameter, and the names of their trees here.
    build: the optax transformation for a group's settings, given `manifolds` (None if flat) and `order`.
    pack: the transformation's state from (updates made, tree of counts, trees by name); `unpack` the way back.
    riemannian: whether it moves points on manifolds; a flat one treats every parameter as Euclidean.
    counts: where it writes its step count (see `counts`): "parameter", "group" or "none".
    active: whether the group's settings make it keep moments at all.
    unsupported: a reason why a group's settings have no counterpart, or None.
    """

    name: str
    aliases: tuple[str, ...]
    recognise: Callable[[Group], bool]
    moments: Mapping[str, str]
    build: Callable[[Group, Any, Any], Any]
    pack: Callable[[Any, Any, Trees], Any]
    unpack: Callable[[Any], tuple[Any, Any, Trees]]
    riemannian: bool = False
    counts: str = "parameter"
    active: Callable[[Group], bool] = lambda group: True
    optional: Callable[[Group], frozenset[str]] = field(default=lambda group: frozenset())
    """Moments that a group with these settings does not keep."""
    unsupported: Callable[[Group], str | None] = lambda group: None


def number(group: Group, name: str) -> float:
    """A setting that may be stored as a tensor."""
    value = group[name]
    return float(value.array().reshape(-1)[0]) if hasattr(value, "array") else value
