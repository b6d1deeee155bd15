"""Steps on several batches, on one device and on eight. Run by `test_stacked.py`, with eight simulated devices in a process of its own:

XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m parity_tests.training.on_stacked linear
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType

from benchmarks.collectives import collectives
from parity_tests import draws
from port_jax.data import NeighborSampler
from port_jax.graphs import Graph
from port_jax.manifolds import Euclidean
from port_jax.models import HGAT
from port_jax.optim import riemannian_adam
from port_jax.training import Plan, StackedBatches, fit, gradient_step, mean_over_batches, train_state

COUNT, NODES = 8, 40
HGATS = HGAT(in_features=5, features=(4, 3), heads=2, curvature=0.7, num_classes=3, classifier="hyperplanes", dropout=0.3)


class Linear(nn.Module):
    """A linear map of the features of nodes, with dropout."""

    @nn.compact
    def __call__(self, x: Any, graph: Graph, deterministic: bool) -> Any:
        return nn.Dense(3)(nn.Dropout(0.3)(x, deterministic=deterministic))


MODELS = {"linear": (Linear(), lambda params: Euclidean()), "hgat": (HGATS, HGATS.manifolds)}


def problem(model: Any) -> tuple[Any, Any, Any]:
    """Batches, a loss with dropout and another number, and parameters in general position."""
    rng = draws.rng(0)
    graph = Graph.from_edges(rng.integers(0, NODES, 200), rng.integers(0, NODES, 200), num_nodes=NODES)
    features, labels = rng.standard_normal((NODES, 5)), rng.integers(0, 3, NODES)
    sampler = NeighborSampler(graph, fanouts=(3, 2), batch_size=4, seed=draws.seed(1))

    class Batches:
        steps_per_epoch = sampler.steps_per_epoch

        def __call__(self, number: int) -> Any:
            part = sampler(number)
            return features[part.nodes], part.graph, labels[part.nodes[:4]], part.mask

    def loss(params: Any, batch: Any, key: jax.Array) -> Any:
        x, graph, labels, mask = batch
        logits = model.apply({"params": params}, x, graph, deterministic=False, rngs={"dropout": key})[:4]
        found = -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1)[:, 0]
        return jnp.sum(found * mask) / jnp.sum(mask), {"right": jnp.mean(logits.argmax(1) == labels)}

    batches = Batches()
    x, part, _, _ = batches(0)
    params = jax.tree.map(lambda x: x.astype(float), jax.jit(partial(model.init, deterministic=True))(draws.key(2), x, part)["params"])
    return batches, loss, params


def by_hand(batches: Any, loss: Any, params: Any, optimizer: Any, steps: int) -> Any:
    """The same steps without any of it: losses of one batch after the other, their gradients added up by numpy."""
    state, numbers = train_state(params, optimizer, draws.key(3)), []
    grad = jax.jit(jax.value_and_grad(loss, has_aux=True))
    for number in range(steps):
        key = jax.random.fold_in(state.key, number)
        found = [grad(state.params, batches(number * COUNT + i), jax.random.fold_in(key, i)) for i in range(COUNT)]
        mean = jax.tree.map(lambda *x: np.mean(np.stack(x), axis=0), *(g for _, g in found))
        updates, opt_state = optimizer.update(mean, state.opt_state, state.params)
        state = state._replace(params=jax.tree.map(jnp.add, state.params, updates), opt_state=opt_state)
        numbers.append([np.mean([value for (value, _), _ in found]), np.mean([more["right"] for (_, more), _ in found])])
    return state, np.array(numbers).T


def main(name: str) -> None:
    jax.config.update("jax_enable_x64", True)
    model, manifolds = MODELS[name]
    batches, loss, params = problem(model)
    optimizer = riemannian_adam(0.02, manifolds=manifolds(params))
    stacked = StackedBatches(batches, count=COUNT)
    assert stacked.steps_per_epoch == 2  # of ten batches
    expected, numbers = by_hand(batches, loss, params, optimizer, 3)
    sizes = sum(x.size for x in jax.tree.leaves(params))
    ways = (("none", 1, None), ("two", 2, AxisType.Explicit), ("eight", 8, AxisType.Auto))
    for way, devices, kind in ways if name == "linear" else ways[2:]:
        plan = None if kind is None else Plan(jax.make_mesh((devices,), ("x",), axis_types=(kind,), devices=jax.devices()[:devices]))
        step = gradient_step(mean_over_batches(loss, plan), optimizer)
        result = fit(step, train_state(params, optimizer, draws.key(3)), steps=3, batches=stacked, plan=plan, chunk=2, progress=False)
        # Sums of float64 in other orders; three steps of Adam, which divides by the root of the mean square.
        for a, b in zip(jax.tree.leaves(result.state.params), jax.tree.leaves(expected.params), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11, err_msg=way)
        np.testing.assert_allclose(result.history.steps["loss"], numbers[0], rtol=1e-12)
        np.testing.assert_allclose(result.history.steps["right"], numbers[1], rtol=1e-12)
        if plan is not None:
            state = plan.place(train_state(params, optimizer, draws.key(3)))
            crossing = collectives(jax.jit(step).lower(state, plan.batch(stacked(0))).compile().as_text())
            assert {one.kind for one in crossing} == {"all-reduce"}, crossing
            total = sum(one.bytes for one in crossing)
            assert 8 * sizes <= total <= 8 * sizes + 64, (total, sizes)
            print(way, len(crossing), "all-reduce,", total, "bytes for", sizes, "parameters")


if __name__ == "__main__":
    main(sys.argv[1])
