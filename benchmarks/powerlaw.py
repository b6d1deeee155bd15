"""Power-law graphs from a seed. The default has the size of ogbn-arxiv with self loops: 169,343 nodes and 1,335,586 edges."""

from __future__ import annotations

import numpy as np


def powerlaw_edges(
    num_nodes: int = 169_343, num_edges: int = 1_335_586, *, exponent: float = 2.5, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Senders and receivers, int32 [num_edges], of distinct edges; the last `num_nodes` edges are the self loops.

    Both ends are drawn in proportion to (rank + 10)^(-1 / (exponent - 1)). Each end has its own ranking of the nodes, so that the
    degrees of both ends follow a power law and neighbours are scattered in memory.
    """
    rng = np.random.default_rng(seed)
    weight = np.cumsum((np.arange(num_nodes) + 10.0) ** (-1 / (exponent - 1)))
    rankings = [rng.permutation(num_nodes) for _ in range(2)]
    wanted = num_edges - num_nodes
    keys = np.zeros(0, np.int64)
    while len(keys) < wanted:
        ranks = np.searchsorted(weight, rng.random((2, wanted)) * weight[-1])
        s, r = (ranking[rank] for ranking, rank in zip(rankings, ranks))
        keys = np.unique(np.concatenate([keys, (s.astype(np.int64) * num_nodes + r)[s != r]]))
    keys = rng.permutation(keys)[:wanted]
    loops = np.arange(num_nodes)
    return (
        np.concatenate([keys // num_nodes, loops]).astype(np.int32),
        np.concatenate([keys % num_nodes, loops]).astype(np.int32),
    )
