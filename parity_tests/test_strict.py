"""The library runs where JAX forbids implicit promotion, of ranks and of types: traced only, in float32 and with derivatives."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

import port_jax.manifolds as pm
from parity_tests import draws, slow, whole_library
from parity_tests.layers.to_build_with import TABLE as LAYERS
from parity_tests.manifolds import method_calls
from parity_tests.models.small_models import CASES
from parity_tests.whole_library import BALL, OPTIMIZERS, POINT, TABLES, VECTORS, descend
from port_jax import optim
from port_jax.graphs import Graph, aggregate, edge_dot, segment_max, segment_softmax, segment_sum
from port_jax.manifolds import isometries
from port_jax.pairwise import pairwise_dist, pairwise_dist2plane


@contextlib.contextmanager
def strict() -> Iterator[None]:
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        yield


def traced(function: Callable[..., Any], *args: Any, derive: bool = True) -> None:
    """The function, and its derivative with respect to all arguments, without compilation."""

    def both(*args: Any) -> Any:
        out, back = jax.vjp(function, *args)
        return back(out)

    with strict():
        jax.eval_shape(both if derive else function, *args)


KEPT = {
    ("PoincareBall", False),
    ("Lorentz", False),
    *((name, True) for name in ("SymmetricPositiveDefinite", "CanonicalStiefel", "BoundedDomain")),
}
TABLE = [*((name, True) for name in method_calls.MANIFOLDS), ("PoincareBall", False), ("Lorentz", False)]


@pytest.mark.parametrize(("name", "derive"), slow.all_but(KEPT, TABLE))
def test_every_method_of_a_manifold(name: str, derive: bool):
    called = set()
    for method, call, arrays in method_calls.every_call(name):
        with contextlib.suppress(NotImplementedError):
            traced(call, *arrays, derive=derive)
            called.add(method)
    assert {"inner", "proju", "projx", "retr", "retr_transp", "egrad2rgrad", "descend", "descend_along", "norm"} <= called
    make, shape = method_calls.MANIFOLDS[name]
    manifold = make(pm)
    with strict():
        jax.eval_shape(lambda key: manifold.random(key, 2, *shape), draws.key(0))
        jax.eval_shape(lambda: manifold.origin(2, *shape))


@pytest.mark.slow  # as every model and method
def test_what_is_computed_from_manifolds_and_graphs():
    x = jnp.full((4, 3), 0.1, jnp.float32)
    for source, target in itertools.pairwise((*isometries.MODELS, "klein", "ball", "klein")):
        traced(lambda z, source=source, target=target: isometries.convert(z, source, target, 0.7), x)
    for manifold in (pm.PoincareBall(0.7), pm.Lorentz(2.0), pm.Sphere()):
        traced(lambda x, manifold=manifold: pairwise_dist(manifold, x), x)
    for manifold in (pm.PoincareBall(0.7), pm.Lorentz(2.0)):
        traced(lambda x, manifold=manifold: pairwise_dist2plane(manifold, x, x[:2], x[1:3]), x)
    for layout in (True, False):
        graph = Graph.from_edges([0, 1, 2, 3, 3], [1, 1, 1, 0, 2], num_nodes=4, layout=layout)
        edges = jnp.ones((5, 2), jnp.float32)
        for operation in (segment_sum, segment_max, segment_softmax):
            traced(lambda v, operation=operation, graph=graph: operation(v, graph), edges)
        traced(lambda a, v, graph=graph: aggregate(a, v, graph), edges, jnp.ones((4, 2, 3), jnp.float32))
        traced(lambda a, v, graph=graph: edge_dot(a, v, graph), x, x)
        loops = {"self_logits": jnp.ones((4, 2), jnp.float32), "mask": ~graph.loop_mask}
        traced(lambda v, graph=graph, loops=loops: segment_softmax(v, graph, **loops), edges)


@pytest.mark.parametrize("arch", slow.all_but({"hgat"}, CASES))
def test_every_model(arch: str, tmp_path: Path):
    """The outputs on which `verify` compares the model with its original, and their derivatives by all parameters."""
    run, variables = whole_library.model_call(arch, tmp_path)
    traced(run, variables)


@pytest.mark.parametrize(("layer", "manifold", "shapes"), LAYERS, ids=[type(layer).__name__ for layer, *_ in LAYERS])
def test_every_layer_to_build_with(layer: Any, manifold: Any, shapes: Any):
    """By inputs and parameters; the output has the type of the input."""
    call, variables, points = whole_library.layer_call(layer, manifold, shapes)
    traced(call, variables, *points)
    assert jax.eval_shape(call, variables, *points).dtype == jnp.float32


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer(name: str):
    tx, params = OPTIMIZERS[name]
    with strict():
        state = jax.eval_shape(tx.init, params)
        updates, after = jax.eval_shape(tx.update, params, state, params)
        new = jax.eval_shape(optax.apply_updates, params, updates)
    assert jax.tree.map(lambda a: (a.shape, a.dtype), (new, after)) == jax.tree.map(lambda a: (a.shape, a.dtype), (params, state))


def test_transformations_around_an_optimizer():
    searched = optim.riemannian_line_search(manifolds=VECTORS, cg_method="pr")
    average = optim.weight_average(0.9, manifolds=VECTORS)
    sharp = optim.sharpness_aware(descend, manifolds=VECTORS)
    rows = optim.RowGradients(jnp.array([0, 2, 2]), POINT[:3])
    with strict():
        state = jax.eval_shape(searched.init, TABLES)
        jax.eval_shape(lambda p, s: searched.update(p, s, p, value_fn=descend), TABLES, state)
        jax.eval_shape(lambda p: average.update(p, average.update(p, average.init(p))), TABLES)
        jax.eval_shape(sharp, TABLES)
        for make in (optim.sparse_riemannian_adam, optim.sparse_riemannian_sgd):
            tx = make(1e-2, stabilize=2, manifolds=BALL)
            jax.eval_shape(tx.step, POINT, jax.eval_shape(tx.init, POINT), rows)
