"""Sharpness-aware minimisation on manifolds: the gradient at the worst nearby point, along the geodesic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.optim import gradients, scalars
from port_jax.types import Manifolds, Params

__all__ = ["sharpness_aware"]


def sharpness_aware(
    loss: Callable[..., Float[Array, ""]], rho: float = 0.05, *, manifolds: Manifolds
) -> Callable[..., tuple[Float[Array, ""], Any]]:
    """From loss(params, *rest) to a function like jax.value_and_grad(loss), with sharpness-aware gradients.

    With r the Riemannian gradients of all parameters together, a point of the product of their manifolds:

        q = exp_p(rho r / |r|)
        the gradient returned at p is the one whose Riemannian gradient is the transport of that at q

    so that it can be passed to any optimizer of this package or optax. A step takes two gradients. At r = 0, q is p. On
    Euclidean() this is SAM.

    Source: Yun and Yang, Riemannian SAM, NeurIPS 2023, algorithm 1; Foret et al., ICLR 2021.
    Errors: ValueError for rho below 0, and those of a tree of manifolds in `riemannian_adam`; NotImplementedError if
    a manifold has no exponential.
    """
    scalars.check_range("rho", rho, 0)

    def value_and_grad(params: Params, *rest: Any) -> tuple[Float[Array, ""], Any]:
        value, grads = jax.value_and_grad(loss)(params, *rest)
        found, points, flat_grads, structure = gradients.flattened(manifolds, params, grads)
        tangents = gradients.riemannian(found, points, flat_grads)
        length = gradients.norm(found, points, tangents)
        part = jnp.where(length > 0, rho / jnp.where(length > 0, length, 1), 0)
        worst = [
            p if r is None else m.expmap(p, part.astype(jnp.finfo(p.dtype).dtype) * r)
            for m, p, r in zip(found, points, tangents, strict=True)
        ]
        sharp = jax.grad(loss)(structure.unflatten(worst), *rest)
        carried = [gradients.carry(m, q, p, g) for m, q, p, g in zip(found, worst, points, jax.tree.leaves(sharp), strict=True)]
        return value, structure.unflatten(carried)

    return value_and_grad
