"""The numbers of optimizer states: between torch's entries by path and the states of the port's transformations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from port_jax.optim import trees
from port_jax.optim.from_torch.dialects import Tally
from port_jax.optim.from_torch.kinds import MOMENTS, Kind
from port_jax.optim.from_torch.rules import TorchState
from port_jax.optim.from_torch.sections import Entry

__all__ = ["UNEVEN", "Leaf", "by_path", "filled", "joined", "kept", "packed", "pieces", "unpacked"]

Leaf = Callable[[np.ndarray], Any]
"""What makes a leaf of the state from an array of numbers."""

UNEVEN = 1024
"""Units in the last place by which torch's copies of one number may differ: its vector lanes and the remainder round differently."""
PIECE = 16 << 20
"""Bytes of the pieces in which numbers are looked at."""


def unpacked(kind: Kind, state: Any) -> tuple[Any, dict[str, PyTree[Array]]]:
    """The tree of counts (a line search has one count) and the trees of buffers by torch's names, without buffers that are not kept."""
    held = state.buffers if isinstance(state, TorchState) else state._asdict()
    buffers = {torch: held.get(ours) for torch, ours in kind.buffers.items()}
    return state.count, {torch: tree for torch, tree in buffers.items() if tree is not None}


def packed(kind: Kind, blank: Any, step: int, counts: Any, buffers: Mapping[str, PyTree[Array]]) -> Any:
    """The state from the result of `unpacked`; `blank` has the fields that there are."""
    fields = {kind.buffers[torch]: tree for torch, tree in buffers.items()}
    if kind.search:
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), blank)
        return zeros._replace(count=jnp.asarray(step, jnp.int32), **fields)
    fields = {"buffers": fields} if isinstance(blank, TorchState) else fields
    return blank._replace(step=jnp.asarray(step, jnp.int32), count=counts, **fields)


def filled(kind: Kind, blank: Any, tally: Tally, entries: Mapping[str, Entry], leaf: Leaf) -> Any:
    """The state of a group: shapes as in `blank`, numbers from torch's entries by path; zeros where there is no entry.

    Each buffer of an entry is asked for once, becomes a `leaf`, and is let go before the next one.

    Raises ValueError for a buffer that does not fit, is missing, or is left over.
    """
    _, buffers = unpacked(kind, blank)
    known = {*buffers, *kind.ignored, "step"}
    for path, entry in entries.items():
        if odd := sorted(map(str, entry.keys() - known)):
            raise ValueError(
                f"the state of {path} contains {', '.join(odd)}, which {kind.name} with these settings does not have: pass "
                "optimizer=, or correct the settings"
            )
    found = {
        torch: jax.tree_util.tree_map_with_path(
            lambda at, like, torch=torch: _fitted(entries.get(joined(at)) or {}, torch, like, joined(at), leaf), tree
        )
        for torch, tree in buffers.items()
    }
    counts, step = tally.counts, tally.steps
    counters = jax.tree_util.tree_map_with_path(lambda at, _: jnp.asarray(counts.get(joined(at), step), jnp.int32), blank.count)
    return packed(kind, blank, step, counters, found)


def by_path(tree: PyTree[Array]) -> dict[str, Any]:
    """The leaves of a tree with the structure of the parameters, by path."""
    return {joined(at): leaf for at, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def joined(at: Sequence[Any]) -> str:
    """A key path as the project writes it: keys joined by slashes."""
    return trees.show(tuple(jax.tree_util.keystr((key,), simple=True) for key in at))


def _fitted(entry: Entry, name: str, like: Any, path: str, leaf: Leaf) -> Any:
    """A buffer in the shape of `like`; a second moment that repeats one number along a point becomes that number."""
    value = entry.get(name)
    if value is None:
        if entry.keys() - {"step"} and name in MOMENTS:
            raise ValueError(f"the state of {path} has {', '.join(sorted(entry))} but no {name}: save optimizer.state_dict()")
        return leaf(np.zeros(like.shape, like.dtype))
    value = np.asarray(value)
    if not all(np.isfinite(part).all() for (part,) in pieces(value)):
        raise ValueError(f"{name} of {path} is not finite: use an earlier checkpoint")
    if value.shape == like.shape:
        return leaf(value)
    if value.ndim == len(like.shape) and all(n in (1, m) for n, m in zip(like.shape, value.shape, strict=True)):
        once = value[tuple(slice(0, 1) if n == 1 else slice(None) for n in like.shape)]
        eps = float(jnp.finfo(value.dtype).eps)  # numpy has no finfo of bfloat16
        room = max(8 * eps, min(UNEVEN * eps, 1e-3))  # in half precision 1024 units are as much as the number itself
        wide = np.result_type(value.dtype, np.float32)
        each = ((part.astype(wide), own.astype(wide)) for part, own in pieces(value, once))
        if all(np.all(np.abs(part - own) <= room * np.abs(own)) for part, own in each):
            return leaf(np.array(once))
        raise ValueError(
            f"{name} of {path} differs along a point's axes, where one number is kept: check the manifolds (the parameter was trained as "
            "a flat one), or pass optimizer="
        )
    raise ValueError(
        f"{name} of {path} has shape {value.shape}, the parameter needs {tuple(like.shape)}: the names are wrong, or the "
        "layout has to be changed first (the converter does that)"
    )


def kept(value: np.ndarray) -> Any:
    """A jax array if jax keeps the type, else a numpy array, so that nothing is rounded."""
    if jax.dtypes.canonicalize_dtype(value.dtype) == value.dtype:
        return jnp.asarray(value)
    return np.array(value)


def pieces(whole: np.ndarray, *others: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """An array, and others of as many axes that broadcast to it, in pieces along the first axes: what is computed of these stays small."""
    if whole.nbytes <= PIECE or whole.ndim == 0:
        yield (whole, *others)
        return
    rows = PIECE * len(whole) // whole.nbytes
    for at in range(0, len(whole), max(rows, 1)):
        place, first = (slice(at, at + rows), slice(0, 1)) if rows else (at, 0)
        parts = [array[place if len(array) > 1 else first] for array in (whole, *others)]
        yield from [tuple(parts)] if rows else pieces(*parts)
