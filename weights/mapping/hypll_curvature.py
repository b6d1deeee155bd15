"""The curvature of HypLL's ball: what its constraint makes of the raw value, and what a pickled manifold says of both."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from weights.errors import Unmatched
from weights.files.pickles.standins import Record
from weights.files.tensors import Tensor
from weights.mapping.curvature_settings import softplus

RAW = r"(.+\.)?manifold\.c\.value"
CONSTRAINTS: dict[str, Callable[[float], float]] = {"softplus": softplus, "identity": lambda value: value, "exp": math.exp}


@dataclass(frozen=True)
class Told:
    """What a pickled Curvature says. trained: whether its value requires gradients."""

    constraint: str
    trained: bool


def constrained(constraint: str, value: float) -> float:
    """c of a raw value. Unmatched for a constraint that has no counterpart, and where c is not positive."""
    if constraint not in CONSTRAINTS:
        raise Unmatched(
            f"constraining_strategy is {constraint!r}; HypLL's curvature is converted with {', '.join(CONSTRAINTS)}",
            "Save a model whose Curvature has the identity as its constraining_strategy, and c as its value",
        )
    try:
        c = CONSTRAINTS[constraint](value)
    except OverflowError:
        c = math.inf
    if not 0 < c < math.inf:
        raise Unmatched(
            f"the curvature's value {value:.6g} is c = {c:.6g} by constraining_strategy {constraint!r}", "Check constraining_strategy"
        )
    return c


def pickled(tensors: Iterable[Tensor]) -> Told | None:
    """What the first pickled ball among the tensors' manifolds says; None where none has one."""
    return next((told for tensor in tensors if (told := of_manifold(tensor.manifold)) is not None), None)


def of_manifold(manifold: object) -> Told | None:
    """What a pickled manifold says; None for one without a Curvature of HypLL's."""
    inner = manifold.attributes.get("_modules") if isinstance(manifold, Record) else None
    curvature = inner.get("c") if isinstance(inner, dict) else None
    if not isinstance(curvature, Record):
        return None
    held = {**(curvature.attributes.get("_modules") or {}), **curvature.attributes}  # a function, or a module such as nn.Identity()
    if (function := held.get("constraining_strategy")) is None:
        return None
    value = (curvature.attributes.get("_parameters") or {}).get("value")
    name = function.name if isinstance(function, Record) else str(function)
    return Told(name.rpartition(".")[2].lower(), isinstance(value, Tensor) and value.requires_grad)


__all__ = ["CONSTRAINTS", "RAW", "Told", "constrained", "of_manifold", "pickled"]
