"""Batch normalisation of points: centred, scaled by their spread, and moved to a trained point.

Both layers follow flax's conventions: running statistics are the collection "batch_stats", written in training
(`use_running_average=False` with `mutable=["batch_stats"]`) and used in evaluation. `momentum` is torch's: the weight of the **new**
statistics, 0.1, where flax's is that of the old ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.checks import as_numbers
from port_jax.initializers import on_manifold
from port_jax.layers.models_of_space import require_time
from port_jax.manifolds import Manifold
from port_jax.manifolds.hyperboloid import ambient
from port_jax.manifolds.row_products import dot, repeated
from port_jax.manifolds.trig import sqrt_or_zero

__all__ = ["LorentzBatchNorm", "MidpointBatchNorm", "normalised", "scaled_root"]

Points = Float[Array, "*batch ambient"]


def _between(manifold: Manifold, old: Float[Array, " ambient"], new: Float[Array, " ambient"], momentum: float):
    """The midpoint of the two with the weights 1 - momentum and momentum."""
    return manifold.weighted_midpoint(jnp.stack([old, new]), jnp.array([1 - momentum, momentum], new.dtype))  # pyright: ignore[reportAttributeAccessIssue]


def normalised(manifold: Manifold, x: Points, mean: Float[Array, " ambient"], var: Float[Array, ""], weight: Float[Array, ""],
               bias: Float[Array, " d"], eps: float) -> Points:  # fmt: skip
    """exp_β(sqrt(weight/(var + eps)) PT_{μ→β} log_μ x) with the mean μ and β = exp_0(bias)."""
    mean, goal = (repeated(p, x.shape) for p in (mean, manifold.from_tangent0(bias)))
    u = manifold.transp(mean, goal, manifold.logmap(mean, x))
    return manifold.expmap(goal, scaled_root(weight, var, eps) * u)


def scaled_root(weight: Float[Array, ""], var: Float[Array, ""], eps: float) -> Float[Array, ""]:
    """sqrt(weight/(var + eps)), with derivative 0 at weight = 0, where the root's is not finite."""
    some = weight != 0
    return jnp.where(some, jnp.sqrt(jnp.where(some, weight, 1) / (var + eps)), 0)


class MidpointBatchNorm(nn.Module):
    """y = exp_β(sqrt(weight/(var + eps)) PT_{μ→β} log_μ x), with μ the midpoint, var = mean d(μ, x)², β = exp_0(bias).

    On a ball or a hyperboloid (van Spengler et al. 2023, section 3.3; HypLL's HBatchNorm). All axes but the last are the batch.
    Parameters: `weight` [] and `bias` [d], a tangent vector at the origin. Statistics: `mean` [ambient], a point, and `var` []. The running
    mean is the midpoint of the old and the new one. HypLL has no running statistics and uses those of the batch in evaluation as well:
    `HBatchNorm` is its layer.
    """

    momentum: float = 0.1
    eps: float = 1e-6

    @nn.compact
    def __call__(self, manifold: Manifold, x: Points, use_running_average: bool = True) -> Points:
        x = as_numbers("x", x)
        width = x.shape[-1]
        weight = self.param("weight", nn.initializers.ones, ())
        bias = self.param("bias", nn.initializers.zeros, (width - manifold.ambient,))
        running = self.variable("batch_stats", "mean", lambda: manifold.origin(width, dtype=x.dtype))
        spread = self.variable("batch_stats", "var", lambda: jnp.ones((), x.dtype))
        if use_running_average:
            mean, var = running.value, spread.value
        else:
            mean = manifold.weighted_midpoint(x)  # pyright: ignore[reportAttributeAccessIssue]
            var = jnp.mean(manifold.dist2(jnp.broadcast_to(mean, x.shape), x))
            if not self.is_initializing():
                running.value = _between(manifold, running.value, mean, self.momentum)
                spread.value = (1 - self.momentum) * spread.value + self.momentum * var
        return normalised(manifold, x, mean, var, weight, bias, self.eps)


class LorentzBatchNorm(nn.Module):
    """y = exp_β(PT_{0→β}(gamma/(var + eps) PT_{μ→0} log_μ x)), with μ the centroid and var = mean d(μ, x), not squared, without a root.

    On a hyperboloid (Bdeir et al. 2024, section 4.2). Parameters: `beta` [d + 1], a **point**, and `gamma` [1]. Statistics: `mean` [d], the
    coordinates of log_0 of the running mean, and `var` [1]. The centroid is taken over the axes between the first and the last, then over
    the first. The running mean is the centroid of the old and the new one.

    With `as_trained` it is computed by the authors' formulas (`port_jax.manifolds.hyperboloid.ambient`), also where these differ: all
    coordinates of β count, which leaves the hyperboloid when a trained k moves, or under an optimizer for flat space; y is no farther than
    10 √k from β; points nearer than 1e-4 to μ are drawn to it; and `mean` is [d + 1], with a time in front that is 0.
    """

    momentum: float = 0.1
    eps: float = 1e-5
    as_trained: bool = False

    @nn.compact
    def __call__(self, manifold: Manifold, x: Points, use_running_average: bool = True) -> Points:
        require_time(self, manifold, "MidpointBatchNorm")
        x, space = as_numbers("x", x), cast(Any, manifold)
        ways, width = _AUTHORS if self.as_trained else _ACCURATE, x.shape[-1]
        beta = self.param("beta", on_manifold(manifold, nn.initializers.zeros), (width,))
        gamma = self.param("gamma", nn.initializers.ones, (1,))
        running = self.variable("batch_stats", "mean", lambda: jnp.zeros((width - 1 + self.as_trained,), x.dtype))
        spread = self.variable("batch_stats", "var", lambda: jnp.ones((1,), x.dtype))
        old = ways.read(space, running.value)
        mean = old if use_running_average else ways.middle(space, x)
        wide, goal = (jnp.broadcast_to(p, x.shape) for p in (mean, beta))
        u = ways.to_origin(space, wide, x)
        var = spread.value if use_running_average else jnp.mean(ways.distance(space, wide, x, u)).reshape(1)
        if not use_running_average and not self.is_initializing():
            running.value = ways.stored(space, ways.between(space, old, mean, self.momentum))
            spread.value = (1 - self.momentum) * spread.value + self.momentum * var
        return ways.from_origin(space, goal, u * jnp.broadcast_to(gamma / (var + self.eps), x.shape))


class _Ways(NamedTuple):
    """The parts of `LorentzBatchNorm`, all of which take the hyperboloid first.

    read(v), stored(y): the point of a running mean, and back. middle(x): the centroid over the axes between the first and the last, and of
    these over the first. between(old, new, momentum). to_origin(μ, x): PT_{μ→0} log_μ x, which distance(μ, x, u) has as u.
    from_origin(β, u): exp_β(PT_{0→β} u).
    """

    read: Callable[..., Array]
    stored: Callable[..., Array]
    middle: Callable[..., Array]
    between: Callable[..., Array]
    to_origin: Callable[..., Array]
    distance: Callable[..., Array]
    from_origin: Callable[..., Array]


def _middle(space: Any, x: Points) -> Float[Array, " ambient"]:
    within = space.weighted_midpoint(x, reducedim=tuple(range(1, x.ndim - 1))) if x.ndim > 2 else x
    return space.weighted_midpoint(within)


def _middle_of_authors(space: Any, x: Points) -> Float[Array, " ambient"]:
    within = ambient.onto(x.mean(tuple(range(1, x.ndim - 1))), space.k) if x.ndim > 2 else x
    return ambient.onto(within.mean(0), space.k)


_ACCURATE = _Ways(
    read=lambda space, v: space.from_tangent0(v),
    stored=lambda space, y: space.to_tangent0(y),
    middle=_middle,
    between=_between,
    to_origin=lambda space, mean, x: space.transp0back(mean, space.logmap(mean, x)),
    distance=lambda space, mean, x, u: space.dist(mean, x),
    from_origin=lambda space, goal, u: space.expmap(goal, space.transp0(goal, u)),
)
_AUTHORS = _Ways(
    read=lambda space, v: ambient.exp0(v[1:], space.k),
    stored=lambda space, y: space.from_coordinates0(ambient.log0(y, space.k)),
    middle=_middle_of_authors,
    between=lambda space, old, new, momentum: ambient.onto((1 - momentum) * old + momentum * new, space.k),
    to_origin=lambda space, mean, x: ambient.carried_to_origin(mean, x, space.k),
    distance=lambda space, mean, x, u: sqrt_or_zero(dot(u, u)),
    from_origin=lambda space, goal, u: ambient.carried_from_origin(goal, u, space.k),
)
