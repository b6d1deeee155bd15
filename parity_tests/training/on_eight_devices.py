"""What several devices give is what one gives. Run by `test_several_devices.py`, with eight simulated devices in a process of its own:

XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m parity_tests.training.on_eight_devices NAME
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from parity_tests import draws
from port_jax.graphs import Graph, aggregate, edge_dot, segment_softmax
from port_jax.manifolds import Lorentz, PoincareBall, ProductManifold, Sphere, SymmetricPositiveDefinite
from port_jax.optim import riemannian_adam, riemannian_sgd
from port_jax.training import fit, gradient_step, train_state

SPLIT, WHOLE = PartitionSpec("x"), PartitionSpec()
BALL = PoincareBall(0.7)
MANIFOLDS = {
    "ball": (BALL, (5,)),
    "hyperboloid": (Lorentz(1.7), (5,)),
    "product": (ProductManifold((BALL, 3), (Sphere(), 3)), (6,)),
    "matrices": (SymmetricPositiveDefinite(), (2, 2)),
}
WAYS = ("shard_map", "Explicit", "Auto")
OPTIMIZERS = {"adam": partial(riemannian_adam, 0.05), "sgd": partial(riemannian_sgd, 0.05, momentum=0.9)}


def mesh(kind: AxisType, count: int = 8) -> Mesh:
    return jax.make_mesh((count,), ("x",), axis_types=(kind,), devices=jax.devices()[:count])


def drawn(manifold: Any, shape: tuple[int, ...], seed: int) -> jax.Array:
    if shape == (2, 2):
        return manifold.random(draws.key(seed), 32, *shape)
    return manifold.projx(jnp.asarray(draws.rng(seed).standard_normal((32, *shape)) * 0.3))


def optimizers() -> None:
    """Two steps on rows split over eight devices, within four units in the last place of the largest entry.

    Adam in each of three ways; SGD, whose descent along a geodesic is the same code, in one on each manifold.
    """
    for (n, (manifold, shape)), (name, make) in itertools.product(enumerate(MANIFOLDS.values()), OPTIMIZERS.items()):
        tx, x, y = make(manifolds=manifold), drawn(manifold, shape, 0), drawn(manifold, shape, 1)

        def steps(x: Any, y: jax.Array, tx: Any = tx, manifold: Any = manifold) -> Any:
            state = tx.init(x)
            for _ in range(2):
                grad = jax.grad(lambda p: jnp.sum(manifold.dist(p, y) ** 2))(x)
                updates, state = tx.update(grad, state, x)
                x = optax.apply_updates(x, updates)
            return x, state

        alone = jax.jit(steps)(x, y)
        for kind in WAYS if name == "adam" else [WAYS[n % 3]]:
            devices = mesh(AxisType.Explicit if kind == "Explicit" else AxisType.Auto)
            placed = jax.device_put((x, y), NamedSharding(devices, SPLIT))
            if kind == "shard_map":
                types = jax.tree.map(lambda a: SPLIT if a.ndim else WHOLE, alone)
                found = jax.jit(jax.shard_map(steps, mesh=devices, in_specs=(SPLIT, SPLIT), out_specs=types))(*placed)
            else:
                with jax.set_mesh(devices):
                    found = jax.jit(steps)(*placed)
            for one, many in zip(jax.tree.leaves(alone), jax.tree.leaves(found), strict=True):
                apart, unit = np.abs(np.asarray(many) - np.asarray(one)).max(), np.spacing(np.abs(one).max(initial=1e-300))
                assert apart <= 4 * unit, (manifold, make, kind, apart / unit)
            assert len(found[0].sharding.device_set) == 8
            assert found[0].addressable_shards[0].data.shape[0] == 4


def cotangents() -> None:
    """What all devices share collects from all of them: an origin of distances, and the values at nodes of a graph."""
    x, one = drawn(BALL, (5,), 0), drawn(BALL, (5,), 1)[0]
    alike(lambda shared, rows: jnp.sum(BALL.dist(shared, rows) ** 2), one, x)
    rng = draws.rng(2)
    graph = Graph.from_edges(rng.integers(0, 8, 30), rng.integers(0, 8, 30), num_nodes=8)
    nodes = jnp.asarray(rng.standard_normal((8, 2, 3)))

    def attention(nodes: jax.Array, weight: jax.Array) -> jax.Array:
        logits = edge_dot(nodes * weight.sum(), nodes, graph)
        return jnp.sum(jnp.sin(aggregate(segment_softmax(logits, graph), nodes, graph)) * weight.sum())

    alike(attention, nodes, jnp.asarray(rng.standard_normal(8)), one_by_one=True)


def alike(value: Callable[..., jax.Array], shared: jax.Array, rows: jax.Array, one_by_one: bool = False) -> None:
    """The gradients inside of `shard_map` are those of the sum over devices of the value of each device's rows."""
    devices = mesh(AxisType.Auto)
    ours = jax.shard_map(jax.grad(value, argnums=(0, 1)), mesh=devices, in_specs=(WHOLE, SPLIT), out_specs=(WHOLE, SPLIT))
    total = (lambda s, r: sum(value(s, part) for part in r[:, None])) if one_by_one else value
    for a, b in zip(jax.jit(ours)(shared, rows), jax.jit(jax.grad(total, argnums=(0, 1)))(shared, rows), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


def training() -> None:
    """`fit` with batches split over the devices, on explicit axes and automatic ones, and a resume on other numbers of devices."""
    x, tx = drawn(BALL, (5,), 0), riemannian_adam(0.05, manifolds={"points": BALL})
    targets = np.asarray(drawn(BALL, (5,), 1))
    step = gradient_step(lambda params, batch, key: jnp.mean(BALL.dist2(params["points"], batch)), tx)

    def run(devices: Mesh | None, steps: int, folder: Path | None = None) -> Any:
        put = (lambda a: a) if devices is None else lambda a: jax.device_put(a, NamedSharding(devices, SPLIT if np.ndim(a) > 1 else WHOLE))
        state = jax.tree.map(put, train_state({"points": x}, tx, draws.key(3)))
        batches = lambda number: put((1 - 0.01 * number) * targets)  # noqa: E731
        return fit(step, state, steps=steps, batches=batches, chunk=3, folder=folder, every=3, progress=False)

    alone = run(None, 6)
    for kind in (AxisType.Auto, AxisType.Explicit):
        with jax.set_mesh(mesh(kind)):
            found = run(mesh(kind), 6)
        np.testing.assert_allclose(found.state.params["points"], alone.state.params["points"], rtol=1e-13)
        np.testing.assert_allclose(found.history.steps["loss"], alone.history.steps["loss"], rtol=1e-13)
        assert found.compilations == 1
        assert len(found.state.params["points"].sharding.device_set) == 8
    for first, then in ((8, 4), (8, 1), (1, 8), (2, 8)):
        with tempfile.TemporaryDirectory() as folder:
            run(mesh(AxisType.Auto, first), 3, Path(folder))
            resumed = run(mesh(AxisType.Auto, then), 6, Path(folder))
            np.testing.assert_allclose(resumed.state.params["points"], alone.state.params["points"], rtol=1e-13)
            assert len(resumed.state.params["points"].sharding.device_set) == then


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    {"optimizers": optimizers, "cotangents": cotangents, "training": training}[sys.argv[1]]()
