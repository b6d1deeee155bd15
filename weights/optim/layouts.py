"""Between torch's layout of a parameter and the one that it has here, for what an optimizer keeps beside it."""

from __future__ import annotations

import numpy as np

from weights.errors import Unmatched
from weights.mapping.entries import Entry

COLLECTION = "params/"
WITHOUT = "or convert without the state: --no-optimizer (optimizer=False)"
REMEDY = f"Name its class with --optimizer-class (optimizer=), {WITHOUT}"


def path_of(entry: Entry) -> str:
    """The parameter's path under "params"; for a tensor that is not a parameter, a name that no parameter has."""
    return entry.path.removeprefix(COLLECTION) if entry.role == "parameter" and entry.path else f"({entry.role}) {entry.key}"


def forward_shape(entry: Entry) -> tuple[int, ...]:
    """The shape of a parameter in JAX."""
    return entry.layout.forward(np.broadcast_to(np.empty((), np.int8), entry.shape)).shape


def last_axis(entry: Entry) -> int | None:
    """The axis in JAX of torch's last axis; None if that is the last as well, or if it makes no difference.

    Raises Unmatched for a layout that splits it.
    """
    if not entry.shape or entry.shape[-1] == 1:
        return None
    places = entry.layout.forward(np.broadcast_to(np.arange(entry.shape[-1]), entry.shape))
    for axis in reversed(range(places.ndim)):
        if places.shape[axis] == entry.shape[-1]:
            shape = [1] * places.ndim
            shape[axis] = -1
            if (places == np.arange(entry.shape[-1]).reshape(shape)).all():
                return None if axis == places.ndim - 1 else axis
    raise Unmatched(f"{entry.key!r} ({entry.layout.name}) has no axis for the last one of torch, along which its optimizer sums", REMEDY)


__all__ = ["REMEDY", "forward_shape", "last_axis", "path_of"]
