"""Attention weights: the softmax over the incoming edges of each node."""

from __future__ import annotations

from typing import overload

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from port_jax.arguments import takes
from port_jax.checks import as_array, as_numbers
from port_jax.graphs.edges import GraphError
from port_jax.graphs.graph import Graph
from port_jax.graphs.halo import locally
from port_jax.graphs.rows import widened
from port_jax.graphs.segment import GRAPH, gather_receivers, largest, segment_sum

__all__ = ["segment_softmax"]


@overload
def segment_softmax(
    logits: Float[Array, "E *H"], graph: Graph, *, self_logits: None = None, mask: Bool[Array, " E"] | None = None
) -> Float[Array, "E *H"]: ...


@overload
def segment_softmax(
    logits: Float[Array, "E *H"],
    graph: Graph,
    *,
    self_logits: Float[Array, "N *H"],
    mask: Bool[Array, " E"] | None = None,
) -> tuple[Float[Array, "E *H"], Float[Array, "N *H"]]: ...


@takes(graph=GRAPH)
def segment_softmax(
    logits: Float[Array, "E *H"],
    graph: Graph,
    *,
    self_logits: Float[Array, "N *H"] | None = None,
    mask: Bool[Array, " E"] | None = None,
) -> Float[Array, "E *H"] | tuple[Float[Array, "E *H"], Float[Array, "N *H"]]:
    """alpha_e = exp(l_e) / (sum over the edges e' into the same node of exp(l_e') + exp(self_i)).

    `self_logits` adds one more edge from each node to itself without changing the graph; the result is then
    (alpha on edges, alpha on these loops). `mask` keeps the edges where it is True; the others get alpha = 0 and no
    derivative. To replace the loops of the graph: `segment_softmax(l, g, self_logits=s, mask=~g.loop_mask)`.

    The logits are shifted by the largest one of each node, so that none overflows. Half precision is computed in float32. A logit of -inf
    has weight 0. Derivatives are finite at nodes without edges, too.
    """
    logits = as_numbers("logits", logits)
    if logits.ndim not in (1, 2) or logits.shape[0] != graph.num_edges:
        raise GraphError(f"logits has shape {logits.shape}: pass [E] or [E, H] with E = {graph.num_edges}")
    if self_logits is not None:
        self_logits = as_numbers("self_logits", self_logits)
        if self_logits.shape != (graph.num_nodes, *logits.shape[1:]):
            raise GraphError(f"self_logits has shape {self_logits.shape}: pass {(graph.num_nodes, *logits.shape[1:])}")
        dtype = jnp.result_type(logits, self_logits)
        logits, self_logits = logits.astype(dtype), self_logits.astype(dtype)
    if mask is not None:
        mask = as_array("mask", mask)
        if mask.shape != (graph.num_edges,) or mask.dtype != bool:
            raise GraphError(f"mask has shape {mask.shape}, dtype {mask.dtype}: pass bool [{graph.num_edges}], True to keep")
        logits = jnp.where(mask.reshape(-1, *[1] * (logits.ndim - 1)), logits, -jnp.inf)
    one_head = logits.ndim == 1
    if one_head:
        logits = logits[:, None]
        self_logits = None if self_logits is None else self_logits[:, None]
    kept = logits.dtype
    logits, self_logits = widened(logits), None if self_logits is None else widened(self_logits)
    alpha, alone = _softmax(logits, self_logits, graph)
    alpha, alone = alpha.astype(kept), None if alone is None else alone.astype(kept)
    if one_head:
        alpha, alone = alpha[:, 0], None if alone is None else alone[:, 0]
    return alpha if alone is None else (alpha, alone)


@jax.custom_jvp
def _softmax(logits: Array, self_logits: Array | None, graph: Graph) -> tuple[Array, Array | None]:
    top = locally(largest, graph, logits)
    if self_logits is not None:
        top = jnp.maximum(top, self_logits)
    top = jnp.where(jnp.isfinite(top), top, 0)
    raised = jnp.exp(logits - gather_receivers(top, graph))
    total = segment_sum(raised, graph)
    if self_logits is None:
        scale = 1 / jnp.where(total > 0, total, 1)
        return raised * gather_receivers(scale, graph), None
    alone = jnp.exp(self_logits - top)
    scale = 1 / (total + alone)
    return raised * gather_receivers(scale, graph), alone * scale


@_softmax.defjvp
def _(primals, tangents):
    """d alpha_e = alpha_e (dl_e - sum_e' alpha_e' dl_e'), where the e' include the loop."""
    graph = primals[2]
    alpha, alone = _softmax(*primals)
    moved = alpha * tangents[0]
    mean = segment_sum(moved, graph)
    if alone is None:
        return (alpha, None), (moved - alpha * gather_receivers(mean, graph), None)
    moved_alone = alone * tangents[1]
    mean = mean + moved_alone
    return (alpha, alone), (moved - alpha * gather_receivers(mean, graph), moved_alone - alone * mean)
