"""The library runs where JAX forbids implicit promotion, of ranks and of types: traced only, in float32 and with derivatives."""

from __future__ import annotations

import contextlib
import inspect
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

import port_jax.manifolds as pm
import weights
from parity_tests import draws, slow
from parity_tests.layers.to_build_with import TABLE as LAYERS
from parity_tests.manifolds import method_calls
from parity_tests.models.small_models import CASES
from port_jax import optim
from port_jax.graphs import Graph, aggregate, edge_dot, segment_max, segment_softmax, segment_sum
from port_jax.manifolds import isometries
from port_jax.pairwise import pairwise_dist, pairwise_dist2plane
from weights.mapping.probes import Draw, for_jax
from weights.models import ARCHITECTURES


@contextlib.contextmanager
def strict() -> Iterator[None]:
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        yield


def single(value: Any) -> Any:
    """Arrays of floating-point numbers in single precision, everything else as it is."""
    if not isinstance(value, np.ndarray | jax.Array) or not jnp.issubdtype(value.dtype, jnp.inexact):
        return value
    return jnp.asarray(value, jnp.complex64 if jnp.iscomplexobj(value) else jnp.float32)


def traced(function: Callable[..., Any], *args: Any, derive: bool = True) -> None:
    """The function, and its derivative with respect to all arguments, without compilation."""

    def both(*args: Any) -> Any:
        out, back = jax.vjp(function, *args)
        return back(out)

    with strict():
        jax.eval_shape(both if derive else function, *args)


# Arguments that `method_calls.arguments` does not have, or has for geoopt's checks only.
NUMBERS = {"fn": jnp.sin, "b1": 0.9, "rate": 0.1}
SHORTER = {("Lorentz", "mobius_matvec"): ("m", (3, 3)), ("Lorentz", "mobius_pointwise_mul"): ("w", (1, 3))}
KEPT = {
    ("PoincareBall", False),
    ("Lorentz", False),
    *((name, True) for name in ("SymmetricPositiveDefinite", "CanonicalStiefel", "BoundedDomain")),
}
TABLE = [*((name, True) for name in method_calls.MANIFOLDS), ("PoincareBall", False), ("Lorentz", False)]


@pytest.mark.parametrize(("name", "derive"), slow.all_but(KEPT, TABLE))
def test_every_method_of_a_manifold(name: str, derive: bool):
    make, shape = method_calls.MANIFOLDS[name]
    manifold = make(pm)
    found = {key: single(value) for key, value in method_calls.arguments(manifold, shape).items()}
    found |= {**NUMBERS, "noise": found["u"], "grad": found["u"]}
    called = set()
    for method in sorted(n for n in {*vars(pm.Manifold), *dir(type(manifold))} if not n.startswith("_") and "check" not in n):
        try:
            function = getattr(manifold, method)
        except NotImplementedError:
            continue
        if not callable(function) or isinstance(inspect.getattr_static(type(manifold), method), classmethod):
            continue
        required = [
            p for p in inspect.signature(function).parameters.values() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD
        ]
        if method in ("has", "beside", "narrowed", "pack_point", "with_exact_retraction", "origin") or "key" in {p.name for p in required}:
            continue
        args = [found[method_calls.SPECIAL.get((method, p.name), p.name)] for p in required]
        if method == "descend_along":
            args[2] = found["v"]
        if (name, method) in SHORTER:
            which, size = SHORTER[name, method]
            args = [jnp.ones(size, jnp.float32) if p.name == which else a for p, a in zip(required, args, strict=True)]
        places = [i for i, a in enumerate(args) if isinstance(a, jax.Array)]

        def call(*arrays: Any, args: Any = args, places: Any = places, function: Any = function, method: str = method) -> Any:
            given = [arrays[places.index(i)] if i in places else a for i, a in enumerate(args)]
            out = function(*given)
            if method == "descend_along":
                return out[0], out[1](0.3)
            return out(found["x"][0]) if method == "dist_to" else out

        with contextlib.suppress(NotImplementedError):
            traced(call, *[args[i] for i in places], derive=derive)
            called.add(method)
    assert {"inner", "proju", "projx", "retr", "retr_transp", "egrad2rgrad", "descend", "descend_along", "norm"} <= called
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
    make, _ = CASES[arch]
    module, config = make()
    torch.save(module.state_dict(), tmp_path / "model.pth")
    checkpoint = weights.load(tmp_path / "model.pth", config=config, arch=arch)
    probe, model = ARCHITECTURES[arch].probe, checkpoint.model
    inputs = for_jax(probe.draw(checkpoint.settings, Draw(draws.seed(0))), "float32")

    def run(variables: Any) -> Any:
        return probe.outputs(checkpoint.settings, lambda method, *args: model.apply(variables, *args, method=method), inputs)

    traced(run, jax.tree.map(single, checkpoint.variables))


@pytest.mark.parametrize(("layer", "manifold", "shapes"), LAYERS, ids=[type(layer).__name__ for layer, *_ in LAYERS])
def test_every_layer_to_build_with(layer: Any, manifold: Any, shapes: Any):
    """By inputs and parameters; the output has the type of the input."""
    points = [manifold.projx(jnp.full((*s[:-1], s[-1] + manifold.ambient), 0.1, jnp.float32)) for s in shapes]
    inputs = points or [jnp.array([0, 2])]
    made = jax.eval_shape(lambda: layer.init(draws.key(0), manifold, *inputs))  # float64 where flax asks for JAX's type
    variables = jax.tree.map(lambda a: jnp.ones(a.shape, jnp.float32), made)
    traced(lambda v, *x: layer.apply(v, manifold, *(x or inputs)), variables, *points)
    assert jax.eval_shape(lambda: layer.apply(variables, manifold, *inputs)).dtype == jnp.float32


BALL = pm.PoincareBall(0.7)
POINT, MATRIX = jnp.full((5, 3), 0.1, jnp.float32), jnp.eye(3, dtype=jnp.float32)[None]
TREE = {"a": POINT, "b": POINT, "c": MATRIX, "d": MATRIX, "e": POINT[0]}
MANIFOLDS = {"a": BALL, "b": pm.Lorentz(2.0), "c": pm.CanonicalStiefel(), "d": pm.SymmetricPositiveDefinite(), "e": pm.Euclidean()}
VECTORS = {"a": BALL, "b": pm.Sphere()}


def descend(points: Any) -> Any:
    return sum(jnp.sum(p * p) for p in jax.tree.leaves(points))


TABLES = {name: TREE[name] for name in VECTORS}
OPTIMIZERS: dict[str, tuple[Any, Any]] = {
    "adam": (optim.riemannian_adam(1e-2, weight_decay=0.1, amsgrad=True, stabilize=2, manifolds=MANIFOLDS), TREE),
    "adam, exponential": (optim.riemannian_adam(optim.schedules.exponential_lr(1e-2, 0.9), manifolds=BALL.with_exact_retraction()), POINT),
    "adamw": (optim.riemannian_adamw(1e-2, manifolds=MANIFOLDS, decays={**dict.fromkeys(TREE, True), "c": False}), TREE),
    "sgd": (optim.riemannian_sgd(1e-2, momentum=0.9, nesterov=True, weight_decay=0.1, stabilize=2, manifolds=MANIFOLDS), TREE),
    "sgd without momentum": (optim.riemannian_sgd(1e-2, manifolds=MANIFOLDS), TREE),
    "ogd": (optim.riemannian_ogd(1e-2, manifolds={"a": BALL, "b": pm.Lorentz(2.0)}), TABLES),
    "clipped": (optax.chain(optim.clip_grad_norm(1.0), optim.clip_grad_value(0.5), optim.riemannian_sgd(1e-2, manifolds=BALL)), POINT),
}


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
