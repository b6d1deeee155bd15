"""What repositories' own optimizers do differently from geoopt's: their manifolds' retractions, metrics, and weight decay."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
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

__all__ = ["ClippedLorentz", "RowwiseEuclidean", "ShortTangents", "hgcn", "murp", "poincare_embeddings", "split_decay", "swapped"]

Swap = Callable[[str, Manifold], Manifold]
"""From a parameter's path and its manifold to the manifold as a repository's optimizer moves on it."""


@pytree
class RowwiseEuclidean(Euclidean):
    """R^n whose second moments are sums over one axis: what HGCN's code calls the inner product of flat parameters.

    axis: where the parameter has the last axis of torch's layout; a number without axes is its own row.
    """

    axis: int = dataclasses.field(default=-1, metadata={"static": True})

    def component_inner(self, x: Point, u: Tangent, v: Tangent | None = None) -> Float[Array, "..."]:
        """The sum of u v over the axis, which stays with length 1."""
        inner = super().component_inner(x, u, v)
        return jnp.sum(inner, self.axis, keepdims=True) if inner.ndim else inner


@pytree
class ClippedLorentz(Lorentz):
    """The hyperboloid with steps of length 1 at most: cosh(t) x + sinh(t) u/|u| for t = min(|u|, 1), k being 1."""

    def retr(self, x: Point, u: Tangent, *, norm_tan: bool = True, project: bool = True) -> Point:
        """expmap of u, shortened to length 1 where it is longer."""
        length = self.norm(x, u, keepdim=True)
        long = length > 1
        return self.expmap(x, u / jnp.where(long, length, 1), norm_tan=norm_tan, project=project)


@pytree
class ShortTangents(PoincareBall):
    """The ball whose Riemannian gradients are shortened to Euclidean length 5, as poincare-embeddings does with sparse ones."""

    def egrad2rgrad(self, x: Point, u: Tangent) -> Tangent:
        """u/lambda_x^2, of length 5 at most."""
        r = super().egrad2rgrad(x, u)
        square = jnp.sum(r * r, -1, keepdims=True)
        return r * jnp.where(square > 25, 5 / jnp.sqrt(jnp.where(square > 25, square, 1)), 1)


def hgcn(axes: Mapping[str, int]) -> Swap:
    """HazyResearch/hgcn (and CheriseZhu/GIL): flat second moments by rows, the ball's steps along geodesics.

    axes: of flat parameters by path, where torch's last axis is not the last here.
    """

    def swap(path: str, manifold: Manifold) -> Manifold:
        if manifold.flat:
            return RowwiseEuclidean(axis=axes.get(path, -1))
        return _exact_ball("hgcn.RiemannianAdam", path, manifold)

    return swap


def murp(path: str, manifold: Manifold) -> Manifold:
    """ibalazevic/multirelational-poincare: the ball's steps along geodesics."""
    return manifold if manifold.flat else _exact_ball("murp.RiemannianSGD", path, manifold)


def poincare_embeddings(sparse: bool) -> Swap:
    """facebookresearch/poincare-embeddings: on the ball x + u, on the hyperboloid steps of length 1 at most.

    Its tables leave the ball until they are read, and the hyperboloid by rounding; here points are projected after each
    step. `sparse` gradients of balls are shortened.
    """

    def swap(path: str, manifold: Manifold) -> Manifold:
        if type(manifold) is Lorentz:  # the two classes that the repository's own manifolds are
            return ClippedLorentz(manifold.k)
        if sparse and type(manifold) is PoincareBall:  # likewise
            return ShortTangents(manifold.c)
        return manifold

    return swap


def swapped(manifolds: trees.Manifolds, swap: Swap) -> Callable[[Any], Any]:
    """A callable from parameters to the tree of swapped manifolds beside them."""

    def current(params: Any) -> Any:
        paths, _, structure = trees.flatten(params)
        found = trees.match_manifolds(manifolds, params)
        return structure.unflatten([swap(trees.show(path), m) for path, m in zip(paths, found, strict=True)])

    return current


def split_decay(
    inner: optax.GradientTransformation, learning_rate: ScalarOrSchedule, weight_decay: Scalar, manifolds: trees.Manifolds
) -> optax.GradientTransformation:
    """Weight decay as in chenweize1998/fully-hyperbolic-nn: L2 for points on manifolds, decoupled for flat parameters.

    With `inner`, which has no decay of its own, moving p by u(g): on Euclidean() u(g) - learning_rate weight_decay p, elsewhere
    u(g + weight_decay p). The state is `inner`'s; learning_rate is what `inner` was made with.
    """

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
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
        f"parameter {path} is on {type(manifold).__name__}; {name} moves points of balls and flat parameters only: another "
        "manifold, or another optimizer="
    )
