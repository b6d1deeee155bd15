"""One optimizer step in geoopt and in port_jax: RiemannianAdam on whole tables, SparseRiemannianAdam on some of their rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks.adam import NAMES, stepping
from benchmarks.case import Case, Side
from benchmarks.points import C, table
from port_jax.manifolds import Lorentz, PoincareBall
from port_jax.optim import RowGradients, riemannian_adam, sparse_riemannian_adam

BALL = [(1_000_000, 32, 15.0), (82_115, 10, 5.0), (1_000, 10, 5.0)]
COMPILED = 82_115
SPARSE = [(10_000_000, 16, 5.0), (100_000, 16, None)]
TOUCHED = 1_024


def cases(quick: bool = False) -> Iterator[Case]:
    """Whole tables on both manifolds, then rows of a large table and of a small one."""
    for kind, sizes in (("ball", BALL), ("lorentz", BALL[1:])):
        for n, d, goal in sizes:
            yield dense(n // 20 if quick and n > 100_000 else n, d, kind)._replace(goal=goal)
    for n, d, goal in SPARSE:
        yield sparse(n // 100 if quick and n > 1_000_000 else n, d)._replace(goal=goal)


def dense(n: int, d: int, kind: str) -> Case:
    """A whole table. Points, momentum and second moments are read and written; the gradient is read."""
    args = (n, d, kind)
    compiled = Side(torch_compiled, args) if (n, kind) == (COMPILED, "ball") else None
    work = f"RiemannianAdam step, {NAMES[kind]}, {n:,} x {d}"
    return Case(work, Side(torch_dense, args), Side(jax_dense, args), compiled=compiled, moved=4 * n * (5 * d + 2))


def sparse(n: int, d: int) -> Case:
    """Some of the rows of a table, of which as much is read and written."""
    work = f"SparseRiemannianAdam step, ball, {TOUCHED:,} rows of {n:,} x {d}"
    return Case(work, Side(torch_sparse, (n, d)), Side(jax_sparse, (n, d)), moved=4 * TOUCHED * (5 * d + 2))


def torch_dense(n: int, d: int, kind: str) -> Callable[[], None]:
    """geoopt's RiemannianAdam."""
    return _torch_dense(n, d, kind, lambda step: step)


def torch_compiled(n: int, d: int, kind: str) -> Callable[[], None]:
    """geoopt's RiemannianAdam under torch.compile."""
    return _torch_dense(n, d, kind, lambda step: torch.compile(step, dynamic=False))


def _torch_dense(n: int, d: int, kind: str, wrap: Callable) -> Callable[[], None]:
    points, grads = (torch.from_numpy(a) for a in table(n, d, kind))
    leaf = parameter(points, kind)
    opt_step = wrap(geoopt.optim.RiemannianAdam([leaf], lr=1e-3).step)
    leaf.grad = grads.clone()

    def step() -> None:
        # geoopt writes into the gradient (weight decay, the sign on the hyperboloid), so each step needs a fresh copy.
        leaf.grad.copy_(grads)
        opt_step()

    return step


def parameter(points: torch.Tensor, kind: str) -> Any:
    """A parameter of geoopt with these points."""
    manifold = geoopt.Lorentz() if kind == "lorentz" else geoopt.PoincareBall(C)
    return geoopt.ManifoldParameter(points, manifold=manifold)  # pyright: ignore[reportCallIssue]


def jax_dense(n: int, d: int, kind: str) -> Callable[[], None]:
    """The optimizer of port_jax, compiled, with the table and the state donated."""
    tx = riemannian_adam(1e-3, manifolds=Lorentz() if kind == "lorentz" else PoincareBall(C))

    points, grads = (jnp.asarray(a) for a in table(n, d, kind))
    return stepping(tx, points, grads)


def touched_rows(n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of rows, which may repeat, and their gradients."""
    rng = np.random.default_rng(1)
    return rng.integers(0, n, TOUCHED), rng.standard_normal((TOUCHED, d), dtype=np.float32)


def torch_sparse(n: int, d: int) -> Callable[[], None]:
    """geoopt's SparseRiemannianAdam."""
    indices, grads = (torch.from_numpy(a) for a in touched_rows(n, d))
    leaf = parameter(torch.from_numpy(table(n, d, "ball")[0]), "ball")
    leaf.grad = torch.sparse_coo_tensor(indices[None], grads, leaf.shape, check_invariants=False)
    return geoopt.optim.SparseRiemannianAdam([leaf], lr=1e-3).step


def jax_sparse(n: int, d: int) -> Callable[[], None]:
    """The optimizer of port_jax, compiled, with the table and the state donated."""
    tx = sparse_riemannian_adam(1e-3, manifolds=PoincareBall(C))
    compiled = jax.jit(tx.step, donate_argnums=(0, 1))
    points = jnp.asarray(table(n, d, "ball")[0])
    held = [points, tx.init(points)]
    del points
    batch = RowGradients(*(jnp.asarray(a) for a in touched_rows(n, d)))

    def step() -> None:
        held[:] = jax.block_until_ready(compiled(*held, batch))

    return step
