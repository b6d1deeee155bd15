"""Inner products of rows, one by one and several in one sweep, and rows shortened by theirs, also where these overflow.

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
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from port_jax.manifolds import trig
from port_jax.primitives import bind, result_types

__all__ = ["FAR", "bounded", "dot", "far_and_flat", "inner_products", "lengthened", "reduced", "repeated", "shortening"]

Rows = Float[Array, "*batch d"]
Number = Float[Array, "*batch 1"]


def dot(x: Rows, y: Rows) -> Number:
    """Euclidean inner product over the last axis, kept with length 1."""
    return jnp.sum(x * y, axis=-1, keepdims=True)


def repeated(v: Float[Array, "*part d"], shape: tuple[int, ...]) -> Rows:
    """v for all rows of an array of this shape, as `jnp.broadcast_to` has it, but one axis after the other.

    So the derivative, a sum over all rows, is made of short ones. A batch norm behind a bias makes the parts of that sum cancel, and in
    float32 short sums leave more digits of it: without them gradients of Poincaré ResNet miss the gate of its authors' numbers
    (`models/test_poincare_resnet.py`).
    """
    sizes = [1] * (len(shape) - v.ndim) + list(v.shape)
    v = v.reshape(sizes)
    missing = [axis for axis, size in enumerate(sizes[:-1]) if size != shape[axis]]
    for axis in missing:
        sizes[axis] = shape[axis]
        v = jnp.broadcast_to(v, sizes)
        if axis != missing[-1]:  # where XLA would make one sum of two
            v = jax.lax.optimization_barrier(v)
    return jnp.broadcast_to(v, shape)


def _power(dtype: DTypeLike, part: float) -> float:
    """A power of two: the largest number of a type to this power."""
    return 2.0 ** round(part * float(jnp.finfo(dtype).maxexp))


FAR = 0.375
"""The length that `bounded` gives to rows whose square overflows, as a power of the largest number: 2^48 in float32. There tanh is 1 for
curvatures down to 2^-86, and k times its square is finite for curvatures up to 2^31."""


def reduced(x: Rows, long: Array | None = None) -> Rows:
    """x times a power of two so small (2^-80 in float32) that the square of no row overflows, and so large that none of a row vanishes
    whose own square overflows; with `long`, only the rows where it is true.

    As a choice for each row the power is no constant: XLA would multiply that by the inverse of a length first, and the product vanishes.
    """
    power = _power(x.dtype, -0.625)
    return x * (power if long is None else jnp.where(long, power, 1))


def lengthened(x: Rows, length: Number | float, long: Array) -> Rows:
    """The vector of this length in the direction of x where its square overflows (`long`), without a derivative.

    The derivative of a direction is 1/|x|, which is nothing next to 1. Where `long` is false, the result is finite and means nothing.
    """
    small = jax.lax.stop_gradient(reduced(x, long))
    return small * (length / jnp.sqrt(jnp.where(long, dot(small, small), 1)))


def bounded(x: Rows, divisor: Number | None = None) -> tuple[Rows, Number]:
    """v = x/divisor, and |v|²; where that overflows, v is the vector of length `FAR` in the direction of x, with derivative 0."""
    v = x
    if divisor is not None:
        # of entries that are larger, as no row of finite square has them, the quotient itself could overflow
        largest = _power(x.dtype, 0.75)
        v = trig.over(jnp.clip(x, -largest, largest), divisor)
    square = dot(v, v)
    long, far = square == jnp.inf, _power(x.dtype, FAR)
    return jnp.where(long, lengthened(x, far, long), v), jnp.where(long, far * far, square)


def far_and_flat(square: Number, k: Number) -> Array:
    """Where k is 0 and `bounded` may have changed the length, which is not what tan_k is for."""
    return (k == 0) & (square >= _power(square.dtype, FAR) ** 2)


def shortening(x: Rows, most: Number | Array) -> Number:
    """The r <= 1 with |r x|² <= most; NaN stays NaN. Where |x|² overflows, r has the derivative 0; it vanishes with 1/|x|, beyond 1e37 in
    float32."""
    square = dot(x, x)
    long, beyond = square == jnp.inf, ~(square <= most)
    r = jnp.sqrt(jnp.where(beyond, most, 1) / jnp.where(beyond & ~long, square, 1))
    small = jax.lax.stop_gradient(reduced(x, long))
    far = jnp.where(long, _power(x.dtype, -0.625), 1) * jnp.sqrt(most) / jnp.sqrt(jnp.where(long, dot(small, small), 1))
    return jnp.where(long, far, r)


def inner_products(*factors: Rows) -> tuple[Number, ...]:
    """<a, b>, <c, d>, ... of rows a, b, c, d, ..., which broadcast against each other, kept with length 1."""
    sums = bind(_inner_products_p, *jnp.broadcast_arrays(*factors))
    return tuple(jnp.expand_dims(s, -1) for s in sums)


def _compute(*factors: Array) -> list[Array]:
    products = [a * b for a, b in zip(factors[::2], factors[1::2], strict=True)]
    zeros = [jnp.zeros((), p.dtype) for p in products]
    add = lambda a, b: [i + j for i, j in zip(a, b, strict=True)]  # noqa: E731
    return list(jax.lax.reduce(products, zeros, add, (products[0].ndim - 1,)))


def _abstract(*factors: ShapedArray) -> list[ShapedArray]:
    return result_types(_compute, lambda *shapes: [shape[:-1] for shape in shapes[::2]], *factors)


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
