"""Segment operations and sparse products, torch beside JAX: `python -m benchmarks.graphs [--quick]`.

The torch side is what a geoopt user's attention layer runs: index_select, scatter_reduce and index_add over edges in an
order of their own. Forward, and forward with the vector-Jacobian product, float32, two threads each, runs interleaved.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks.powerlaw import powerlaw_edges
from port_jax.graphs import Graph, aggregate, edge_dot, gather_receivers, gather_senders, segment_softmax, segment_sum

HEADS, WIDTH = 4, 16
SIZES = {"airport-sized": (3_188, 40_448), "power-law": (169_343, 1_335_586)}


class Row(NamedTuple):
    """One line of the table: milliseconds are medians, the ratio is the median of those of neighbouring runs."""

    work: str
    graph: str
    torch_ms: float
    jax_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float
    first_call_s: float


def rows(quick: bool = False) -> list[Row]:
    """All operations on both graphs; `quick` leaves out the large one."""
    table = []
    for name, (nodes, edges) in SIZES.items():
        if quick and name == "power-law":
            continue
        case = _Case(nodes, edges)
        for work, (original, port, kinds) in OPERATIONS.items():
            for backward in (False, True):
                label = f"{work}, {'forward + backward' if backward else 'forward'}"
                table.append(
                    Row(label, name, *case.compare(original, port, kinds, backward, 21 if nodes < 10_000 else 7))
                )
    return table


class _Case:
    """A graph with random arguments of each kind on it."""

    def __init__(self, nodes: int, edges: int):
        senders, receivers = powerlaw_edges(nodes, edges)
        self.graph = Graph.from_edges(senders, receivers, num_nodes=nodes)
        self.index = torch.tensor(senders).long(), torch.tensor(receivers).long(), nodes
        rng = np.random.default_rng(0)
        shapes = {"edge": (edges, HEADS), "score": (nodes, HEADS), "node": (nodes, HEADS, WIDTH)}
        self.arrays = {kind: rng.standard_normal((2, *shape), dtype=np.float32) for kind, shape in shapes.items()}

    def compare(
        self,
        original: Callable[..., Any],
        port: Callable[..., Any],
        kinds: tuple[str, ...],
        backward: bool,
        repeats: int,
    ) -> tuple[float, ...]:
        arrays = [self.arrays[kind][kinds[:i].count(kind)] for i, kind in enumerate(kinds)]
        xs = [torch.tensor(a, requires_grad=backward) for a in arrays]
        cotangent = torch.randn(original(*xs, self.index).shape)

        def run_torch() -> Any:
            out = original(*xs, self.index)
            return torch.autograd.grad(out, xs, cotangent) if backward else out

        def pulled(args: list[Any], graph: Graph, cotangent: Any) -> Any:
            out, pullback = jax.vjp(lambda args: port(*args, graph), args)
            return out, pullback(cotangent)

        call = jax.jit(pulled if backward else lambda args, graph, _: port(*args, graph))
        inputs = [jnp.asarray(a) for a in arrays], self.graph, jnp.asarray(cotangent.numpy())
        start = time.perf_counter()
        jax.block_until_ready(call(*inputs))
        first = time.perf_counter() - start
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            run_torch()
            middle = time.perf_counter()
            jax.block_until_ready(call(*inputs))
            times.append((1e3 * (middle - start), 1e3 * (time.perf_counter() - middle)))
        theirs, ours = np.array(times).T
        low, ratio, high = np.percentile(theirs / ours, [25, 50, 75])
        return float(np.median(theirs)), float(np.median(ours)), float(ratio), float(low), float(high), first


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


def main() -> None:
    torch.set_num_threads(2)
    print(f"{'work':52}{'graph':15}{'torch ms':>9}{'jax ms':>9}{'ratio':>7}  (quartiles)    first call s")
    for row in rows("--quick" in sys.argv):
        spread = f"({row.ratio_low:.1f} .. {row.ratio_high:.1f})"
        times = f"{row.torch_ms:9.2f}{row.jax_ms:9.2f}{row.ratio:7.1f}"
        print(f"{row.work:52}{row.graph:15}{times}  {spread:16}{row.first_call_s:5.1f}")


if __name__ == "__main__":
    main()
