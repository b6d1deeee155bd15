"""How the cost grows with the work, each main row over four sizes, beside torch and the floor: `python -m benchmarks growth [--quick]`.

The floor is the time of copying the bytes that any program has to read and write, and of the matrix products, at the rates that the machine
reaches in torch. Both processes keep the memory that they free. `benchmarks.report` draws the rows on logarithmic axes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks import hgat, optim, pairwise, poincare, training
from benchmarks.case import Case, Side
from benchmarks.powerlaw import powerlaw_edges
from benchmarks.timing import compared, floor
from port_jax.models import HGCN
from reference_torch.models.hgcn import HGCN as TorchHGCN

ROUNDS = 3
EDGES_EACH, WIDTH, CLASSES = 8, 64, 7
HGCN_CONFIG: dict[str, Any] = {"feat_dim": WIDTH + 1, "dim": 16, "num_layers": 2, "task": "nc", "n_classes": CLASSES,
                               "manifold": "Hyperboloid", "act": "relu"}  # fmt: skip


def rows(quick: bool) -> Iterator[dict[str, Any]]:
    """Every series over its sizes; `quick` has the two smallest."""
    for name, (unit, sizes, make) in SERIES.items():
        for size in sizes[:2] if quick else sizes:
            case = make(size)
            assert case.torch is not None
            found = compared(f"{name}, {size:,} {unit}", case.torch, case.jax, case.scale, ROUNDS)
            yield {**found, "series": name, "unit": unit, "size": size} | ({} if "ratio" not in found else {"floor_ms": 1e3 * floor(case)})


def hgcn(nodes: int) -> Case:
    """HGCN on the hyperboloid, on a power-law graph."""
    edges, depth, d = EDGES_EACH * nodes, 2, 16
    # The sum over neighbours and its derivative gather a row and write one for each node; arrays of nodes as in `hgat.floor`.
    moved = 4 * depth * (edges * (2 * d + 4) + nodes * 6 * d) + 4 * 2 * nodes * WIDTH
    multiplied = 2 * nodes * d * (2 * WIDTH + 3 * d + 3 * CLASSES)
    return Case("", Side(hgcn_torch, (nodes,)), Side(hgcn_jax, (nodes,)), moved=moved, multiplied=multiplied)


def hgcn_problem(nodes: int) -> training.Problem:
    """Random features and labels on a power-law graph, with the mean over neighbours as weights."""
    senders, receivers = powerlaw_edges(nodes, EDGES_EACH * nodes)
    rng = np.random.default_rng(0)
    weights = (1 / np.bincount(receivers, minlength=nodes))[receivers].astype(np.float32)
    x = 0.1 * rng.standard_normal((nodes, WIDTH), dtype=np.float32)
    return training.Problem(senders, receivers, weights, x, rng.integers(0, CLASSES, nodes))


def hgcn_torch(nodes: int) -> Callable[[], None]:
    """The torch side, eager."""
    return training.torch_step(TorchHGCN(**HGCN_CONFIG), hgcn_problem(nodes))


def hgcn_jax(nodes: int) -> Callable[[], None]:
    """The JAX side."""
    return training.jax_step(HGCN(**HGCN_CONFIG), hgcn_problem(nodes))


SERIES: dict[str, tuple[str, tuple[int, ...], Callable[[int], Case]]] = {
    "RiemannianAdam, ball, 10 wide": ("rows", (1_000, 10_000, 100_000, 1_000_000), lambda n: optim.dense(n, 10, "ball")),
    "RiemannianAdam, hyperboloid, 10 wide": ("rows", (1_000, 10_000, 100_000, 1_000_000), lambda n: optim.dense(n, 10, "lorentz")),
    "SparseRiemannianAdam, 1,024 rows, 16 wide": (
        "rows",
        (10_000, 100_000, 1_000_000, 10_000_000),
        lambda n: optim.sparse(n, 16),
    ),
    "pairwise distances and gradient": ("points", (500, 1_000, 2_000, 4_000), pairwise.case),
    "HGAT, 8 edges a node": ("nodes", (1_000, 5_000, 20_000, 100_000), lambda n: hgat.case("", n, EDGES_EACH * n)),
    "HGCN, hyperboloid, 8 edges a node": ("nodes", (1_000, 5_000, 20_000, 100_000), hgcn),
    "Poincaré embeddings, an epoch": ("nodes", (2_000, 8_000, 32_000, 80_000), lambda n: poincare.case(n, "sparse")),
}
"""Name -> what is counted, the sizes, and the case of a size."""
