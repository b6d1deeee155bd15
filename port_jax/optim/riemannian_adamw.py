"""Riemannian AdamW: decoupled weight decay along the geodesic to the origin, then a step of Riemannian Adam."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import optax
from jaxtyping import Array

from port_jax.manifolds.base import Manifold
from port_jax.optim import gradients, scalars, trees
from port_jax.optim.riemannian_adam import riemannian_adam
from port_jax.optim.scalars import Scalar, ScalarOrSchedule
from port_jax.types import Manifolds, OptState, Params, Updates

__all__ = ["contracted", "riemannian_adamw"]


def riemannian_adamw(
    learning_rate: ScalarOrSchedule = 1e-3,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 1e-2,
    amsgrad: bool = False,
    stabilize: int | None = None,
    *,
    manifolds: Manifolds,
    order: Sequence[str] | None = None,
    decays: Callable[[Any], Any] | Any = True,
) -> optax.GradientTransformation:
    """Adam on manifolds whose weight decay does not pass through the moments.

    With the origin o of the manifold M, the point p and its Euclidean gradient g:

        q = exp_p(learning_rate weight_decay log_p(o))      so that d(q, o) = (1 - learning_rate weight_decay) d(p, o)
        r, m = transport from p to q of M.egrad2rgrad(p, g), m
        p, m = a step of `riemannian_adam` from q with r and m, without weight decay

    On Euclidean() this is AdamW (Loshchilov and Hutter, ICLR 2019, algorithm 2) as in torch. An L2 term in the
    gradient is scaled by the inverse metric and by the second moment, and vanishes towards the boundary of a ball; the
    geodesic decay has the same relative rate everywhere.

    Arguments: those of `riemannian_adam`. decays: a tree of bools over the parameters, or a prefix of one, that says which
    of them decay; or a callable from the parameters to such a tree.

    The state is a `RiemannianAdamState`. Gradients may be None: such a parameter does not decay. Errors: those of
    `riemannian_adam`; NotImplementedError if a decaying manifold has no origin, logarithm or exponential, or an origin that
    is not unlike its other points, as a sphere's.
    """
    scalars.check_range("weight_decay", weight_decay, 0)
    inner = riemannian_adam(learning_rate, b1, b2, eps, 0.0, amsgrad, stabilize, manifolds=manifolds, order=order)

    def decaying(params: Params) -> list[bool]:
        given = decays(params) if callable(decays) else decays
        return jax.tree.leaves(jax.tree.map(lambda flag, part: jax.tree.map(lambda _: bool(flag), part), given, params))

    def init(params: Params) -> OptState:
        found = trees.match_manifolds(manifolds, params)
        for path, point, manifold, flag in zip(*trees.flatten(params)[:2], found, decaying(params), strict=True):
            if flag:
                try:
                    if manifold.any_origin:
                        raise NotImplementedError(f"that of {manifold.name} is one of many equal points")
                    jax.eval_shape(lambda p, manifold=manifold: contracted(manifold, p, 0.0), point)
                except NotImplementedError as error:
                    raise NotImplementedError(
                        f"parameter {trees.show(path)} cannot decay to an origin: {error}; set decays to False for it"
                    ) from error
        return inner.init(params)

    def update(updates: Updates, state: Any, params: Params = None) -> tuple[Updates, OptState]:
        if params is None:
            raise ValueError("riemannian_adamw moves points: call update(gradients, state, params)")
        found, given, grads, structure = gradients.flattened(manifolds, params, updates)
        kept = trees.match_state(state.mu, structure, "mu")
        points, moments = ([a.astype(scalars.working_type(a.dtype)) for a in arrays] for arrays in (given, kept))
        moved = list(points)
        rate = scalars.at_step(learning_rate, state.step)
        for i, (manifold, flag) in enumerate(zip(found, decaying(params), strict=True)):
            if flag and (grad := grads[i]) is not None:
                p, dtype = points[i], points[i].dtype
                q = contracted(manifold, p, scalars.cast(rate * weight_decay, dtype))
                grads[i] = gradients.carry(manifold, p, q, grad.astype(dtype))
                moments[i] = manifold.transp(p, q, moments[i])
                moved[i] = q
        change, state = inner.update(
            structure.unflatten(grads),
            state._replace(mu=structure.unflatten(moments)),
            structure.unflatten(moved),
        )
        change = [d + (q - p) for d, q, p in zip(jax.tree.leaves(change), moved, points, strict=True)]
        for i, (manifold, p, old) in enumerate(zip(found, points, given, strict=True)):
            if p.dtype != old.dtype and grads[i] is not None:  # half precision: the whole step is rounded once
                change[i] = manifold.narrowed(p + change[i], old.dtype) - old
            change[i] = change[i].astype(old.dtype)
        mu = [m.astype(old.dtype) for m, old in zip(jax.tree.leaves(state.mu), kept, strict=True)]
        return structure.unflatten(change), state._replace(mu=structure.unflatten(mu))

    return optax.GradientTransformation(init, update)


def contracted(manifold: Manifold, point: Array, part: Scalar) -> Array:
    """The point moved towards the origin by this fraction of its distance."""
    origin = manifold.origin(*point.shape, dtype=point.dtype)
    return manifold.expmap(point, part * manifold.logmap(point, origin)).astype(point.dtype)
