"""One optimizer step, geoopt beside port_jax: RiemannianAdam on whole tables, SparseRiemannianAdam on some of their rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks.timing import floor_seconds, interleaved
from port_jax.manifolds import Lorentz, PoincareBall
from port_jax.optim import RowGradients, riemannian_adam, sparse_riemannian_adam

C = 0.7
BALL = [(1_000_000, 32, 15.0), (82_115, 10, 5.0), (1_000, 10, 5.0)]
SPARSE = (10_000_000, 16, 1_024, 4.0)


def rows(quick: bool = False) -> Iterator[dict[str, Any]]:
    """One dictionary a row: medians of torch and JAX, their ratio with spread, its goal, the floor where it has one."""
    for n, d, goal in BALL:
        n = n // 20 if quick and n > 100_000 else n
        yield _row(f"RiemannianAdam step, ball, {n:,} x {d}", *_dense(n, d, "ball"), goal, 4 * n * (5 * d + 2))
    for n, d, goal in BALL[1:]:
        yield _row(
            f"RiemannianAdam step, hyperboloid, {n:,} x {d}", *_dense(n, d, "lorentz"), goal, 4 * n * (5 * d + 2)
        )
    n, d, touched, goal = SPARSE
    n = n // 100 if quick else n
    yield _row(f"SparseRiemannianAdam step, ball, {touched:,} rows of {n:,} x {d}", *_sparse(n, d, touched), goal, None)


def _row(work: str, torch_step: Callable, jax_step: Callable, goal: float, moved: int | None) -> dict[str, Any]:
    times = interleaved({"torch": torch_step, "jax": jax_step})
    theirs, ours = times["torch"], times["jax"]
    floor = None if moved is None else floor_seconds(moved)
    return {
        "work": work,
        "torch_ms": theirs.median * 1e3,
        "jax_ms": ours.median * 1e3,
        "ratio": theirs.median / ours.median,
        "ratio_low": theirs.low / ours.high,
        "ratio_high": theirs.high / ours.low,
        "goal": goal,
        "floor_ms": None if floor is None else floor * 1e3,
        "times_floor": None if floor is None else ours.median / floor,
        "first_call_s": ours.first,
    }


def _table(n: int, d: int, kind: str) -> tuple[np.ndarray, Any, Any]:
    rng = np.random.default_rng(0)
    points = (rng.standard_normal((n, d), dtype=np.float32) / d**0.5 * 0.3).astype(np.float32)
    if kind == "lorentz":
        points[:, 0] = np.sqrt(1 + (points[:, 1:] ** 2).sum(-1))
        return points, geoopt.Lorentz(), Lorentz()
    return points, geoopt.PoincareBall(C), PoincareBall(C)


def _dense(n: int, d: int, kind: str) -> tuple[Callable, Callable]:
    points, theirs, ours = _table(n, d, kind)
    grads = np.random.default_rng(1).standard_normal((n, d), dtype=np.float32)
    leaf: Any = geoopt.ManifoldParameter(torch.tensor(points), manifold=theirs)  # pyright: ignore[reportCallIssue]
    opt = geoopt.optim.RiemannianAdam([leaf], lr=1e-3)
    torch_grads = torch.tensor(grads)
    leaf.grad = torch_grads.clone()

    def torch_step() -> None:
        # geoopt writes into the gradient (weight decay, the hyperboloid's sign): it gets the same one each time.
        leaf.grad.copy_(torch_grads)
        opt.step()

    tx = riemannian_adam(1e-3, manifolds=ours)

    def step(table: Any, state: Any, grads: Any) -> Any:
        updates, state = tx.update(grads, state, table)
        return table + updates, state

    step = jax.jit(step, donate_argnums=(0, 1))
    table, jax_grads = jnp.asarray(points), jnp.asarray(grads)
    held = [table, tx.init(table)]

    def jax_step() -> None:
        held[:] = jax.block_until_ready(step(held[0], held[1], jax_grads))

    return torch_step, jax_step


def _sparse(n: int, d: int, touched: int) -> tuple[Callable, Callable]:
    points, theirs, ours = _table(n, d, "ball")
    rng = np.random.default_rng(1)
    indices = rng.integers(0, n, touched)
    grads = rng.standard_normal((touched, d), dtype=np.float32)
    leaf: Any = geoopt.ManifoldParameter(torch.tensor(points), manifold=theirs)  # pyright: ignore[reportCallIssue]
    opt = geoopt.optim.SparseRiemannianAdam([leaf], lr=1e-3)
    leaf.grad = torch.sparse_coo_tensor(
        torch.tensor(indices)[None], torch.tensor(grads), leaf.shape, check_invariants=False
    )
    tx = sparse_riemannian_adam(1e-3, manifolds=ours)
    step = jax.jit(tx.step, donate_argnums=(0, 1))
    table = jnp.asarray(points)
    held = [table, tx.init(table)]
    batch = RowGradients(jnp.asarray(indices), jnp.asarray(grads))

    def jax_step() -> None:
        held[:] = jax.block_until_ready(step(held[0], held[1], batch))

    return opt.step, jax_step
