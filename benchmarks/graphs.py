"""Segment operations and sparse products in torch and in JAX: `python -m benchmarks graphs [--quick]`.

The torch side does what the attention layer of a geoopt user does: index_select, scatter_reduce and index_add over edges in random
order. Each operation is timed forward, and forward with its vector-Jacobian product, in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks.case import Case, Side
from benchmarks.powerlaw import powerlaw_edges
from port_jax.graphs import (
    Graph,
    aggregate,
    edge_dot,
    gather_receivers,
    gather_senders,
    segment_softmax,
    segment_sum,
)

HEADS, WIDTH = 4, 16
SIZES = {"airport-sized": (3_188, 40_448), "power-law, 1.3 M edges": (169_343, 1_335_586)}


def cases(quick: bool = False) -> Iterator[Case]:
    """One case for each operation, direction and graph; `quick` leaves out the large graph."""
    for name, size in list(SIZES.items())[: 1 if quick else None]:
        for work in OPERATIONS:
            for backward in (False, True):
                args = (work, backward, *size)
                yield Case(f"{work}, {'forward + backward' if backward else 'forward'}, {name}", Side(torch_run, args), Side(jax_run, args))


def arrays(kinds: tuple[str, ...], nodes: int, edges: int) -> list[np.ndarray]:
    """Random arrays of these kinds."""
    rng = np.random.default_rng(0)
    shapes = {"edge": (edges, HEADS), "score": (nodes, HEADS), "node": (nodes, HEADS, WIDTH)}
    return [rng.standard_normal(shapes[kind], dtype=np.float32) for kind in kinds]


def torch_run(work: str, backward: bool, nodes: int, edges: int) -> Callable[[], Any]:
    """The torch side, eager."""
    original, _, kinds = OPERATIONS[work]
    senders, receivers = (torch.from_numpy(end).long() for end in powerlaw_edges(nodes, edges))
    index = senders, receivers, nodes
    xs = [torch.from_numpy(a).requires_grad_(backward) for a in arrays(kinds, nodes, edges)]
    cotangent = torch.randn(original(*xs, index).shape)

    def run() -> Any:
        out = original(*xs, index)
        return torch.autograd.grad(out, xs, cotangent) if backward else out

    return run


def jax_run(work: str, backward: bool, nodes: int, edges: int) -> Callable[[], Any]:
    """The JAX side."""
    _, port, kinds = OPERATIONS[work]
    graph = Graph.from_edges(*powerlaw_edges(nodes, edges), num_nodes=nodes)
    inputs = [jnp.asarray(a) for a in arrays(kinds, nodes, edges)]
    forward = jax.jit(lambda args, graph: port(*args, graph))
    cotangent = jax.random.normal(jax.random.key(0), jax.eval_shape(forward, inputs, graph).shape)

    @jax.jit
    def pulled(args: list[Any], graph: Graph, cotangent: Any) -> Any:
        out, pullback = jax.vjp(lambda args: port(*args, graph), args)
        return out, pullback(cotangent)

    return lambda: jax.block_until_ready(pulled(inputs, graph, cotangent) if backward else forward(inputs, graph))


Index = tuple[torch.Tensor, torch.Tensor, int]


def _torch_sum(x: torch.Tensor, index: Index) -> torch.Tensor:
    return x.new_zeros(index[2], *x.shape[1:]).index_add(0, index[1], x)


def _torch_aggregate(a: torch.Tensor, v: torch.Tensor, index: Index) -> torch.Tensor:
    return _torch_sum(a[..., None] * v[index[0]], index)


def _torch_dot(x: torch.Tensor, y: torch.Tensor, index: Index) -> torch.Tensor:
    return (x[index[1]] * y[index[0]]).sum(-1)


def _torch_softmax(logits: torch.Tensor, index: Index) -> torch.Tensor:
    at = index[1][:, None].expand_as(logits)
    top = logits.new_zeros(index[2], logits.shape[1])
    top = top.scatter_reduce(0, at, logits.detach(), "amax", include_self=False)
    raised = torch.exp(logits - top[index[1]])
    return raised / _torch_sum(raised, index)[index[1]]


def _torch_attention(s: torch.Tensor, t: torch.Tensor, v: torch.Tensor, index: Index) -> torch.Tensor:
    logits = torch.nn.functional.leaky_relu(s[index[1]] + t[index[0]], 0.2)
    return _torch_aggregate(_torch_softmax(logits, index), v, index)


def _attention(s: jax.Array, t: jax.Array, v: jax.Array, graph: Graph) -> jax.Array:
    logits = jax.nn.leaky_relu(gather_receivers(s, graph) + gather_senders(t, graph), 0.2)
    return aggregate(segment_softmax(logits, graph), v, graph)


OPERATIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any], tuple[str, ...]]] = {
    "segment_sum [E, 4]": (_torch_sum, segment_sum, ("edge",)),
    "segment_softmax [E, 4]": (_torch_softmax, segment_softmax, ("edge",)),
    "gather_senders [N, 4]": (lambda x, index: x[index[0]], gather_senders, ("score",)),
    "edge_dot [N, 4, 16]": (_torch_dot, edge_dot, ("node", "node")),
    "aggregate [E, 4] x [N, 4, 16]": (_torch_aggregate, aggregate, ("edge", "node")),
    "graph attention, 4 heads of 16": (_torch_attention, _attention, ("score", "score", "node")),
}
