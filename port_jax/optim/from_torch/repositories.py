"""How the optimizers of some repositories differ from geoopt's: their manifolds' retractions, metrics, and weight decay."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from port_jax.manifolds.base import Manifold, Point, Tangent, pytree
from port_jax.manifolds.euclidean import Euclidean
from port_jax.manifolds.hyperboloid import Lorentz
from port_jax.manifolds.stereographic import PoincareBall
from port_jax.optim import scalars, trees
from port_jax.optim.scalars import Scalar, ScalarOrSchedule
from port_jax.types import Manifolds, OptState, Params, Updates

__all__ = ["ClippedLorentz", "RowwiseEuclidean", "ShortTangents", "exact", "poincare_embeddings", "split_decay", "summed", "swapped"]

Swap = Callable[[str, Manifold], Manifold]
"""A function from a parameter's path and manifold to the manifold that describes how a repository's optimizer moves it."""
Axes = int | Sequence[int]


@pytree
class RowwiseEuclidean(Euclidean):
    """R^n whose second moments are sums over an axis or several, the inner product of flat parameters in HGCN's and HypLL's code.

    axis: those of the parameter that are one axis in torch's layout, in HGCN's code the last; a number without axes is its own row.
    """

    axis: int | tuple[int, ...] = dataclasses.field(default=-1, metadata={"static": True})

    def component_inner(self, x: Point, u: Tangent, v: Tangent | None = None) -> Float[Array, "..."]:
        """The sum of u v over the axis, which is kept with length 1; axes of several likewise."""
        inner = super().component_inner(x, u, v)
        return jnp.sum(inner, self.axis, keepdims=True) if inner.ndim else inner


@pytree
class ClippedLorentz(Lorentz):
    """The hyperboloid with steps of length at most 1: cosh(t) x + sinh(t) u/|u| for t = min(|u|, 1), k being 1."""

    def retr(self, x: Point, u: Tangent, *, norm_tan: bool = True, project: bool = True) -> Point:
        """`expmap` of u, shortened to length 1 if it is longer."""
        length = self.norm(x, u, keepdim=True)
        long = length > 1
        return self.expmap(x, u / jnp.where(long, length, 1), norm_tan=norm_tan, project=project)


@pytree
class ShortTangents(PoincareBall):
    """The ball whose Riemannian gradients are shortened to Euclidean length 5, as in poincare-embeddings for sparse gradients."""

    def egrad2rgrad(self, x: Point, u: Tangent) -> Tangent:
        """u/lambda_x^2, shortened to length 5 if it is longer."""
        r = super().egrad2rgrad(x, u)
        square = jnp.sum(r * r, -1, keepdims=True)
        return r * jnp.where(square > 25, 5 / jnp.sqrt(jnp.where(square > 25, square, 1)), 1)


def summed(name: str, axes: Mapping[str, Axes]) -> Swap:
    """HazyResearch/hgcn (and CheriseZhu/GIL), HypLL: flat second moments by rows or columns, steps along geodesics on the ball.

    name: the optimizer's, for messages. axes: by path, the axis or axes of a flat parameter that are summed, if it is not the last one. In
    HGCN's code it is torch's last axis, in HypLL's the first one of the kernels of its own layers.
    """
    curved = exact(name)

    def swap(path: str, manifold: Manifold) -> Manifold:
        if not manifold.flat:
            return curved(path, manifold)
        axis = axes.get(path, -1)
        return RowwiseEuclidean(axis=axis if isinstance(axis, int) else tuple(axis))

    return swap


def exact(name: str) -> Swap:
    """ibalazevic/multirelational-poincare, HypLL: steps along geodesics on the ball. name: the optimizer's, for messages."""
    return lambda path, manifold: manifold if manifold.flat else _exact_ball(name, path, manifold)


def poincare_embeddings(sparse: bool) -> Swap:
    """facebookresearch/poincare-embeddings: x + u on the ball, steps of length at most 1 on the hyperboloid.

    There, points may be outside the ball until they are read, and off the hyperboloid by rounding; here they are projected
    after each step. With `sparse`, gradients on balls are shortened.
    """

    def swap(path: str, manifold: Manifold) -> Manifold:
        if type(manifold) is Lorentz:  # the repository has counterparts of these two classes only
            return ClippedLorentz(manifold.k)
        if sparse and type(manifold) is PoincareBall:  # likewise
            return ShortTangents(manifold.c)
        return manifold

    return swap


def swapped(manifolds: Manifolds, swap: Swap) -> Callable[[Any], Any]:
    """A callable from parameters to the tree of their swapped manifolds."""

    def current(params: Params) -> Any:
        paths, _, structure = trees.flatten(params)
        found = trees.match_manifolds(manifolds, params)
        return structure.unflatten([swap(trees.show(path), m) for path, m in zip(paths, found, strict=True)])

    return current


def split_decay(
    inner: optax.GradientTransformation, learning_rate: ScalarOrSchedule, weight_decay: Scalar, manifolds: Manifolds
) -> optax.GradientTransformation:
    """Weight decay as in chenweize1998/fully-hyperbolic-nn: L2 for points on manifolds, decoupled for flat parameters.

    If `inner`, which has no decay of its own, moves p by u(g), this moves it by u(g) - learning_rate weight_decay p on Euclidean() and
    by u(g + weight_decay p) elsewhere. The state is that of `inner`; learning_rate is the one with which `inner` was made.
    """

    def update(updates: Updates, state: Any, params: Params = None) -> tuple[Updates, OptState]:
        if params is None:
            raise ValueError("the optimizer moves points: call update(gradients, state, params)")
        points, structure = jax.tree.flatten(params)
        flat = [m.flat for m in trees.match_manifolds(manifolds, params)]
        grads = trees.match_gradients(updates, params)
        rate = scalars.at_step(learning_rate, state.step)
        given = [g if g is None or f else g + weight_decay * p for g, p, f in zip(grads, points, flat, strict=True)]
        change, state = inner.update(structure.unflatten(given), state, params)
        apart = [
            u - scalars.cast(rate * weight_decay, p.dtype) * p if f and g is not None else u
            for u, p, g, f in zip(jax.tree.leaves(change), points, grads, flat, strict=True)
        ]
        return structure.unflatten(apart), state

    return optax.GradientTransformation(inner.init, update)


def _exact_ball(name: str, path: str, manifold: Manifold) -> Manifold:
    if isinstance(manifold, PoincareBall):  # the repositories have no other
        return manifold.with_exact_retraction()
    raise ValueError(
        f"parameter {path} is on {type(manifold).__name__}; {name} moves points of balls and flat parameters only: use another "
        "manifold, or another optimizer="
    )
