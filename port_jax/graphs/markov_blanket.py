"""The Markov blanket of each node of a directed graph."""

from __future__ import annotations

import numpy as np

from port_jax.arguments import TRUTH, takes
from port_jax.graphs.graph import Graph
from port_jax.graphs.segment import GRAPH

__all__ = ["markov_blanket"]


@takes(graph=GRAPH, siblings=TRUTH)
def markov_blanket(graph: Graph, *, siblings: bool = False) -> Graph:
    """A graph in which each node receives from its Markov blanket, each member once, without itself.

    In a directed graph (an edge runs from parent to child) the blanket of a node is its parents, its children and its
    children's other parents (Pearl, Probabilistic Reasoning in Intelligent Systems, 1988, section 3.3): given these, it
    is independent of all other nodes. `siblings=True` adds the other children of its parents, without which attention over
    a tree sees one generation only. If every edge goes both ways, the graph is undirected and the blanket is the neighbours.

    Weights and edge features of the input are dropped. Edges are sorted by receiver, then by sender.
    """
    import scipy.sparse as sp

    senders, receivers, _, _ = graph.host_arrays()
    n = graph.num_nodes
    children = sp.csr_array((np.ones(len(senders), bool), (senders, receivers)), shape=(n, n))
    children.setdiag(False)
    children.eliminate_zeros()
    parents = children.T.tocsr()
    blanket = parents + children
    if (children != parents).nnz:
        blanket = blanket + children @ parents
        if siblings:
            blanket = blanket + parents @ children
    blanket = blanket.tocoo()
    rows, columns = blanket.coords
    keep = blanket.data & (rows != columns)
    rows, columns = rows[keep], columns[keep]
    order = np.lexsort((columns, rows))
    return Graph.from_edges(columns[order], rows[order], num_nodes=n)
