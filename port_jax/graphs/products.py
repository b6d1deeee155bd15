"""Sums over a node's edges, gathers onto edges, and two sparse products: primitives that are each other's derivatives.

    row_sum(x)_i          = sum_{e at i} x_e                 transpose: row_gather
    row_gather(x)_e       = x_{i(e)}                         transpose: row_sum
    row_product(a, v)_i   = sum_{e at i} a_e v_{j(e)}        transposes: edge_dot, row_product with rows and dual exchanged
    edge_dot(g, v)_e      = <g_{i(e)}, v_{j(e)}>             transposes: row_product, in either direction

All sums are accumulated in float32 at least, whatever the type of the terms, and rounded to that type once.

`rows` gives the direction: i(e) is the node that `rows` is sorted by, j(e) the other end. All are linear in each float
argument, so forward and reverse mode of any order come from the four rules above, and no derivative is a scatter to
random places. Under `vmap` a batch joins the feature or head axis.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

from port_jax.graphs.rows import Block, Rows, take, widened
from port_jax.primitives import bind, result_types

__all__ = ["CHUNK", "edge_dot", "row_gather", "row_max", "row_product", "row_sum"]

CHUNK = 2**19
"""How many numbers an edge product has in memory at a time on CPU: 2 MiB in float32."""


def row_sum(x: Float[Array, "E F"], rows: Rows, dual: Rows) -> Float[Array, "N F"]:
    """Σ xₑ over the edges e at each node."""
    return _bind(_row_sum_p, (x,), rows, dual)


def row_gather(x: Float[Array, "N F"], rows: Rows, dual: Rows) -> Float[Array, "E F"]:
    """The row of x of the node i(e), for each edge e."""
    return _bind(_row_gather_p, (x,), rows, dual)


def row_product(a: Float[Array, "E H"], v: Float[Array, "N H C"], rows: Rows, dual: Rows) -> Float[Array, "N H C"]:
    """Σ aₑ v_{j(e)} over the edges e at each node, for each of H heads."""
    return _bind(_row_product_p, (a, v), rows, dual)


def edge_dot(g: Float[Array, "N H C"], v: Float[Array, "N H C"], rows: Rows, dual: Rows) -> Float[Array, "E H"]:
    """⟨g_{i(e)}, v_{j(e)}⟩ over the last axis, for each edge e and each of H heads."""
    return _bind(_edge_dot_p, (g, v), rows, dual)


def row_max(x: Float[Array, "E F"], rows: Rows) -> Float[Array, "N F"]:
    """The largest x_e over the edges at each node, -inf for a node without edges. Not differentiable."""
    if rows.levels is None:
        in_slots = x if rows.edges is None else take(x, rows.edges)
        return jax.ops.segment_max(in_slots, rows.segments, rows.num_nodes, indices_are_sorted=True)
    return rows.fold(lambda block: block.max(x), Block.max, -jnp.inf)


# What is computed.


def _row_ids(rows: Rows, dual: Rows) -> Array:
    """i(e) for each edge e."""
    return rows.segments if rows.edges is None else dual.columns


def _row_sum(x: Array, rows: Rows, dual: Rows) -> Array:
    if rows.levels is None:
        in_slots = x if rows.edges is None else take(x, rows.edges)
        return jax.ops.segment_sum(widened(in_slots), rows.segments, rows.num_nodes, indices_are_sorted=True).astype(x.dtype)
    return rows.fold(lambda block: block.sum(x), Block.sum, 0).astype(x.dtype)


def _row_gather(x: Array, rows: Rows, dual: Rows) -> Array:
    return take(x, _row_ids(rows, dual))


def _row_product(a: Array, v: Array, rows: Rows, dual: Rows) -> Array:
    if rows.levels is None:
        in_slots = a if rows.edges is None else take(a, rows.edges)
        messages = widened(in_slots)[..., None] * widened(take(v, rows.columns))
        return jax.ops.segment_sum(messages, rows.segments, rows.num_nodes, indices_are_sorted=True).astype(v.dtype)
    return rows.fold(lambda block: block.product(a, v), Block.sum, 0).astype(v.dtype)


def _edge_dot(g: Array, v: Array, rows: Rows, dual: Rows) -> Array:
    """On CPU, XLA reduces a short last axis number by number; a product with a 0-1 matrix, chunk by chunk, does not."""
    ends = _row_ids(rows, dual), _row_ids(dual, rows)
    return jax.lax.platform_dependent(g, v, *ends, cpu=_edge_dot_chunked, default=_edge_dot_fused)


def _edge_dot_fused(g: Array, v: Array, i: Array, j: Array) -> Array:
    return (widened(take(g, i)) * widened(take(v, j))).sum(-1).astype(g.dtype)


def _edge_dot_chunked(g: Array, v: Array, i: Array, j: Array) -> Array:
    (_, heads, width), count = g.shape, i.shape[0]
    if heads * width == 0:
        return jnp.zeros((count, heads), g.dtype)
    chunk = max(1, min(count, CHUNK // (heads * width)))
    g, v = g.reshape(-1, heads * width), v.reshape(-1, heads * width)
    ones = jnp.repeat(jnp.eye(heads, dtype=widened(g[:0]).dtype), width, axis=0)

    def dot(ends: tuple[Array, Array]) -> Array:
        products = widened(take(g, ends[0])) * widened(take(v, ends[1]))
        return jnp.matmul(products, ones, precision=jax.lax.Precision.HIGHEST).astype(g.dtype)

    whole = count // chunk * chunk
    parts = [jax.lax.map(dot, (i[:whole].reshape(-1, chunk), j[:whole].reshape(-1, chunk))).reshape(whole, heads)]
    if whole < count:
        parts.append(dot((i[whole:], j[whole:])))
    return jnp.concatenate(parts)


# How it becomes a primitive.


def _bind(primitive: Primitive, args: tuple[Array, ...], rows: Rows, dual: Rows) -> Array:
    index, tree = jax.tree.flatten((rows, dual))
    return bind(primitive, *args, *index, tree=tree)


def _split(operands: tuple[Any, ...], tree: Any) -> tuple[tuple[Any, ...], Rows, Rows]:
    count = len(operands) - tree.num_leaves
    rows, dual = jax.tree.unflatten(tree, operands[count:])
    return operands[:count], rows, dual


def _primitive(
    name: str,
    compute: Callable[..., Array],
    shape: Callable[..., tuple[int, ...]],
    transposes: Callable[..., list[Any]],
) -> Primitive:
    primitive = Primitive(name)

    def impl(*operands: Any, tree: Any) -> Array:
        args, rows, dual = _split(operands, tree)
        return compute(*args, rows, dual)

    def abstract(*operands: ShapedArray, tree: Any) -> ShapedArray:
        args, rows, _ = _split(operands, tree)
        shapes = lambda *_: [shape(*(x.shape for x in args), rows)]  # noqa: E731
        return result_types(partial(impl, tree=tree), shapes, *operands)[0]

    def jvp(primals: Any, tangents: Any, *, tree: Any) -> tuple[Array, Any]:
        args, rows, dual = _split(primals, tree)
        out = _bind(primitive, args, rows, dual)
        dot = None
        for i in range(len(args)):
            if not isinstance(tangents[i], ad.Zero):
                term = _bind(primitive, (*args[:i], tangents[i], *args[i + 1 :]), rows, dual)
                dot = term if dot is None else dot + term
        return out, jnp.zeros_like(out) if dot is None else dot

    def transpose(ct: Any, *operands: Any, tree: Any) -> list[Any]:
        args, rows, dual = _split(operands, tree)
        cts = [None] * len(args) if isinstance(ct, ad.Zero) else transposes(ct, *args, rows, dual)
        return [*cts, *[None] * tree.num_leaves]

    def batch(operands: Any, axes: Any, *, tree: Any) -> tuple[Array, int]:
        args, rows, dual = _split(operands, tree)
        count = len(args)
        if any(axis is not None for axis in axes[count:]):
            return jax.vmap(lambda *xs: impl(*xs, tree=tree), in_axes=axes)(*operands), 0
        size = next(x.shape[axis] for x, axis in zip(args, axes) if axis is not None)
        folded = [_fold(x, axis, size) for x, axis in zip(args, axes[:count])]
        out = _bind(primitive, tuple(folded), rows, dual)
        return out.reshape(out.shape[0], size, out.shape[1] // size, *out.shape[2:]), 1

    primitive.def_impl(jax.jit(impl, static_argnames="tree"))
    primitive.def_abstract_eval(abstract)
    mlir.register_lowering(primitive, mlir.lower_fun(impl, multiple_results=False))
    ad.primitive_jvps[primitive] = jvp
    ad.primitive_transposes[primitive] = transpose
    batching.primitive_batchers[primitive] = batch
    return primitive


def _fold(x: Array, axis: int | None, size: int) -> Array:
    """x [rows, F, ...] with its batch axis merged into the second axis, [rows, size * F, ...]."""
    x = jnp.broadcast_to(x[:, None], (x.shape[0], size, *x.shape[1:])) if axis is None else jnp.moveaxis(x, axis, 1)
    return x.reshape(x.shape[0], size * x.shape[2], *x.shape[3:])


def _product_transposes(ct: Array, a: Any, v: Any, rows: Rows, dual: Rows) -> list[Any]:
    if ad.is_undefined_primal(a):
        return [edge_dot(ct, v, rows, dual), None]
    return [None, row_product(a, ct, dual, rows)]


def _dot_transposes(ct: Array, g: Any, v: Any, rows: Rows, dual: Rows) -> list[Any]:
    if ad.is_undefined_primal(g):
        return [row_product(ct, v, rows, dual), None]
    return [None, row_product(ct, g, dual, rows)]


_row_sum_p = _primitive(
    "graph_row_sum",
    _row_sum,
    lambda x, rows: (rows.num_nodes, *x[1:]),
    lambda ct, x, rows, dual: [row_gather(ct, rows, dual)],
)
_row_gather_p = _primitive(
    "graph_row_gather",
    _row_gather,
    lambda x, rows: (rows.segments.shape[0], *x[1:]),
    lambda ct, x, rows, dual: [row_sum(ct, rows, dual)],
)
_row_product_p = _primitive("graph_row_product", _row_product, lambda a, v, rows: (rows.num_nodes, *v[1:]), _product_transposes)
_edge_dot_p = _primitive("graph_edge_dot", _edge_dot, lambda g, v, rows: (rows.segments.shape[0], g[1]), _dot_transposes)
