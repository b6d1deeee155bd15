"""What the manifold costs: a step of RiemannianAdam beside one of optax's Euclidean Adam on the same table: `python -m benchmarks adam`.

Both are compiled, with the table and the state donated. Further rows have both inside `fit`, with its default chunks of 20 steps in one
compiled program: a thousand steps of a small table, divided by a thousand, with everything that `fit` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optax

from benchmarks.case import Side
from benchmarks.points import TABLES, C, smaller, table
from benchmarks.timing import compared
from port_jax.manifolds import Lorentz, PoincareBall
from port_jax.optim import riemannian_adam
from port_jax.training import TrainState, fit, train_state

RATE = 1e-3
MOST = {"ball": (1.2, 1.4, 1.5), "lorentz": (1.3, 1.4, 1.5)}
"""How many times longer a Riemannian step may take, for each of the tables."""
NAMES = {"ball": "ball", "lorentz": "hyperboloid"}
STEPS = 1_000


def rows(quick: bool) -> Iterator[dict[str, Any]]:
    """Every table on the ball and on the hyperboloid, then the smallest inside `fit`."""
    tables = smaller(TABLES, quick)
    for kind, goals in MOST.items():
        for (n, d), most in zip(tables, goals, strict=True):
            euclidean, riemannian = (Side(single, (n, d, kind, flat)) for flat in (True, False))
            yield cost(f"one step, {NAMES[kind]}, {n:,} x {d}", euclidean, riemannian) | {"most": most}
    n, d = tables[-1]
    for kind in MOST:
        euclidean, riemannian = (Side(in_fit, (n, d, kind, flat)) for flat in (True, False))
        yield cost(f"a step inside fit, {NAMES[kind]}, {n:,} x {d}", euclidean, riemannian, 1 / STEPS)


def cost(work: str, euclidean: Side, riemannian: Side, scale: float = 1.0) -> dict[str, Any]:
    """A row: the times, and how many times longer the Riemannian step takes."""
    found = compared(work, euclidean, riemannian, scale)
    if "ratio" not in found:
        return found
    ratio, low, high = (found.pop(name) for name in ("ratio", "low", "high"))
    return {**found, "cost": 1 / ratio, "cost_low": 1 / high, "cost_high": 1 / low}


def optimizer(kind: str, euclidean: bool) -> optax.GradientTransformation:
    """Adam, or RiemannianAdam on the ball or the hyperboloid."""
    return optax.adam(RATE) if euclidean else riemannian_adam(RATE, manifolds=Lorentz() if kind == "lorentz" else PoincareBall(C))


def single(n: int, d: int, kind: str, euclidean: bool) -> Callable[[], None]:
    """One step in one compiled program."""
    points, grads = (jnp.asarray(a) for a in table(n, d, kind))
    return stepping(optimizer(kind, euclidean), points, grads)


def stepping(tx: optax.GradientTransformation, points: jax.Array, grads: jax.Array) -> Callable[[], None]:
    """A compiled step that consumes the table and the state of the step before."""

    def advance(table: Any, state: Any, grads: Any) -> Any:
        updates, state = tx.update(grads, state, table)
        return optax.apply_updates(table, updates), state

    compiled = jax.jit(advance, donate_argnums=(0, 1))
    held = [points, tx.init(points)]
    del points

    def step() -> None:
        held[:] = jax.block_until_ready(compiled(*held, grads))

    return step


def in_fit(n: int, d: int, kind: str, euclidean: bool) -> Callable[[], None]:
    """`STEPS` steps by `fit`."""
    tx, (points, grads) = optimizer(kind, euclidean), (jnp.asarray(a) for a in table(n, d, kind))
    start = train_state(points, tx, jax.random.key(0))

    def step(state: TrainState, grads: Any) -> Any:
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return state._replace(params=params, opt_state=opt_state, step=state.step + 1), {"loss": jnp.zeros(())}

    def run() -> None:
        jax.block_until_ready(fit(step, start, steps=STEPS, batch=grads, progress=False).state)

    return run
