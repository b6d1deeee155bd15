"""Every layer, model and optimizer with arguments in single precision, for tests that trace the whole library; methods: `method_calls`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
import torch

import port_jax.manifolds as pm
import weights
from parity_tests import draws
from parity_tests.manifolds.method_calls import single
from parity_tests.models.small_models import CASES
from port_jax import optim
from weights.mapping.probes import Draw, for_jax
from weights.models import ARCHITECTURES


def model_call(arch: str, folder: Path) -> tuple[Callable[..., Any], Any]:
    """The outputs on which `verify` compares a model with its original, as a function of its variables, and those."""
    make, _ = CASES[arch]
    module, config = make()
    torch.save(module.state_dict(), folder / "model.pth")
    checkpoint = weights.load(folder / "model.pth", config=config, arch=arch)
    probe, model = ARCHITECTURES[arch].probe, checkpoint.model
    inputs = for_jax(probe.draw(checkpoint.settings, Draw(draws.seed(0))), "float32")

    def run(variables: Any) -> Any:
        return probe.outputs(checkpoint.settings, lambda method, *args: model.apply(variables, *args, method=method), inputs)

    return run, jax.tree.map(single, checkpoint.variables)


def layer_call(layer: Any, manifold: Any, shapes: Any) -> tuple[Callable[..., Any], Any, list[jax.Array]]:
    """A layer as a function of its variables and its points, and those; a layer without points takes two indices."""
    points = [manifold.projx(jnp.full((*s[:-1], s[-1] + manifold.ambient), 0.1, jnp.float32)) for s in shapes]
    inputs = points or [jnp.array([0, 2])]
    made = jax.eval_shape(lambda: layer.init(draws.key(0), manifold, *inputs))  # float64 where flax asks for JAX's type
    variables = jax.tree.map(lambda a: jnp.ones(a.shape, jnp.float32), made)
    return (lambda v, *x: layer.apply(v, manifold, *(x or inputs))), variables, points


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
