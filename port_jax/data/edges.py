"""Mini-batches of edges with negatives, in fixed shapes."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Int32

from port_jax.arguments import EDGES, TRUTH, one_of, takes, whole
from port_jax.data.indices import as_edges

__all__ = ["EdgeBatch", "EdgeSampler"]


class EdgeBatch(NamedTuple):
    """A pytree of host arrays."""

    edges: Int32[np.ndarray, "B 2"]
    negatives: Int32[np.ndarray, "B K 2"]
    """K pairs for each edge that are not edges, uniform among those that `replace` allows, independent of each other."""
    mask: Bool[np.ndarray, " B"]
    """False for the rows that pad the last batch of an epoch; they repeat edges of the epoch."""


class EdgeSampler:
    """Each epoch visits every edge once, in an order of its own, with negatives drawn anew.

    A call with the number of a step returns its batch, always the same for the same number, as `port_jax.training.fit` needs. What is a
    negative of an edge (u, v) is said by `replace`:

        "target": (u, w), with w uniform over the nodes that u has no edge to (Nickel and Kiela 2017, section 4.1)
        "source": (w, v), the same with the roles exchanged
        "both": any pair of different nodes without an edge, uniform over these pairs (the negatives of HGCN's link prediction)

    An edge counts in both directions unless `directed`. A node is no negative of itself. Negatives are drawn by rank among the pairs
    without an edge: without rejection, in time O(B K log E) a batch and memory O(E).

        batches = EdgeSampler(split.train.T, data.graph.num_nodes, batch_size=512, negatives=5)
        fit(step, state, steps=10 * batches.steps_per_epoch, batches=batches)

    Errors: ValueError for edges that are not [2, E] or name a node outside of [0, num_nodes), for sizes below 1, and for a node of an edge
    that has an edge to every other node, so that there is no negative.
    """

    @takes(
        edges=EDGES,
        num_nodes=whole(1),
        batch_size=whole(1),
        negatives=whole(1),
        replace=one_of("target", "source", "both"),
        directed=TRUTH,
        seed=whole(0),
    )
    def __init__(
        self,
        edges: Int[np.ndarray, "2 E"],
        num_nodes: int,
        *,
        batch_size: int,
        negatives: int = 1,
        replace: Literal["target", "source", "both"] = "target",
        directed: bool = False,
        seed: int = 0,
    ):
        edges = as_edges(edges, num_nodes)
        if not edges.size:
            raise ValueError(f"edges has shape {edges.shape}: pass [2, E] with an edge or more")
        self.edges, self.num_nodes, self.batch_size, self.negatives = edges.T.astype(np.int32), num_nodes, batch_size, negatives
        self.replace, self.seed = replace, seed
        kept, replaced = edges[::-1] if replace == "source" else edges
        self._taken(kept.astype(np.int64), replaced.astype(np.int64), directed)
        full = np.flatnonzero(self.free == 0)
        if replace == "both" and not self.free.any():
            raise ValueError(f"every pair of the {num_nodes} nodes has an edge: there is no negative")
        if replace != "both" and np.isin(full, kept).any():
            node = full[np.isin(full, kept)][0]
            raise ValueError(f"node {node} has an edge to every other node: it has no negatives; leave it out, or pass replace='both'")

    def _taken(self, kept: np.ndarray, replaced: np.ndarray, directed: bool) -> None:
        """For each node, how many nodes before it are free below each of the nodes that it has an edge to."""
        n, loops = self.num_nodes, np.arange(self.num_nodes)
        rows = np.concatenate([kept, loops] if directed else [kept, replaced, loops])
        columns = np.concatenate([replaced, loops] if directed else [replaced, kept, loops])
        keys = np.unique(rows * n + columns)
        row, column = keys // n, keys % n
        self.starts = np.searchsorted(row, np.arange(n + 1))
        self.free = n - np.diff(self.starts)
        # the i-th taken node k of a row has k - i free nodes before it
        self.before = row * n + column - (np.arange(len(keys)) - self.starts[row])

    def _ranked(self, node: np.ndarray, rank: np.ndarray) -> np.ndarray:
        """The free node of each rank: the rank, and one more for each taken node that comes before it."""
        return rank + np.searchsorted(self.before, node * self.num_nodes + rank, side="right") - self.starts[node]

    @property
    def steps_per_epoch(self) -> int:
        """The number of batches in which every edge occurs once."""
        return -(-len(self.edges) // self.batch_size)

    def __call__(self, number: int) -> EdgeBatch:
        """The batch of step `number`, counted from 0."""
        epoch, place = divmod(number, self.steps_per_epoch)
        order = np.random.default_rng([self.seed, 0, epoch]).permutation(len(self.edges))
        at = np.arange(place * self.batch_size, (place + 1) * self.batch_size)
        edges = self.edges[order[at % len(order)]]
        rng, shape = np.random.default_rng([self.seed, 1, number]), (self.batch_size, self.negatives)
        if self.replace == "both":
            ends = np.cumsum(self.free)
            pair = rng.integers(0, ends[-1], shape)
            kept = np.searchsorted(ends, pair, side="right")
            rank = pair - (ends[kept] - self.free[kept])
        else:
            kept = np.broadcast_to(edges[:, None, 1 if self.replace == "source" else 0], shape).astype(np.int64)
            rank = rng.integers(0, self.free[kept])
        drawn = np.stack([kept, self._ranked(kept, rank)], -1).astype(np.int32)
        return EdgeBatch(edges, drawn[..., ::-1].copy() if self.replace == "source" else drawn, at < len(order))
