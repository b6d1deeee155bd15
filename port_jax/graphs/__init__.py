"""Graphs, segment operations and sparse products."""

from port_jax.graphs.edges import GraphError
from port_jax.graphs.graph import Graph
from port_jax.graphs.markov_blanket import markov_blanket
from port_jax.graphs.partition import Partition
from port_jax.graphs.segment import aggregate, edge_dot, gather_receivers, gather_senders, segment_max, segment_sum
from port_jax.graphs.softmax import segment_softmax

__all__ = [
    "Graph",
    "GraphError",
    "Partition",
    "aggregate",
    "edge_dot",
    "gather_receivers",
    "gather_senders",
    "markov_blanket",
    "segment_max",
    "segment_softmax",
    "segment_sum",
]
