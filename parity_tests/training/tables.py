"""Tables of points, batches that name some of their rows, and a loss of these rows: what tests of `sparse_step` share."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType

from parity_tests import draws
from port_jax.manifolds import Lorentz, PoincareBall, ProductManifold, Sphere
from port_jax.optim import sparse_riemannian_adam, sparse_riemannian_sgd
from port_jax.training import Plan, TrainState, sparse_step, train_state

BALL = PoincareBall(0.7)
MANIFOLDS = {
    "ball": (BALL, 5),
    "hyperboloid": (Lorentz(1.7), 5),
    "product": (ProductManifold((BALL, 3), (Sphere(), 3)), 6),
}
OPTIMIZERS = {
    "adam": partial(sparse_riemannian_adam, 0.05, amsgrad=True),
    "sgd": partial(sparse_riemannian_sgd, 0.05, momentum=0.9, dampening=0.2),
}
Batch = dict[str, np.ndarray]


def points(name: str, size: int, seed: int = 0, dtype: Any = np.float64) -> np.ndarray:
    manifold, d = MANIFOLDS[name]
    return np.asarray(manifold.projx(jnp.asarray(0.3 * draws.rng(seed).standard_normal((size, d)))), dtype)


def batch(number: int, size: int, rows: int = 16, wide: int = 6) -> Batch:
    """Rows of low numbers are named often, a tenth is padding, and pairs have weights of both signs."""
    rng = draws.rng(100 + number)
    ids = np.minimum((size * rng.random((rows, wide)) ** 3).astype(np.int32), size - 1)
    ids[:, 1:][rng.random((rows, wide - 1)) < 0.1] = size
    weights = rng.standard_normal((rows, wide - 1)) * (ids[:, 1:] < size)
    return {"ids": ids, "weights": weights}


def indices(found: Any) -> dict[str, Any]:
    return {"points": found["ids"]}


def loss(name: str) -> Any:
    """Weighted distances in each line of the batch, a fifth of which are dropped, and of rows to one point."""
    manifold, _ = MANIFOLDS[name]
    pole = points(name, 1, seed=7)[0]

    def value(rows: Any, batch: Any, key: Any) -> Any:
        found = rows["points"]
        kept = jax.random.bernoulli(key, 0.8, batch["weights"].shape)
        between = manifold.dist(found[:, :1], found[:, 1:]) * batch["weights"].astype(found.dtype) * kept
        return jnp.mean(between) + 0.1 * jnp.mean(manifold.dist(found[:, 0], pole.astype(found.dtype))), {"largest": jnp.abs(between).max()}

    return value


def step(name: str, optimizer: str = "adam", **options: Any) -> Any:
    manifold, _ = MANIFOLDS[name]
    return sparse_step(loss(name), OPTIMIZERS[optimizer](manifolds={"points": manifold}), indices, **options)


def state(name: str, size: int, optimizer: str = "adam", dtype: Any = np.float64) -> TrainState:
    manifold, _ = MANIFOLDS[name]
    table = {"points": jnp.asarray(points(name, size, dtype=dtype))}
    return train_state(table, OPTIMIZERS[optimizer](manifolds={"points": manifold}), draws.key(3))


def plan(kind: str = "Auto", count: int | None = None) -> Plan:
    count = jax.device_count() if count is None else count
    mesh = jax.make_mesh((count,), ("x",), axis_types=(AxisType[kind],), devices=jax.devices()[:count])
    return Plan(mesh, tables=("points",))


def apart(found: Any, expected: Any, of_array: bool = False) -> float:
    """The largest difference of two trees, in units in the last place of the largest entry of each row.

    of_array: of each array. Moments are sums of gradients that cancel, whose rounding does not become smaller with the sum.
    """
    worst = 0.0
    for a, b in zip(map(np.asarray, jax.tree.leaves(found)), map(np.asarray, jax.tree.leaves(expected)), strict=True):
        if a.ndim:
            unit = np.spacing(np.abs(b).max(None if of_array else -1, keepdims=True, initial=np.finfo(b.dtype).tiny))
            worst = max(worst, float((np.abs(a - b) / unit).max()))
        else:
            assert a == b
    return worst
