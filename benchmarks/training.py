"""One full-batch training step of a graph model on both sides: forward pass, backward pass, RiemannianAdam."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from port_jax.graphs import Graph
from port_jax.losses import binary_cross_entropy, cross_entropy
from port_jax.optim import riemannian_adam
from reference_torch.graphs.graph import Graph as TorchGraph

RATE = 1e-2


class Problem(NamedTuple):
    """A graph as edges and features [N, f], with the label of each node or, for link prediction, with pairs [P, 2].

    The first half of the pairs are links.
    """

    senders: np.ndarray
    receivers: np.ndarray
    weights: np.ndarray | None
    features: np.ndarray
    labels: np.ndarray | None = None
    pairs: np.ndarray | None = None


def torch_graph(problem: Problem) -> TorchGraph:
    """The graph with its edges sorted by receiver, the order in which torch gathers and sums them fastest."""
    order = np.argsort(problem.receivers, kind="stable")
    weights = None if problem.weights is None else torch.from_numpy(problem.weights[order])
    senders, receivers = (torch.from_numpy(e[order].astype(np.int64)) for e in (problem.senders, problem.receivers))
    return TorchGraph(senders, receivers, len(problem.features), weights)


def torch_step(model: Any, problem: Problem, graph: Any = None, compiled: bool = False) -> Callable[[], None]:
    """One step with geoopt's RiemannianAdam, in place. `graph` replaces the graph of the problem if the model takes another form of it.

    `compiled` compiles the loss and its derivative by torch.compile; the optimizer remains eager.
    """
    torch.manual_seed(0)
    optimizer = geoopt.optim.RiemannianAdam(model.parameters(), lr=RATE)
    graph, features = torch_graph(problem) if graph is None else graph, torch.from_numpy(problem.features)

    if problem.pairs is None:
        labels = torch.from_numpy(np.asarray(problem.labels, np.int64))

        def loss() -> torch.Tensor:
            return torch.nn.functional.cross_entropy(model(features, graph), labels)
    else:
        pairs = torch.from_numpy(problem.pairs.astype(np.int64))
        links = (torch.arange(len(pairs)) < len(pairs) // 2).float()

        def loss() -> torch.Tensor:
            scores = model.score(model.encode(features, graph), pairs)
            return torch.nn.functional.binary_cross_entropy(scores, links)

    return torch_training(loss, optimizer, compiled)


def torch_training(loss: Callable[[], torch.Tensor], optimizer: Any, compiled: bool) -> Callable[[], None]:
    """A step that descends on a loss, in place."""
    if compiled:
        loss = torch.compile(loss, dynamic=False)

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return step


def jax_step(model: Any, problem: Problem) -> Callable[[], None]:
    """One compiled step with RiemannianAdam."""
    graph = Graph.from_edges(problem.senders, problem.receivers, num_nodes=len(problem.features), weights=problem.weights)
    optimizer = riemannian_adam(RATE, manifolds=model.manifolds)
    features = jnp.asarray(problem.features)
    targets = jnp.asarray(problem.labels if problem.pairs is None else problem.pairs)

    def loss(params: Any, features: Any, graph: Graph, targets: Any) -> jax.Array:
        if problem.pairs is None:
            return cross_entropy(model.apply({"params": params}, features, graph), targets)
        h = model.apply({"params": params}, features, graph, method="encode")
        links, others = jnp.split(model.apply({"params": params}, h, targets, method="score"), 2)
        return (binary_cross_entropy(links, 1) + binary_cross_entropy(others, 0)) / 2

    params = jax.jit(lambda key: model.init(key, features, graph)["params"])(jax.random.key(0))
    return jax_training(params, loss, optimizer, features, graph, targets)


def jax_training(params: Any, loss: Callable[..., jax.Array], optimizer: Any, *data: Any) -> Callable[[], None]:
    """A compiled step that descends on loss(params, *data); parameters and optimizer state are kept between calls and donated."""

    def advance(carry: Any, *data: Any) -> Any:
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params, *data), state, params)
        return optax.apply_updates(params, updates), state

    carry = [(params, optimizer.init(params))]
    compiled = jax.jit(advance, donate_argnums=0)

    def step() -> None:
        carry[0] = jax.block_until_ready(compiled(carry[0], *data))

    return step
