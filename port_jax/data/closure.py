"""Training data for embeddings of hierarchies: all pairs of an element and one of its ancestors, and batches with negatives."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Int32, PRNGKeyArray

from port_jax.arguments import EDGES, KEY, Kind, takes, whole
from port_jax.data.indices import as_edges

__all__ = ["ranking_batch", "transitive_closure"]


@takes(edges=EDGES, num_nodes=whole(0))
def transitive_closure(edges: Int[np.ndarray, "2 E"], num_nodes: int) -> Int32[np.ndarray, "P 2"]:
    """All pairs (u, v) with a path from u to v along edges from edges[0] to edges[1], each once, ordered by u, then v. Runs on the host.

    Raises ValueError for an index outside [0, num_nodes), and for a path from a node to itself; the message names the node.
    """
    edges = as_edges(edges, num_nodes)
    new = known = np.unique(edges[0] * num_nodes + edges[1])
    starts, targets = np.searchsorted(known, np.arange(num_nodes + 1) * num_nodes), known % max(num_nodes, 1)
    while len(new):
        u, v = new // num_nodes, new % num_nodes
        if (u == v).any():
            raise ValueError(f"edges lead from node {u[u == v][0]} back to it: a hierarchy has no cycles; remove an edge of this one")
        degree = starts[v + 1] - starts[v]
        rank = np.arange(degree.sum()) - np.repeat(np.cumsum(degree) - degree, degree)
        reached = np.repeat(u, degree) * num_nodes + targets[np.repeat(starts[v], degree) + rank]
        new = np.setdiff1d(reached, known)
        known = np.union1d(known, new)
    return np.stack([known // max(num_nodes, 1), known % max(num_nodes, 1)], 1).astype(np.int32)


def _pairs(pairs: Any) -> bool:
    try:
        return jnp.ndim(pairs) == 2 and jnp.shape(pairs)[1] == 2
    except (TypeError, ValueError):  # no array
        return False


@takes(key=KEY, pairs=Kind(_pairs, "indices [b, 2]: two nodes in each row"), num_nodes=whole(1), negatives=whole(0))
def ranking_batch(key: PRNGKeyArray, pairs: Int[Array, "b 2"], num_nodes: int, negatives: int) -> Int32[Array, "b 2+negatives"]:
    """u, v and negatives for each pair (u, v): the inputs of `PoincareEmbeddings`, whose energy is to be least at v.

    The negatives are uniform over all nodes, so that some of them are related to u (a share of pairs/num_nodes² of a closure), where
    arXiv 1705.08039, section 4.1, leaves these out. Works under jit.
    """
    drawn = jax.random.randint(key, (len(pairs), negatives), 0, num_nodes, jnp.int32)
    return jnp.concatenate([jnp.asarray(pairs, jnp.int32), drawn], 1)
