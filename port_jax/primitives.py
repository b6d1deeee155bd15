"""What the library's primitives need on several devices: results that lie as their operands do.

A type of JAX has more than a shape. On a mesh with explicit axes it says how an array is split (`sharding`), and inside of
`jax.shard_map` along which axes its values vary. A primitive whose rule for types forgets them fails there, or stops autodiff.
`in_place` is for what originals do to their parameters behind the back of autodiff.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.sharding import AxisType, NamedSharding, PartitionSpec, auto_axes
from jax.typing import ArrayLike
from jaxtyping import Array

__all__ = ["bind", "for_each_matrix", "in_place", "result_types", "rows_at", "where"]


def bind(primitive: Primitive, *operands: Array, **params: Any) -> Any:
    """The primitive on operands that vary over the same axes of a mesh.

    The cast is the identity on each device. Its transpose is the sum over devices, which a value that all of them share needs.
    """
    axes = frozenset().union(*(_varying(jax.typeof(x)) for x in operands))
    if axes:
        operands = tuple(_varies(x, axes) for x in operands)
    return primitive.bind(*operands, **params)


def result_types(compute: Callable[..., Any], shapes: Callable[..., list[tuple[int, ...]]], *operands: ShapedArray) -> list[ShapedArray]:
    """The types of what `compute` returns: `shapes` of the operands' shapes alone where no mesh is in use, which is quick, and a trace of
    `compute` on a mesh.
    """
    if all(a.sharding.mesh.empty for a in operands):
        return [ShapedArray(shape, operands[0].dtype) for shape in shapes(*(a.shape for a in operands))]
    return jax.make_jaxpr(compute)(*operands).out_avals


def _varying(kind: Any) -> frozenset[Any]:
    # JAX renamed it: `vma` before 0.10
    return kind.mat.varying if hasattr(kind, "mat") else kind.vma


def _varies(x: Array, axes: frozenset[Any]) -> Array:
    missing = tuple(sorted(axes - _varying(jax.typeof(x)), key=str))
    return jax.lax.pcast(x, missing, to="varying") if missing else x


def for_each_matrix(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of matrices [*batch, n, m] that itself cannot be traced where axes are explicit, as `jnp.linalg.qr`, made one that can.

    There it becomes the partitioner's business, and the batch of its results is split as that of its arguments.
    """

    @wraps(function)
    def split_by_batch(*matrices: Array, **options: Any) -> Any:
        kinds, call = [jax.typeof(x) for x in matrices], partial(function, **options)
        mesh, batch = kinds[0].sharding.mesh, kinds[0].ndim - 2
        if AxisType.Explicit not in mesh.axis_types:
            return call(*matrices)
        axes = [next(filter(None, places), None) for places in zip(*(kind.sharding.spec[:batch] for kind in kinds), strict=True)]
        spec = lambda out: PartitionSpec(*axes, *[None] * (out.ndim - batch))  # noqa: E731
        found = jax.eval_shape(call, *(jax.ShapeDtypeStruct(kind.shape, kind.dtype) for kind in kinds))
        return auto_axes(call, out_sharding=jax.tree.map(spec, found))(*matrices)

    return split_by_batch


def where(condition: ArrayLike, x: ArrayLike, y: ArrayLike) -> Array:
    """`jnp.where`, also where axes are explicit and only some of the three are split: there all of them come to lie as their sum would."""
    kinds = [jax.typeof(a) for a in (condition, x, y)]
    if not any(AxisType.Explicit in kind.sharding.mesh.axis_types for kind in kinds):
        return jnp.where(condition, x, y)
    total = jax.eval_shape(lambda c, x, y: jnp.zeros_like(c, x.dtype) + x + y, condition, x, y)
    return jnp.where(*(jax.sharding.reshard(jnp.broadcast_to(a, total.shape), total.sharding) for a in (condition, x, y)))


def rows_at(x: Array, ids: Array) -> Array:
    """x[ids], also where axes are explicit and the rows of x are split: the rows found lie as their numbers do."""
    kind = jax.typeof(x).sharding
    if AxisType.Explicit not in kind.mesh.axis_types:
        return x[ids]
    lies = PartitionSpec(*jax.typeof(ids).sharding.spec, *kind.spec[1:])
    return x.at[ids].get(out_sharding=NamedSharding(kind.mesh, lies))


@jax.custom_jvp
def in_place(x: Array, moved: Array) -> Array:
    """`moved`, with the derivatives of x: what torch computes after `x.data` was overwritten by it."""
    return moved


@in_place.defjvp
def _(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    return primals[1], tangents[0]
