"""Checks of the edges that a user passes, on the host: JAX clamps or drops an index out of range silently."""

from __future__ import annotations

from typing import Any

import numpy as np

from port_jax.checks import on_host

__all__ = ["GraphError", "checked_count", "checked_edges", "checked_indices", "checked_values", "named_pairs"]


class GraphError(ValueError):
    """Edges, weights or features that do not describe a graph; the message names the edge, the value and the remedy."""


LARGEST = int(np.iinfo(np.int32).max)
RENUMBER = (
    "if the ids are names rather than numbers from 0 on, renumber them: names, index = np.unique(edge_index, return_inverse=True), where "
    "index.reshape(2, -1) are the edges and len(names) the number of nodes; Graph.from_edge_list(pairs) does this and keeps the names"
)


def checked_count(num_nodes: Any, name: str = "num_nodes") -> int:
    """A count as a Python int. Raises `GraphError` for anything but a whole number of at least 0."""
    if isinstance(num_nodes, bool) or not isinstance(num_nodes, int | np.integer) or num_nodes < 0:
        raise GraphError(f"{name} is {num_nodes!r}: pass a whole number of at least 0")
    if num_nodes > LARGEST:
        remedy = RENUMBER if name == "num_nodes" else "split the graph"
        raise GraphError(f"{name} is {num_nodes}, and at most {LARGEST} is supported, since indices are int32: {remedy}")
    return int(num_nodes)


def checked_indices(values: Any, name: str, num_nodes: int) -> np.ndarray:
    """Node indices as int32 [E], each in [0, num_nodes)."""
    array = on_host(name, values)
    if array.size == 0 and array.ndim <= 1:
        return np.zeros(0, np.int32)
    if array.ndim != 1:
        raise GraphError(f"{name} has shape {array.shape}: pass one index per edge, shape [E]")
    if array.dtype.kind not in "iu":
        raise GraphError(
            f"{name} has dtype {array.dtype} (edge 0 is {array[0]!r}): node indices are integers; "
            f"convert them with {name}.astype('int32') if they are whole numbers"
        )
    outside = np.flatnonzero((array < 0) | (array >= num_nodes))
    if outside.size:
        edge = int(outside[0])
        value = int(array[edge])
        most = int(array.max()) + 1
        enough = f"pass num_nodes={most} or more, drop the edge, or" if most <= LARGEST else ""
        remedy = (
            "negative indices do not count from the end here; number the nodes from 0"
            if value < 0
            else f"{enough} {RENUMBER}".strip() + ("" if enough else f" (indices are int32, at most {LARGEST})")
        )
        raise GraphError(
            f"{name}[{edge}] is {value}, outside 0 .. {num_nodes - 1} for num_nodes={num_nodes} "
            f"({outside.size} such edge{'s' if outside.size > 1 else ''}): {remedy}"
        )
    return array.astype(np.int32)


def named_pairs(pairs: Any) -> tuple[np.ndarray, np.ndarray]:
    """The different names in `pairs` [E, 2] in ascending order, and the places of the pairs among them, int32 [E, 2]."""
    rows = isinstance(pairs, list | tuple) and all(isinstance(pair, list | tuple) for pair in pairs)
    kinds = {type(name).__name__ for pair in pairs for name in pair} if rows else set()
    array = on_host("pairs", pairs)
    if array.size == 0:
        return np.zeros(0, np.int64), np.zeros((0, 2), np.int32)
    if array.ndim != 2 or array.shape[1] != 2:
        remedy = "transpose it" if array.ndim == 2 and array.shape[0] == 2 else "one row (sender, receiver) for each edge"
        raise GraphError(f"pairs has shape {array.shape}: pass shape [E, 2] ({remedy})")
    if array.dtype.kind == "O":
        kinds = {type(name).__name__ for name in array.flat}
    if array.dtype.kind not in "iuUSO" or len(kinds) > 1:
        found = f"names of the types {', '.join(sorted(kinds))}" if len(kinds) > 1 else f"dtype {array.dtype}"
        raise GraphError(f"pairs has {found}: names are integers or strings, all of one type; convert them, for example with str")
    names, index = np.unique(array, return_inverse=True)
    checked_count(len(names))
    return names, index.reshape(-1, 2).astype(np.int32)


def checked_values(values: Any, name: str, num_edges: int, *, ndim: int | None) -> np.ndarray | None:
    """Finite numbers, one row per edge: [E] for `ndim=1`, [E, ...] for `ndim=None`; None stays None."""
    if values is None:
        return None
    array = on_host(name, values)
    if array.ndim == 0 or array.shape[0] != num_edges or (ndim is not None and array.ndim != ndim):
        wanted = f"[{num_edges}]" if ndim == 1 else f"[{num_edges}, ...]"
        raise GraphError(f"{name} has shape {array.shape} for {num_edges} edges: pass shape {wanted}, one entry per edge")
    if array.dtype.kind not in "fiub":
        raise GraphError(f"{name} has dtype {array.dtype}: pass real numbers")
    if array.dtype.kind in "iub":
        array = array.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(array.reshape(num_edges, -1)).all(axis=1)) if num_edges else np.zeros(0, int)
    if bad.size:
        edge = int(bad[0])
        raise GraphError(
            f"{name}[{edge}] is {array[edge]!r} ({bad.size} such edge{'s' if bad.size > 1 else ''}): "
            "replace it with a finite number or drop the edge"
        )
    return array


def checked_edges(
    senders: Any, receivers: Any, num_nodes: int, weights: Any, edge_features: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Senders, receivers, weights and features of one graph, checked against each other."""
    senders, receivers = on_host("senders", senders), on_host("receivers", receivers)
    if senders.shape[:1] != receivers.shape[:1]:
        raise GraphError(
            f"senders has shape {senders.shape} and receivers {receivers.shape}: edge e runs from senders[e] to "
            "receivers[e], so both must have the same length"
        )
    s = checked_indices(senders, "senders", num_nodes)
    r = checked_indices(receivers, "receivers", num_nodes)
    w = checked_values(weights, "weights", len(s), ndim=1)
    return s, r, w, checked_values(edge_features, "edge_features", len(s), ndim=None)
