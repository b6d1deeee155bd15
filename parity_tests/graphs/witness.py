"""A graph with everything that goes wrong, and torch's own segment operations as the witness."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from parity_tests import draws
from port_jax.graphs import Graph, rows

NODES, HUB = 60, 7
LAYOUTS = ("fine", "padded")


@cache
def edges() -> tuple[np.ndarray, np.ndarray]:
    """633 edges in no order: in-degrees above 16^2 and above 16, an out-degree of 40, repeats, loops, lone nodes."""
    rng = draws.rng(3)
    senders, receivers = rng.integers(0, NODES - 5, (2, 300))
    hub = rng.integers(0, NODES - 5, 330)
    out = np.concatenate([senders, hub, [11, 11, HUB]])
    into = np.concatenate([receivers, np.repeat([HUB, 9], [270, 60]), [12, 12, HUB]])
    out[:40] = 20
    order = rng.permutation(len(out))
    return out[order], into[order]


@cache
def graph(layout: str) -> Graph:
    """The graph with all its blocks ("fine"), with few ("coarse") or none ("padded", by a node and two edges)."""
    smallest = rows.SMALLEST
    try:
        rows.SMALLEST = 1 if layout == "fine" else smallest
        g = Graph.from_edges(*edges(), num_nodes=NODES)
    finally:
        rows.SMALLEST = smallest
    return g.padded(num_nodes=NODES + 1, num_edges=g.num_edges + 2) if layout == "padded" else g


def ends(g: Graph) -> tuple[torch.Tensor, torch.Tensor]:
    """Senders and receivers as torch indices."""
    return torch.tensor(np.asarray(g.senders)).long(), torch.tensor(np.asarray(g.receivers)).long()


def total(values: torch.Tensor, g: Graph) -> torch.Tensor:
    return torch.zeros(g.num_nodes, *values.shape[1:], dtype=values.dtype).index_add(0, ends(g)[1], values)


def largest(values: torch.Tensor, g: Graph) -> torch.Tensor:
    """-inf for a node without edges."""
    start = torch.full((g.num_nodes, *values.shape[1:]), -torch.inf, dtype=values.dtype)
    at = ends(g)[1].reshape(-1, *[1] * (values.ndim - 1)).expand(values.shape)
    return start.scatter_reduce(0, at, values, "amax", include_self=False)


def softmax(logits: torch.Tensor, g: Graph, alone: torch.Tensor | None, keep: torch.Tensor | None):
    """One torch.softmax per node over its edges and, last, its loop."""
    _, receivers = ends(g)
    keep = torch.ones(len(receivers), dtype=torch.bool) if keep is None else keep
    alpha = torch.zeros_like(logits)
    loops = None if alone is None else torch.zeros_like(alone)
    for node in range(g.num_nodes):
        at = torch.nonzero((receivers == node) & keep)[:, 0]
        parts = logits[at] if alone is None else torch.cat([logits[at], alone[node : node + 1]])
        share = torch.softmax(parts, 0)
        alpha = alpha.index_copy(0, at, share[: len(at)])
        if loops is not None:
            loops = loops.index_copy(0, torch.tensor([node]), share[len(at) :])
    return alpha if loops is None else (alpha, loops)
