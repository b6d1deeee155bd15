"""Mixed precision: computations use flat weights in half precision, and points in full precision."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from port_jax.optim import trees
from port_jax.types import Manifolds, Params

__all__ = ["compute_copy"]


def compute_copy(params: Params, dtype: Any = jnp.bfloat16, *, manifolds: Manifolds) -> PyTree[Array]:
    """The parameters for computations: those on Euclidean() in `dtype`, those on other manifolds unchanged.

    A point of a ball rounded to bfloat16 may lie on its boundary (norms above 0.998 become 1), where the metric is
    infinite; so points keep their type, and the model casts what it computes from them. Take the gradient with
    respect to `params`, through this function, so that it has their types, as does the optimizer's state.

        loss, grads = jax.value_and_grad(lambda p: model_loss(compute_copy(p, manifolds=manifolds)))(params)
    """
    leaves, structure = jax.tree.flatten(params)
    found = trees.match_manifolds(manifolds, params)
    return structure.unflatten([leaf.astype(dtype) if m.flat else leaf for m, leaf in zip(found, leaves, strict=True)])
