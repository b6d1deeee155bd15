"""Node features as HGCN prepares them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from port_jax.arguments import instance, numbers, takes, whole
from port_jax.graphs import Graph

__all__ = ["degree_features", "row_normalized"]

FEATURES = numbers("numbers [N, F]: the features of each node", 2)


@takes(features=FEATURES)
def row_normalized(features: Float32[np.ndarray, "N F"]) -> Float32[np.ndarray, "N F"]:
    """Each row divided by its sum; a row that sums to 0 becomes 0."""
    features = np.asarray(features, np.float32)
    total = features.sum(1, keepdims=True)
    return np.divide(features, total, out=np.zeros_like(features), where=total != 0)


@takes(features=FEATURES, graph=instance("a Graph", Graph), largest=whole(0))
def degree_features(features: Float32[np.ndarray, "N F"], graph: Graph, *, largest: int = 5) -> Float32[np.ndarray, "N F+largest+2"]:
    """The features, then the node's degree one-hot (degrees from `largest` on share a column), then a column of ones.

    HGCN's features of the airport graph (Chami et al., 2019). The degree counts incoming edges.
    """
    if len(features) != graph.num_nodes:
        raise ValueError(f"features has {len(features)} rows, and the graph {graph.num_nodes} nodes; give one row for each node")
    degree = np.bincount(np.asarray(graph.receivers), minlength=graph.num_nodes)
    one_hot = np.eye(largest + 1, dtype=np.float32)[np.minimum(degree, largest)]
    return np.concatenate([features, one_hot, np.ones((graph.num_nodes, 1), np.float32)], axis=1)
