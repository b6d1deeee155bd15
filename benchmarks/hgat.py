"""HGAT training steps (forward, backward, RiemannianAdam), torch eager beside JAX: `python -m benchmarks hgat [--quick]`.

Two layers, four heads of 16, preset htgn on the ball with learnable curvature; cross entropy on all nodes; float32; parameters and
optimizer state donated. The torch side is `reference_torch.models.hgat.HGAT` under geoopt's RiemannianAdam.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from geoopt.optim import RiemannianAdam

from benchmarks.graphs import SIZES
from benchmarks.powerlaw import powerlaw_edges
from benchmarks.timing import interleaved
from port_jax.graphs import Graph
from port_jax.losses import cross_entropy
from port_jax.models import HGAT
from port_jax.optim import riemannian_adam
from reference_torch.graphs.graph import Graph as TorchGraph
from reference_torch.models.hgat import HGAT as TorchHGAT

CLASSES, WIDTH = 8, 32
CONFIG: dict[str, Any] = {"in_features": WIDTH, "features": (16, 16), "heads": 4, "preset": "htgn", "num_classes": CLASSES,
                          "classifier": "hyperplanes", "learnable_curvature": True}  # fmt: skip
GOALS = {"airport-sized": 5.0, "power-law, 1.3 M edges": 4.0}


def rows(quick: bool = False) -> Iterator[dict[str, Any]]:
    """One row per graph; `quick` leaves out the large one."""
    for name, (nodes, edges) in list(SIZES.items())[: 1 if quick else None]:
        senders, receivers = powerlaw_edges(nodes, edges)
        rng = np.random.default_rng(0)
        x = 0.1 * rng.standard_normal((nodes, WIDTH), dtype=np.float32)
        labels = rng.integers(0, CLASSES, nodes)
        graph = Graph.from_edges(senders, receivers, num_nodes=nodes)
        fns = {"torch": torch_step(graph, x, labels), "jax": jax_step(graph, x, labels)}
        times = interleaved(fns, repeats=15 if nodes < 10_000 else 5)
        eager, port = times["torch"], times["jax"]
        yield {
            "work": f"HGAT training step, {name}",
            "torch_ms": 1e3 * eager.median,
            "jax_ms": 1e3 * port.median,
            "ratio": eager.median / port.median,
            "ratio_low": eager.low / port.high,
            "ratio_high": eager.high / port.low,
            "goal": GOALS[name],
            "first_call_s": port.first,
        }


def torch_step(graph: Graph, x: np.ndarray, labels: np.ndarray) -> Callable[[], Any]:
    """One eager step, in place."""
    torch.manual_seed(0)
    model, theirs = TorchHGAT(**CONFIG), TorchGraph.from_arrays(graph)
    optimizer = RiemannianAdam(model.parameters(), lr=1e-2)
    features, targets = torch.as_tensor(x), torch.as_tensor(labels)

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(features, theirs), targets).backward()
        optimizer.step()

    return step


def jax_step(graph: Graph, x: np.ndarray, labels: np.ndarray) -> Callable[[], Any]:
    """One compiled step; the carry is kept between calls and donated."""
    model = HGAT(**CONFIG)
    optimizer = riemannian_adam(1e-2, manifolds=model.manifolds)
    features, targets = jnp.asarray(x), jnp.asarray(labels)
    params = jax.jit(lambda key: model.init(key, features, graph)["params"])(jax.random.key(0))
    carry = [(params, optimizer.init(params))]

    def loss(params: Any, graph: Graph) -> jax.Array:
        logits: Any = model.apply({"params": params}, features, graph)
        return cross_entropy(logits, targets)

    def advance(carry: Any, graph: Graph) -> Any:
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params, graph), state, params)
        return optax.apply_updates(params, updates), state

    compiled = jax.jit(advance, donate_argnums=0)

    def step() -> None:
        carry[0] = jax.block_until_ready(compiled(carry[0], graph))

    return step
