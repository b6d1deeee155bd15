"""Averages of weights over a run: along geodesics for points on manifolds, ordinary averages for flat parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

from port_jax.manifolds.base import Manifold
from port_jax.optim import scalars, trees
from port_jax.types import Manifolds, Params

__all__ = ["WeightAverage", "WeightAverageState", "weight_average"]


class WeightAverageState(NamedTuple):
    """count: the number of parameter trees averaged so far. average: a tree like the parameters, on their manifolds, float32 at least."""

    count: Int[Array, ""]
    average: PyTree[Array]


class WeightAverage(NamedTuple):
    """init(params) -> state; update(params, state) -> state. The first update takes the parameters themselves."""

    init: Callable[[Any], WeightAverageState]
    update: Callable[[Any, WeightAverageState], WeightAverageState]


def weight_average(decay: float | None = None, *, manifolds: Manifolds) -> WeightAverage:
    """The exponential (with decay) or equal-weight (without) average of the parameters that `update` has seen.

        a_1 = p_1
        a_n = exp_a(w log_a(p_n)), a = a_(n-1)          w = 1 - decay, or 1 / n

    On Euclidean() this is a + w (p - a), as in torch.optim.swa_utils.AveragedModel with get_ema_multi_avg_fn(decay)
    or by default. On a curved manifold it is the inductive mean of Sturm (Contemp. Math. 338, 2003), which stays on the
    manifold, as an average of coordinates need not. A learnable curvature would be averaged like any flat parameter, and
    the points on the manifold of the previous average, so keep the curvature fixed while averaging.

    Errors: ValueError for a decay outside [0, 1), and those of a tree of manifolds in `riemannian_adam`;
    NotImplementedError if a manifold has no exponential or logarithm.
    """
    if decay is not None:
        scalars.check_range("decay", decay, 0, 1)

    def init(params: Params) -> WeightAverageState:
        trees.check_parameters(trees.match_manifolds(manifolds, params), params)
        return WeightAverageState(jnp.zeros([], jnp.int32), jax.tree.map(_wide, params))

    def update(params: Params, state: WeightAverageState) -> WeightAverageState:
        points, structure = jax.tree.flatten(jax.tree.map(_wide, params))
        averages = trees.match_state(state.average, structure, "average")
        found = trees.match_manifolds(manifolds, params)
        count = state.count + 1
        moved = [
            jnp.where(count == 1, p, _between(manifold, a, p, 1 / _real(count, p) if decay is None else 1 - decay))
            for manifold, a, p in zip(found, averages, points, strict=True)
        ]
        return WeightAverageState(count, structure.unflatten(moved))

    return WeightAverage(init, update)


def _wide(p: Array) -> Array:
    """p in float32 at least: a share of 1/1000 of a half-precision number is lost in its rounding, and the average would stand still."""
    return jnp.asarray(p, scalars.working_type(p.dtype))


def _real(count: Array, like: Array) -> Array:
    return count.astype(jnp.finfo(like.dtype).dtype)


def _between(manifold: Manifold, start: Array, end: Array, part: Any) -> Array:
    return manifold.expmap(start, part * manifold.logmap(start, end)).astype(start.dtype)
