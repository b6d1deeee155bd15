"""Inner products of rows, one by one and several in one sweep, and rows shortened by theirs.

One `lax.reduce` of several operands reads a table once for all of them, whereas XLA on CPU makes one sweep for each sum. JAX cannot
differentiate such a reduction everywhere (inside a scan some operands have no tangent), hence a primitive with its own derivative.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

__all__ = ["dot", "inner_products", "shortening"]

Rows = Float[Array, "*batch d"]
Number = Float[Array, "*batch 1"]


def dot(x: Rows, y: Rows) -> Number:
    """Euclidean inner product over the last axis, kept with length 1."""
    return jnp.sum(x * y, axis=-1, keepdims=True)


def shortening(x: Rows, most: Number | Array) -> Number:
    """The r <= 1 with |r x|² <= most; a row whose square overflows gets 0, and NaN stays NaN."""
    square = dot(x, x)
    beyond = ~(square <= most)
    return jnp.sqrt(jnp.where(beyond, most, 1) / jnp.where(beyond, square, 1))


def inner_products(*factors: Rows) -> tuple[Number, ...]:
    """<a, b>, <c, d>, ... of rows a, b, c, d, ..., which broadcast against each other, kept with length 1."""
    sums = _inner_products_p.bind(*jnp.broadcast_arrays(*factors))
    return tuple(jnp.expand_dims(s, -1) for s in sums)


def _compute(*factors: Array) -> list[Array]:
    products = [a * b for a, b in zip(factors[::2], factors[1::2], strict=True)]
    zeros = [jnp.zeros((), p.dtype) for p in products]
    add = lambda a, b: [i + j for i, j in zip(a, b, strict=True)]  # noqa: E731
    return list(jax.lax.reduce(products, zeros, add, (products[0].ndim - 1,)))


def _abstract(*factors: Any) -> list[ShapedArray]:
    return [ShapedArray(a.shape[:-1], a.dtype) for a in factors[::2]]


def _jvp(primals: Any, tangents: Any) -> tuple[list[Array], list[Array]]:
    sums, changes = _inner_products_p.bind(*primals), []
    for i, total in enumerate(sums):
        change = jnp.zeros_like(total)
        for here, there in ((2 * i, 2 * i + 1), (2 * i + 1, 2 * i)):
            if not isinstance(tangents[here], ad.Zero):
                change = change + jnp.sum(tangents[here] * primals[there], -1)
        changes.append(change)
    return sums, changes


def _batch(factors: Any, axes: Any) -> tuple[list[Array], list[int]]:
    size = next(a.shape[axis] for a, axis in zip(factors, axes, strict=True) if axis is not None)
    moved = [
        jnp.broadcast_to(a, (size, *a.shape)) if axis is None else jnp.moveaxis(a, axis, 0) for a, axis in zip(factors, axes, strict=True)
    ]
    sums = _inner_products_p.bind(*moved)
    return sums, [0] * len(sums)


_inner_products_p = Primitive("inner_products")
_inner_products_p.multiple_results = True
_inner_products_p.def_impl(jax.jit(_compute))
_inner_products_p.def_abstract_eval(_abstract)
mlir.register_lowering(_inner_products_p, mlir.lower_fun(_compute, multiple_results=True))
ad.primitive_jvps[_inner_products_p] = _jvp
batching.primitive_batchers[_inner_products_p] = _batch
