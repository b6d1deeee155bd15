"""Segment operations and sparse products, torch beside JAX: `python -m benchmarks graphs [--quick]`.

The torch side is what a geoopt user's attention layer runs: index_select, scatter_reduce and index_add over edges in an
order of their own. Forward, and forward with the vector-Jacobian product, in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks.powerlaw import powerlaw_edges
from benchmarks.timing import interleaved
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


def rows(quick: bool = False) -> Iterator[dict[str, Any]]:
    """One row per operation, direction and graph; `quick` leaves out the large graph."""
    for name, (nodes, edges) in list(SIZES.items())[: 1 if quick else None]:
        case = _Case(nodes, edges)
        for work, (original, port, kinds) in OPERATIONS.items():
            for backward in (False, True):
                torch_run, jax_run = case.pair(original, port, kinds, backward)
                times = interleaved({"torch": torch_run, "jax": jax_run}, repeats=21 if nodes < 10_000 else 7)
                yield {
                    "work": f"{work}, {'forward + backward' if backward else 'forward'}, {name}",
                    "torch": times["torch"]._asdict(),
                    "jax": times["jax"]._asdict(),
                    "ratio": times["torch"].median / times["jax"].median,
                }


class _Case:
    """A graph with random arguments of each kind on it."""

    def __init__(self, nodes: int, edges: int):
        senders, receivers = powerlaw_edges(nodes, edges)
        self.graph = Graph.from_edges(senders, receivers, num_nodes=nodes)
        self.index = torch.tensor(senders).long(), torch.tensor(receivers).long(), nodes
        rng = np.random.default_rng(0)
        shapes = {"edge": (edges, HEADS), "score": (nodes, HEADS), "node": (nodes, HEADS, WIDTH)}
        self.arrays = {kind: rng.standard_normal((2, *shape), dtype=np.float32) for kind, shape in shapes.items()}

    def pair(
        self, original: Callable[..., Any], port: Callable[..., Any], kinds: tuple[str, ...], backward: bool
    ) -> tuple[Callable[[], Any], Callable[[], Any]]:
        """The same work on both sides, on the same numbers."""
        arrays = [self.arrays[kind][kinds[:i].count(kind)] for i, kind in enumerate(kinds)]
        xs = [torch.tensor(a, requires_grad=backward) for a in arrays]
        cotangent = torch.randn(original(*xs, self.index).shape)

        def torch_run() -> Any:
            out = original(*xs, self.index)
            return torch.autograd.grad(out, xs, cotangent) if backward else out

        def pulled(args: list[Any], graph: Graph, cotangent: Any) -> Any:
            out, pullback = jax.vjp(lambda args: port(*args, graph), args)
            return out, pullback(cotangent)

        call = jax.jit(pulled if backward else lambda args, graph, _: port(*args, graph))
        inputs = [jnp.asarray(a) for a in arrays], self.graph, jnp.asarray(cotangent.numpy())
        return torch_run, lambda: jax.block_until_ready(call(*inputs))


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
