"""A run of the accuracy table in JAX, which imports nothing of torch."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import port_jax.models as models
from benchmarks.accuracy_problems import POOL, Problem, Settings, config, metric
from port_jax.graphs import Graph
from port_jax.losses import binary_cross_entropy, cross_entropy
from port_jax.optim import riemannian_adam
from port_jax.training import fit, gradient_step, train_state


def train(model_name: str, given: Problem, settings: Settings, seed: int, steps: int, every: int) -> float:
    """Runs one training and returns the test score at the best validation score."""
    model: Any = getattr(models, model_name)(**config(model_name, given, settings))
    x, labels = jnp.asarray(given.x), None if given.labels is None else jnp.asarray(given.labels)
    graph = Graph.from_edges(given.graph.senders, given.graph.receivers, num_nodes=given.graph.num_nodes, weights=given.graph.weights)
    false, train = None if given.false is None else jnp.asarray(given.false), jnp.asarray(given.train)
    params = jax.jit(lambda key: model.init(key, x, graph)["params"])(jax.random.key(seed))

    def loss(params: Any, batch: Any, key: Any) -> jax.Array:
        x, graph, far = batch
        apply = partial(model.apply, {"params": params})
        keys = {"dropout": jax.random.fold_in(key, 0)}
        if labels is not None:
            logits = apply(x, graph, deterministic=False, rngs=keys)
            return cross_entropy(logits[train], labels[train])
        h = apply(x, graph, method="encode", deterministic=False, rngs=keys)
        near, other = apply(h, train, method="score"), apply(h, far, method="score")
        if model_name == "HyboNet":
            return -jnp.mean(jax.nn.log_sigmoid(near)) - jnp.mean(jax.nn.log_sigmoid(-other))
        return binary_cross_entropy(near, 1.0) + binary_cross_entropy(other, 0.0)

    decayed = jax.tree_util.tree_map_with_path(lambda path, _: not settings.matrices_only or path[-1].key == "kernel", params)
    decay = optax.add_decayed_weights(settings.weight_decay, decayed)
    clip = optax.clip_by_global_norm(settings.clip) if settings.clip else optax.identity()
    tx = optax.chain(clip, decay, riemannian_adam(settings.lr, stabilize=10, manifolds=model.manifolds))
    advance = gradient_step(loss, tx)

    def step(state: Any, batch: Any) -> Any:
        x, graph, false = batch
        return advance(state, (x, graph, None if false is None else false[state.step % POOL]))

    encode = jax.jit(lambda params, x, graph: model.apply({"params": params}, x, graph, method="encode"))
    score = jax.jit(lambda params, h, pairs: model.apply({"params": params}, h, pairs, method="score"))
    predict = jax.jit(lambda params, x, graph: model.apply({"params": params}, x, graph))

    def evaluate(params: Any, part: str = "val") -> float:
        if given.task == "nc":
            return metric(given, part, None, np.asarray(predict(params, x, graph)))
        h = encode(params, x, graph)
        return metric(given, part, lambda pairs: score(params, h, jnp.asarray(pairs)), None)

    done = fit(step, train_state(params, tx, jax.random.key(seed + 1000)), steps=steps, batch=(x, graph, false), chunk=every, every=every,
               evaluate=lambda params: {"val": evaluate(params)}, monitor="val", patience=settings.patience // every,
               progress=False)  # fmt: skip
    return evaluate(done.best, "test")
