"""Mini-batches of a graph: seed nodes with some of their neighbours, in fixed shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Int32

from port_jax.arguments import Kind, instance, numbers, optional, takes, whole
from port_jax.data.stored import StoredGraph
from port_jax.graphs import Graph
from port_jax.permutations import Permutation

__all__ = ["NeighborSampler", "Subgraph"]

FANOUTS = Kind(
    lambda found: isinstance(found, (list, tuple)) and len(found) > 0 and all(map(whole(1).fits, found)),
    "a list of whole numbers of at least 1: how many neighbours of each node, hop by hop",
    ValueError,
)
SEEDS = numbers("whole numbers: the indices of nodes", 1)


class Subgraph(NamedTuple):
    """A pytree of host arrays. The seeds are the first nodes, so that `h[:len(mask)]` are their embeddings."""

    graph: Graph
    nodes: Int32[np.ndarray, " M"]
    """The index of each node in the whole graph; 0 for padding."""
    mask: Bool[np.ndarray, " B"]
    """False for the seeds that pad the last batch of an epoch."""


class NeighborSampler:
    """Hop by hop, up to `fanouts[i]` incoming edges of each node reached by the hop before, drawn without replacement.

    Each subset of that size is equally likely (Hamilton, Ying, Leskovec, "Inductive representation learning on large graphs",
    2017, section 3.1). If k of d incoming edges are drawn, their weights are multiplied by d/k, so that weighted sums over
    neighbours have the sums in the whole graph as their expectation. A call with the number of a step returns its batch, always
    the same for the same number, as `port_jax.training.fit` needs. Each epoch visits the seeds in an order of its own
    (`port_jax.permutations.Permutation`). A call takes time and memory of the batch, whatever the sizes of the graph and of its largest
    neighbourhood; of a `StoredGraph`, only the edges that are drawn are read.

        batches = NeighborSampler(graph, fanouts=(10, 10), batch_size=256)
        fit(step, state, steps=10 * batches.steps_per_epoch, batches=batches)
    """

    @takes(
        graph=instance("a Graph or a StoredGraph", Graph, StoredGraph),
        fanouts=FANOUTS,
        batch_size=whole(1),
        seeds=optional(SEEDS),
        seed=whole(0),
    )
    def __init__(self, graph: Graph | StoredGraph, *, fanouts: Sequence[int], batch_size: int, seeds: Any = None, seed: int = 0):
        self.seeds = None if seeds is None else _nodes(seeds, graph.num_nodes)
        self.num_seeds = graph.num_nodes if self.seeds is None else len(self.seeds)
        if not self.num_seeds:
            raise ValueError("graph has no nodes, so there are no seeds; give a graph with nodes")
        self.fanouts, self.batch_size, self.seed = tuple(fanouts), batch_size, seed
        if isinstance(graph, StoredGraph):
            self.senders, self.starts, self.weights, self.features = graph.senders, graph.starts, graph.weights, None
        else:
            self.senders = np.asarray(graph.senders)
            self.starts = np.searchsorted(np.asarray(graph.receivers), np.arange(graph.num_nodes + 1))
            self.weights = None if graph.weights is None else np.asarray(graph.weights)
            self.features = None if graph.edge_features is None else np.asarray(graph.edge_features)
        reached = batch_size * np.cumprod([1, *fanouts])
        self.max_nodes, self.max_edges = int(reached.sum()) + 1, int(reached[1:].sum())

    @property
    def steps_per_epoch(self) -> int:
        """The number of batches in which every seed occurs once."""
        return -(-self.num_seeds // self.batch_size)

    def __call__(self, number: int) -> Subgraph:
        """The batch of step `number`, counted from 0."""
        epoch, place = divmod(number, self.steps_per_epoch)
        first, last = place * self.batch_size, min((place + 1) * self.batch_size, self.num_seeds)
        chosen = Permutation.of(self.num_seeds, [self.seed, 0, epoch])(np.arange(first, last, dtype=np.int32))
        chosen = chosen if self.seeds is None else self.seeds[chosen]
        mask = np.arange(self.batch_size) < len(chosen)
        nodes, slots, receivers, scale = self._reach(np.random.default_rng([self.seed, 1, number]), chosen)
        # Padding for missing seeds comes right after the seeds, so that the seeds come first in every batch.
        at = np.where(np.arange(len(nodes)) < len(chosen), np.arange(len(nodes)), np.arange(len(nodes)) + (~mask).sum())
        names = np.zeros(self.max_nodes, np.int32)
        names[at] = nodes
        order = np.argsort(nodes)
        weights = None if self.weights is None else (self.weights[slots] * scale).astype(self.weights.dtype)
        features = None if self.features is None else self.features[slots]
        ends = [at[order[np.searchsorted(nodes, which, sorter=order)]] for which in (self.senders[slots], receivers)]
        part = Graph.from_edges(*ends, num_nodes=self.max_nodes - 1, weights=weights, edge_features=features, layout=False)
        padded = part.padded(num_nodes=self.max_nodes, num_edges=self.max_edges)
        return Subgraph(jax.tree.map(np.asarray, padded), names, mask)

    def _reach(self, rng: np.random.Generator, seeds: np.ndarray) -> tuple[np.ndarray, ...]:
        """The nodes, seeds first; the edges drawn, their receivers, and d/k for each edge."""
        nodes, known = [seeds], np.sort(seeds)
        slots, receivers, scales = [], [], []
        for fanout in self.fanouts:
            slot, owner, scale = self._draw(rng, nodes[-1], fanout)
            slots.append(slot)
            receivers.append(nodes[-1][owner])
            scales.append(scale)
            nodes.append(np.setdiff1d(self.senders[slot], known))
            known = np.union1d(known, nodes[-1])
        return tuple(np.concatenate(parts) for parts in (nodes, slots, receivers, scales))

    def _draw(self, rng: np.random.Generator, nodes: np.ndarray, fanout: int) -> tuple[np.ndarray, ...]:
        """Up to `fanout` of the incoming edges of each node: their positions, their receivers, and d/k.

        Floyd's sample (Bentley and Floyd, "A sample of brilliance", CACM 1987): for j = d - k, ..., d - 1, a number t from [0, j], or j
        itself if t is in the sample already. All subsets of k of d are equally likely, and of d edges no more than k are looked at.
        """
        start, degree = self.starts[nodes], self.starts[nodes + 1] - self.starts[nodes]
        count = np.minimum(degree, fanout)
        drawn = np.full((len(nodes), fanout), -1, np.int64)
        for i in range(fanout):
            last = degree - count + i
            found = rng.integers(0, last + 1)
            drawn[:, i] = np.where((drawn == found[:, None]).any(1), last, found)
        kept = np.arange(fanout) < count[:, None]
        owner = np.nonzero(kept)[0]
        return (start[:, None] + drawn)[kept], owner, degree[owner] / count[owner]


def _nodes(seeds: Any, num_nodes: int) -> np.ndarray:
    seeds = np.asarray(seeds)
    if seeds.ndim != 1 or not len(seeds) or seeds.min() < 0 or seeds.max() >= num_nodes:
        raise ValueError(f"seeds has shape {seeds.shape}; give indices of nodes in [0, {num_nodes})")
    if len(np.unique(seeds)) != len(seeds):
        raise ValueError(f"seeds has {len(seeds)} entries, {len(np.unique(seeds))} of them different; give each node once")
    return seeds
