"""Splits for link prediction and node classification, on the host and the same for the same seed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Int32

from port_jax.arguments import EDGES, number, numbers, takes, whole
from port_jax.data.indices import as_edges

__all__ = ["EdgeSplit", "NodeSplit", "sample_negatives", "split_edges", "split_nodes"]


class EdgeSplit(NamedTuple):
    """Pairs of nodes, int32 [*, 2]. Each undirected edge is in one part, in the direction in which it was given."""

    train: Int32[np.ndarray, "T 2"]
    val: Int32[np.ndarray, "V 2"]
    val_false: Int32[np.ndarray, "V 2"]
    test: Int32[np.ndarray, "U 2"]
    test_false: Int32[np.ndarray, "U 2"]


class NodeSplit(NamedTuple):
    """Indices of nodes, ascending."""

    train: Int32[np.ndarray, " T"]
    val: Int32[np.ndarray, " V"]
    test: Int32[np.ndarray, " U"]


@takes(edges=EDGES, num_nodes=whole(0), val_prop=number(0, 1), test_prop=number(0, 1), seed=whole(0))
def split_edges(
    edges: Int[np.ndarray, "2 E"], num_nodes: int, *, val_prop: float = 0.05, test_prop: float = 0.10, seed: int = 0
) -> EdgeSplit:
    """Edges for training, validation and test, and for the last two as many pairs that are not edges.

    A pair counts once in whichever direction it is given, and self loops are left out. The default shares are HGCN's.
    The false pairs are drawn by `sample_negatives`, in time and memory O(E log E).
    """
    _check_shares(val_prop, test_prop)
    edges = as_edges(edges, num_nodes)
    edges = edges[:, edges[0] != edges[1]]
    first = np.unique(_keys(edges.T, num_nodes), return_index=True)[1]
    pairs = edges.T[np.sort(first)].astype(np.int32)
    rng = np.random.default_rng(seed)
    pairs = rng.permutation(pairs)
    val, test = int(len(pairs) * val_prop), int(len(pairs) * test_prop)
    false = sample_negatives(edges, num_nodes, val + test, seed=int(rng.integers(2**31)))
    return EdgeSplit(
        train=pairs[val + test :],
        val=pairs[:val],
        val_false=false[:val],
        test=pairs[val : val + test],
        test_false=false[val:],
    )


@takes(edges=EDGES, num_nodes=whole(0), count=whole(0), seed=whole(0))
def sample_negatives(edges: Int[np.ndarray, "2 E"], num_nodes: int, count: int, *, seed: int = 0) -> Int32[np.ndarray, "count 2"]:
    """`count` distinct pairs of different nodes with no edge between them in either direction, drawn uniformly.

    They are drawn by rejection, so that no matrix over all pairs is made. Raises `ValueError` if fewer such pairs exist.
    """
    edges = as_edges(edges, num_nodes)
    taken = np.unique(_keys(edges.T, num_nodes))
    loops = np.unique(edges[0][edges[0] == edges[1]]).size
    free = num_nodes * (num_nodes - 1) // 2 - (len(taken) - loops)
    if count > free:
        raise ValueError(f"count is {count}, but only {free} pairs of {num_nodes} nodes have no edge: ask for fewer")
    rng = np.random.default_rng(seed)
    if 2 * count > free:  # most of the free pairs: rejection would take long to find the last ones
        rows, columns = np.triu_indices(num_nodes, 1)
        pairs = np.stack([rows, columns], 1)
        pairs = pairs[~np.isin(_keys(pairs, num_nodes), taken)]
        return rng.permutation(pairs)[:count].astype(np.int32)
    found = np.zeros((0, 2), np.int64)
    while len(found) < count:
        draws = rng.integers(0, num_nodes, (2 * (count - len(found)) + 16, 2))
        draws = draws[(draws[:, 0] != draws[:, 1]) & ~np.isin(_keys(draws, num_nodes), taken)]
        found = np.concatenate([found, draws])
        found = found[np.sort(np.unique(_keys(found, num_nodes), return_index=True)[1])]
    return found[:count].astype(np.int32)


@takes(labels=numbers("whole numbers [N]: the class of each node", 1), val_prop=number(0, 1), test_prop=number(0, 1), seed=whole(0))
def split_nodes(labels: Int[np.ndarray, " N"], *, val_prop: float = 0.15, test_prop: float = 0.15, seed: int = 0) -> NodeSplit:
    """Nodes for training, validation and test; each class is divided in the same proportions."""
    _check_shares(val_prop, test_prop)
    labels = np.asarray(labels)
    if not labels.size:
        raise ValueError("labels is empty; give the class of each node")
    rng = np.random.default_rng(seed)
    parts: tuple[list[np.ndarray], ...] = ([], [], [])
    for label in np.unique(labels):
        nodes = rng.permutation(np.flatnonzero(labels == label))
        val, test = round(len(nodes) * val_prop), round(len(nodes) * test_prop)
        for part, chosen in zip(parts, (nodes[val + test :], nodes[:val], nodes[val : val + test])):
            part.append(chosen)
    return NodeSplit(*(np.sort(np.concatenate(part)).astype(np.int32) for part in parts))


def _keys(pairs: np.ndarray, num_nodes: int) -> np.ndarray:
    """One number for each unordered pair."""
    pairs = np.sort(pairs.astype(np.int64), axis=1)
    return pairs[:, 0] * num_nodes + pairs[:, 1]


def _check_shares(val_prop: float, test_prop: float) -> None:
    if min(val_prop, test_prop) < 0 or val_prop + test_prop >= 1:
        raise ValueError(f"val_prop is {val_prop} and test_prop {test_prop}: pass shares whose sum is below 1")
