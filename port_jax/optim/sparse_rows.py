"""Gradients of some rows of a table, and the reading and writing of those rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int, PyTree

from port_jax.manifolds.base import Manifold
from port_jax.optim import trees
from port_jax.types import Params, Updates

__all__ = ["CROWDED", "RowGradients", "SparseTransformation", "check_tables", "match_rows", "read", "write"]

Table = Float[Array, "rows d"]

CROWDED = 4
"""A table with at most this many rows for each row of the batch is summed and updated as a whole, which is cheaper than sorting."""


class RowGradients(NamedTuple):
    """The gradients of the rows of a table that a batch has touched.

    Indices may repeat: gradients of the same row add up. An index equal to the number of rows is padding and changes
    nothing, so that batches of different lengths can share one compiled step.
    """

    indices: Int[Array, " n"]
    values: Float[Array, "n d"]


class SparseTransformation(NamedTuple):
    """`init(params)` returns the state, and `step(params, state, grads)` the new parameters themselves and the new state.

    Unlike an optax transformation it returns no updates, because their table would be as large as the parameters. Jitted with
    parameters and state donated, a step writes the touched rows in place. Arguments and results are in the same order,
    because XLA gives each result the first donated buffer of its shape.
    """

    init: Callable[[Any], Any]
    step: Callable[[Any, Any, Any], tuple[Any, Any]]


def match_rows(grads: Updates, params: Params) -> list[RowGradients | None]:
    """The row gradients of each table, duplicates combined; None if the gradient is None.

    Raises TypeError for a dense gradient, ValueError for shapes that do not fit, IndexError for an index outside
    [0, rows]; under jit, where values are not known, such rows are ignored.
    """
    entries, found = jax.tree_util.tree_flatten(grads, is_leaf=lambda x: x is None or isinstance(x, RowGradients))
    paths, tables, structure = trees.flatten(params)
    if found != structure:
        raise ValueError(f"row gradients have structure {found}, the parameters {structure}")
    return [
        None if rows is None else _combined(rows, table, trees.show(path)) for path, rows, table in zip(paths, entries, tables, strict=True)
    ]


def _combined(rows: Any, table: Table, name: str) -> RowGradients:
    """Ascending indices without duplicates, the latter replaced by the padding index, and the sums of their gradients."""
    if not isinstance(rows, RowGradients):
        raise TypeError(f"gradient of {name} is {type(rows).__name__}; sparse optimizers take RowGradients")
    indices, values = rows
    if not jnp.issubdtype(indices.dtype, jnp.integer):
        raise TypeError(f"indices of {name} are of type {indices.dtype}, not integers")
    if values.shape != (*indices.shape, table.shape[1]) or indices.ndim != 1:
        raise ValueError(
            f"row gradients of {name} have shapes {indices.shape} and {values.shape}; a table of {table.shape} takes "
            f"(n,) and (n, {table.shape[1]})"
        )
    size, values = table.shape[0], values.astype(jnp.promote_types(values.dtype, jnp.float32))  # sums in half precision stand still
    if not isinstance(indices, Tracer):
        outside = np.asarray((indices < 0) | (indices > size))
        if outside.any():
            raise IndexError(f"index {indices[outside.argmax()]} of {name} is outside [0, {size}]")
    inside = jnp.where((indices < 0) | (indices > size), size, indices)
    if size <= CROWDED * len(indices):
        touched = jnp.zeros(size, bool).at[inside].set(True, mode="drop")
        sums = jnp.zeros((size, table.shape[1]), values.dtype).at[inside].add(values, mode="drop")
        return RowGradients(jnp.where(touched, jnp.arange(size, dtype=inside.dtype), size), sums)
    # Equal indices are indistinguishable, so the sort need not be stable; a sort that carries positions along takes five times as long.
    ordered = jax.lax.sort(inside, is_stable=False)
    first = jnp.concatenate([jnp.ones(1, bool), ordered[1:] != ordered[:-1]])
    slot = jnp.searchsorted(ordered, inside, method="scan")
    return RowGradients(jnp.where(first, ordered, size), jax.ops.segment_sum(values, slot, len(indices)))


def read(tables: PyTree[Array], indices: Int[Array, " n"]) -> PyTree[Array]:
    """The rows of all tables at the indices; for padding they are arbitrary. If there are as many indices as rows, all rows are meant."""
    return jax.tree.map(lambda table: table if len(table) == len(indices) else table.at[indices].get(mode="clip"), tables)


def write(tables: PyTree[Array], indices: Int[Array, " n"], rows: PyTree[Array]) -> PyTree[Array]:
    """The tables with their rows at the indices replaced; padding writes nothing."""

    def one(table: Table, new: Table) -> Table:
        if len(table) == len(indices):
            return jnp.where((indices < len(table))[:, None], new, table)
        return table.at[indices].set(new, mode="drop")

    return jax.tree.map(one, tables, rows)


def check_tables(found: list[Manifold], params: Params) -> None:
    """Raises ValueError for a parameter that is not a matrix of rows, or whose points are not its rows."""
    trees.check_parameters(found, params)
    for path, table, manifold in zip(*trees.flatten(params)[:2], found, strict=True):
        if table.ndim != 2 or manifold.ndim > 1:
            raise ValueError(
                f"parameter {trees.show(path)} has shape {table.shape} on {type(manifold).__name__}; sparse optimizers "
                "take matrices whose rows are points"
            )
        if manifold.has("curvature") and np.size(manifold.curvature) > 1:
            raise ValueError(
                f"parameter {trees.show(path)}: its {type(manifold).__name__} has several curvatures; sparse optimizers take one number"
            )
