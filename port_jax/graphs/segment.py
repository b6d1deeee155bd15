"""Operations between the nodes and the edges of a graph. Edge values are in the graph's order, by receiver."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from port_jax.arguments import instance, takes
from port_jax.checks import as_array, as_numbers
from port_jax.graphs import products
from port_jax.graphs.edges import GraphError
from port_jax.graphs.graph import Graph
from port_jax.graphs.halo import extended, locally

__all__ = ["aggregate", "edge_dot", "gather_receivers", "gather_senders", "largest", "segment_max", "segment_sum"]

GRAPH = instance("a Graph: Graph.from_edges(senders, receivers, num_nodes=n), for example", Graph)


@takes(graph=GRAPH)
def segment_sum(values: Float[Array, "E ..."], graph: Graph) -> Float[Array, "N ..."]:
    """The sum over the incoming edges of each node; 0 for a node without incoming edges."""
    x = _checked(values, "values", "edge", graph.num_edges)
    return locally(_sum, graph, _flat(x)).reshape(graph.num_nodes, *x.shape[1:])


@takes(graph=GRAPH)
def gather_receivers(x: Float[Array, "N ..."], graph: Graph) -> Float[Array, "E ..."]:
    """x at the receiver of each edge. Its derivative is a segment sum over incoming edges."""
    x = _checked(x, "x", "node", graph.num_nodes, integers=True)
    return locally(_at_receivers, graph, _flat(x)).reshape(graph.num_edges, *x.shape[1:])


@takes(graph=GRAPH)
def gather_senders(x: Float[Array, "N ..."], graph: Graph) -> Float[Array, "E ..."]:
    """x at the sender of each edge. Its derivative is a segment sum over outgoing edges."""
    x = _checked(x, "x", "node", graph.num_nodes, integers=True)
    return locally(_at_senders, graph, _flat(x)).reshape(graph.num_edges, *x.shape[1:])


@takes(graph=GRAPH)
def segment_max(values: Float[Array, "E ..."], graph: Graph, empty: float = -jnp.inf) -> Float[Array, "N ..."]:
    """The largest value over the incoming edges of each node; `empty` if there are none, or none has a value above -inf.

    Values that tie for the largest share the derivative equally, as in torch's `scatter_reduce(..., "amax")`.
    """
    x = _checked(values, "values", "edge", graph.num_edges)
    alone = as_numbers("empty", empty)
    if alone.ndim:
        raise GraphError(f"empty has shape {alone.shape}: pass one number")
    top = _segment_max(_flat(x), graph)
    return jnp.where(top == -jnp.inf, alone.astype(top.dtype), top).reshape(graph.num_nodes, *x.shape[1:])


@jax.custom_jvp
def _segment_max(x: Array, graph: Graph) -> Array:
    return locally(largest, graph, x)


@_segment_max.defjvp
def _(primals, tangents):
    (x, graph), dx = primals, tangents[0]
    top = _segment_max(x, graph)
    at_top = (x == gather_receivers(top, graph)).astype(x.dtype)
    count = jnp.maximum(segment_sum(at_top, graph), 1)
    return top, segment_sum(at_top * dx, graph) / count


@takes(graph=GRAPH)
def aggregate(
    coefficients: Float[Array, " E"] | Float[Array, "E H"],
    values: Float[Array, "N C"] | Float[Array, "N H C"],
    graph: Graph,
) -> Float[Array, "N C"] | Float[Array, "N H C"]:
    """out_i = sum over edges e: j -> i of coefficient_e values_j; [E] goes with [N, C], and [E, H] with [N, H, C]."""
    a = _checked(coefficients, "coefficients", "edge", graph.num_edges)
    v = _checked(values, "values", "node", graph.num_nodes)
    if v.ndim != a.ndim + 1 or a.ndim not in (1, 2) or v.shape[1:-1] != a.shape[1:]:
        raise GraphError(f"coefficients has shape {a.shape} and values {v.shape}: pass [E] with [N, C], or [E, H] with [N, H, C]")
    a, v = _same_dtype(a, v)
    if a.ndim == 1:
        return locally(_product, graph, a[:, None], v[:, None])[:, 0]
    return locally(_product, graph, a, v)


@takes(graph=GRAPH)
def edge_dot(at_receivers: Float[Array, "N *H C"], at_senders: Float[Array, "N *H C"], graph: Graph) -> Float[Array, "E *H"]:
    """<at_receivers_i, at_senders_j> over the last axis for each edge j -> i, without an array of rows of length C over the edges."""
    g = _checked(at_receivers, "at_receivers", "node", graph.num_nodes)
    v = _checked(at_senders, "at_senders", "node", graph.num_nodes)
    if g.shape != v.shape or g.ndim not in (2, 3):
        raise GraphError(f"at_receivers has shape {g.shape} and at_senders {v.shape}: pass [N, C] or [N, H, C] twice")
    g, v = _same_dtype(g, v)
    if g.ndim == 2:
        return locally(_dot, graph, g[:, None], v[:, None])[:, 0]
    return locally(_dot, graph, g, v)


# The same on one device, with its part of the graph. Only values of senders come from others.


def _sum(graph: Graph, x: Array) -> Array:
    return products.row_sum(x, graph.incoming, graph.outgoing)


def _at_receivers(graph: Graph, x: Array) -> Array:
    return products.row_gather(x, graph.incoming, graph.outgoing)


def _at_senders(graph: Graph, x: Array) -> Array:
    return products.row_gather(extended(x, graph), graph.outgoing, graph.incoming)


def largest(graph: Graph, x: Float[Array, "E F"]) -> Float[Array, "N F"]:
    """The largest of the values over the incoming edges, -inf where there are none; not differentiable. For `locally`."""
    return products.row_max(x, graph.incoming)


def _product(graph: Graph, a: Array, v: Array) -> Array:
    return products.row_product(a, extended(v, graph), graph.incoming, graph.outgoing)


def _dot(graph: Graph, g: Array, v: Array) -> Array:
    return products.edge_dot(g, extended(v, graph), graph.incoming, graph.outgoing)


def _checked(values: ArrayLike, name: str, kind: str, count: int, integers: bool = False) -> Array:
    """The values as numbers, one row for each edge or node; integers stay such only where nothing is computed with them."""
    x = as_array(name, values) if integers else as_numbers(name, values)
    if x.ndim == 0 or x.shape[0] != count:
        raise GraphError(f"{name} has shape {x.shape}: the graph has {count} {kind}s, one row each")
    return x


def _flat(x: Array) -> Array:
    return x.reshape(x.shape[0], -1) if x.size else x.reshape(x.shape[0], _width(x))


def _width(x: Array) -> int:
    width = 1
    for n in x.shape[1:]:
        width *= n
    return width


def _same_dtype(a: Array, b: Array) -> tuple[Array, Array]:
    dtype = jnp.result_type(a, b)
    return a.astype(dtype), b.astype(dtype)
