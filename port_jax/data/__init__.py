"""Graphs to train on: the one that is included, `.npz` files, their splits and mini-batches; and a synthetic tree."""

from port_jax.data.closure import ranking_batch, transitive_closure
from port_jax.data.dataset import DataError, GraphData, load_graph
from port_jax.data.edges import EdgeBatch, EdgeSampler
from port_jax.data.features import degree_features, row_normalized
from port_jax.data.neighbors import NeighborSampler, Subgraph
from port_jax.data.splits import EdgeSplit, NodeSplit, sample_negatives, split_edges, split_nodes
from port_jax.data.stereographic_tree import StereographicTreeDataset
from port_jax.data.stored import StoredGraph, store_graph

__all__ = [
    "DataError",
    "EdgeBatch",
    "EdgeSampler",
    "EdgeSplit",
    "GraphData",
    "NeighborSampler",
    "NodeSplit",
    "StereographicTreeDataset",
    "StoredGraph",
    "Subgraph",
    "degree_features",
    "load_graph",
    "ranking_batch",
    "row_normalized",
    "sample_negatives",
    "split_edges",
    "split_nodes",
    "store_graph",
    "transitive_closure",
]
