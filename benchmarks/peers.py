"""Other libraries beside port_jax: `python -m benchmarks peers [--quick]`.

Each runs in an environment of its own (`benchmarks/environments.py`): torch_geometric with the project's torch, hyperbolix with Python
3.12. torch_geometric trains a Euclidean GAT with Adam on the graphs of the HGAT rows, with as many layers, heads and channels; its process
keeps freed memory (`port_jax.memory`), and its edges have their self loops already. hyperbolix takes the step of its `riemannian_adam` with
the retraction of geoopt's `PoincareBall`, compiled, with the table and the state donated, as JAX does. hyperbolix has no graph layers.

The functions import what they need themselves, because no environment has all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.case import Side
from benchmarks.points import TABLES, C, smaller, table

GOALS = (9.0, 6.0, 8.0)
RATE = 1e-3


def rows(quick: bool) -> Iterator[dict[str, Any]]:
    """torch_geometric on both graphs, then hyperbolix on the three tables."""
    from benchmarks import adam, hgat
    from benchmarks.timing import compared

    for name, (nodes, edges) in hgat.sizes(quick).items():
        work = f"training step, {name}, {nodes:,} nodes, {edges:,} edges: Euclidean GAT in torch_geometric, HGAT"
        yield compared(work, Side(gat_step, (nodes, edges), "torch_geometric"), Side(hgat.jax_step, (nodes, edges)))
    for (n, d), goal in zip(smaller(TABLES, quick), GOALS, strict=True):
        work = f"RiemannianAdam step, ball, {n:,} x {d}: hyperbolix"
        theirs, ours = Side(hyperbolix_step, (n, d), "hyperbolix"), Side(adam.single, (n, d, "ball", False))
        yield compared(work, theirs, ours) | {"goal": goal}


def gat_step(nodes: int, edges: int) -> Callable[[], None]:
    """A training step of a GAT of two layers with four heads of 16 channels, the last averaged, and a linear classifier."""
    import numpy as np
    import torch
    from torch_geometric.nn import GATConv  # pyright: ignore[reportMissingImports]

    from benchmarks import hgat

    torch.set_num_threads(hgat.threads())
    problem = hgat.problem(nodes, edges)
    order = np.argsort(problem.receivers, kind="stable")
    index = torch.from_numpy(np.stack([problem.senders[order], problem.receivers[order]]).astype(np.int64))
    x, labels = torch.from_numpy(problem.features), torch.from_numpy(np.asarray(problem.labels, np.int64))
    torch.manual_seed(0)
    first = GATConv(hgat.WIDTH, 16, heads=4, add_self_loops=False)
    second = GATConv(64, 16, heads=4, concat=False, add_self_loops=False)
    last = torch.nn.Linear(16, hgat.CLASSES)
    optimizer = torch.optim.Adam([p for part in (first, second, last) for p in part.parameters()], lr=1e-2)

    def step() -> None:
        optimizer.zero_grad()
        logits = last(second(torch.relu(first(x, index)), index))
        torch.nn.functional.cross_entropy(logits, labels).backward()
        optimizer.step()

    return step


def hyperbolix_step(n: int, d: int) -> Callable[[], None]:
    """A step of hyperbolix's RiemannianAdam on a table of points of the ball."""
    import jax
    import jax.numpy as jnp
    from hyperbolix.manifolds import Poincare  # pyright: ignore[reportMissingImports]
    from hyperbolix.optim import ManifoldParam, riemannian_adam  # pyright: ignore[reportMissingImports]

    points, grads = (jnp.asarray(a) for a in table(n, d, "ball"))
    tx = riemannian_adam(RATE, use_expmap=False)
    # It learns the manifold from the parameter that its state is made for.
    state = tx.init(ManifoldParam(points, manifold=Poincare(dtype=jnp.float32), curvature=C))

    def advance(table: Any, state: Any, grads: Any) -> Any:
        updates, state = tx.update(grads, state, table)
        return table + updates, state

    compiled = jax.jit(advance, donate_argnums=(0, 1))
    held = [points, state]
    del points, state

    def step() -> None:
        held[:] = jax.block_until_ready(compiled(*held, grads))

    return step
