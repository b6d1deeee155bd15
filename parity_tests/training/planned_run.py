"""A run with a plan, the same program on one device, on several, and in several processes; it writes its losses and points as JSON.

python -m parity_tests.training.planned_run OUT.json FOLDER STEPS KIND [COUNT INDEX PORT]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType

from parity_tests import draws
from port_jax.manifolds import Lorentz, PoincareBall
from port_jax.optim import riemannian_adam
from port_jax.training import Plan, fit, gradient_step, train_state

ROWS, BATCH = 16, 32
BALL, SPACE = PoincareBall(0.7), Lorentz(1.3)
MANIFOLDS = {"points": BALL, "center": SPACE}


def loss(params: dict[str, jax.Array], batch: tuple[jax.Array, jax.Array], key: jax.Array) -> jax.Array:
    """Distances of a table's rows to targets, and of one point to others: the first is split, the second on every device."""
    targets, others = batch
    return jnp.mean(BALL.dist2(params["points"], targets)) + jnp.mean(SPACE.dist(params["center"], others) ** 2)


def main(out: str, folder: str, steps: str, kind: str, *processes: str) -> None:
    jax.config.update("jax_enable_x64", True)
    if processes:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        count, index, port = map(int, processes)
        jax.distributed.initialize(f"localhost:{port}", count, index)
    mesh = jax.make_mesh((jax.device_count(),), ("x",), axis_types=(AxisType[kind],))
    plan = Plan(mesh, tables=("points",))
    optimizer = riemannian_adam(0.05, manifolds=MANIFOLDS, amsgrad=True)
    first, size = jax.process_index(), jax.process_count()

    def make() -> object:
        points = BALL.expmap0(0.3 * jax.random.normal(draws.key(0), (ROWS, 3)))
        params = {"points": points, "center": SPACE.expmap0(jnp.array([0.0, 0.5, -0.3]))}
        return train_state(params, optimizer, draws.key(1))

    def batches(number: int) -> tuple[np.ndarray, np.ndarray]:
        rng = draws.rng(number)
        targets, tangents = 0.2 * rng.standard_normal((ROWS, 3)), 0.3 * rng.standard_normal((BATCH, 3))
        others = np.concatenate([np.sqrt(1.3 + (tangents[:, 1:] ** 2).sum(1, keepdims=True)), tangents[:, 1:]], 1)
        return tuple(np.split(rows, size)[first] for rows in (targets, others))

    with jax.set_mesh(mesh):
        result = fit(
            gradient_step(loss, optimizer), plan.made(make), steps=int(steps), batches=batches, plan=plan, chunk=2, every=4,
            folder=folder, progress=False,
        )  # fmt: skip
    points = result.state.params["points"]
    parts = {shard.data.shape[0] for shard in points.addressable_shards}
    moments = {shard.data.shape for name in ("mu", "nu") for shard in getattr(result.state.opt_state, name)["points"].addressable_shards}
    whole = jax.jit(lambda x: x, out_shardings=plan.whole)(points)
    if first == 0:
        found = {"loss": result.history.steps["loss"], "points": np.asarray(whole).tolist(), "parts": sorted(parts)}
        Path(out).write_text(json.dumps({**found, "moments": sorted({shape[0] for shape in moments}), "compilations": result.compilations}))


if __name__ == "__main__":
    main(*sys.argv[1:])
