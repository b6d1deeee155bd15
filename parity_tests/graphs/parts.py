"""Graphs that tests cut into parts."""

from __future__ import annotations

from parity_tests import draws
from port_jax.graphs import Graph

NODES = 45


def drawn(seed: int = 0, nodes: int = NODES, edges: int = 200) -> Graph:
    """Repeated edges, loops, a node that sends to many, one that receives from many, and nodes without edges; weights of both signs."""
    rng = draws.rng(seed)
    senders, receivers = rng.integers(0, nodes, (2, edges))
    senders[: edges // 5] = nodes // 2
    receivers[edges // 2 : edges // 2 + edges // 5] = nodes // 3
    alone = receivers % 11 == 4
    senders[alone], receivers[alone] = nodes // 2, nodes // 3
    senders[senders % 11 == 4] = nodes // 2
    return Graph.from_edges(senders, receivers, num_nodes=nodes, weights=rng.standard_normal(edges), edge_features=rng.random((edges, 2)))
