"""One direction of a graph: for each node (row), the edges that meet it there."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rows:
    """Edges sorted by the node that collects them. Slot s is edge `edges[s]`, between `segments[s]` and `columns[s]`."""

    segments: Int[Array, " E"]
    """The collecting node of each slot, ascending."""
    columns: Int[Array, " E"]
    """The node at the other end."""
    edges: Int[Array, " E"] | None
    """The edge in each slot; None where slot s is edge s, as in the direction that the graph is sorted by."""
    num_nodes: int = dataclasses.field(metadata={"static": True})

    @staticmethod
    def build(segments: np.ndarray, columns: np.ndarray, num_nodes: int, edges: np.ndarray | None) -> Rows:
        """Rows from host arrays that are already sorted by `segments`."""
        return Rows(
            segments=jnp.asarray(segments, jnp.int32),
            columns=jnp.asarray(columns, jnp.int32),
            edges=None if edges is None else jnp.asarray(edges, jnp.int32),
            num_nodes=num_nodes,
        )
