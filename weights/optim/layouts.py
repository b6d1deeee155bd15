"""Between torch's layout of a parameter and the one that it has here, for what an optimizer keeps beside it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from weights.errors import Unmatched
from weights.mapping.entries import Entry

COLLECTION = "params/"
COLUMNS = ("z", "weights")
"""HypLL's names of parameters each column of which is a point."""
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


def summed_axes(entry: Entry, second: np.ndarray | None) -> list[int]:
    """The axes in JAX of the axis of torch's that HypLL sums second moments over: the first of its layers' `z` and `weights`, which have a
    point in each column, else the last.

    second: a second moment in JAX's layout, None where there is none. Where it is not the same along those axes, but along those of another
    axis of torch's, it is these: a person's own layers may have points on any axis. Raises Unmatched for a layout that splits the axis.
    """
    count = len(entry.shape)
    usual = 0 if entry.key.rpartition(".")[2] in COLUMNS else count - 1
    for axis in sorted(range(count), key=lambda axis: axis != usual) if second is not None and second.any() else ():
        found = _axes(entry, axis)
        if second is not None and found is not None and _even(second, found):
            return found
    found = _axes(entry, usual) if count else []
    if found is None:
        raise Unmatched(f"{entry.key!r} ({entry.layout.name}) has no axes for axis {usual} of torch, which its optimizer sums over", REMEDY)
    return found


def _axes(entry: Entry, axis: int) -> list[int] | None:
    """The axes in JAX along which an axis of torch's runs; None where another axis runs along one of them, too."""
    shape = entry.shape
    along = np.arange(shape[axis]).reshape([-1 if n == axis else 1 for n in range(len(shape))])
    others = np.arange(int(np.prod(shape)) // max(shape[axis], 1)).reshape([1 if n == axis else size for n, size in enumerate(shape)])
    ours, beside = (_varying(entry.layout.forward(np.broadcast_to(index, shape))) for index in (along, others))
    return None if ours & beside else sorted(ours)


def _varying(index: np.ndarray) -> set[int]:
    return {n for n in range(index.ndim) if (index != np.take(index, [0], n)).any()} if index.size else set()


def _even(second: np.ndarray, axes: Sequence[int]) -> bool:
    """Whether numbers are the same along axes, but for rounding."""
    from port_jax.optim.from_torch.numbers import pieces

    once = second[tuple(slice(0, 1) if n in axes else slice(None) for n in range(second.ndim))]
    wide = np.result_type(second.dtype, np.float32)
    each = ((part.astype(wide), own.astype(wide)) for part, own in pieces(second, once))
    return all(np.all(np.abs(part - own) <= 1e-3 * np.abs(own)) for part, own in each)


__all__ = ["COLUMNS", "REMEDY", "forward_shape", "last_axis", "path_of", "summed_axes"]
