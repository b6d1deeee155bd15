"""GradNorm (Chen et al., ICML 2018, arXiv 1711.02257) as TiDHy has it: in training, and inside of its inference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, PyTree

from port_jax.manifolds import Euclidean
from port_jax.models.tidhy_losses import magnitude
from port_jax.optim.riemannian_adamw import riemannian_adamw

__all__ = ["Balance", "Balanced", "balanced", "begun", "fresh", "start"]


class Balance(NamedTuple):
    """The weights of the losses, and the losses that they began with; zeros before the first step."""

    weights: Float[Array, " k"]
    initial: Float[Array, " k"]


class Balanced(NamedTuple):
    """A step's losses [k], gradients of the parameters, the gradient of the weights, and the balance that it used."""

    losses: Float[Array, " k"]
    gradients: PyTree[Array]
    slope: Float[Array, " k"]
    balance: Balance


def start(dtype: Any = jnp.float32, tasks: int = 3) -> Balance:
    """Weights of 1."""
    return Balance(jnp.ones(tasks, dtype), jnp.zeros(tasks, dtype))


def begun(balance: Balance) -> Bool[Array, ""]:
    """Whether a step has been made."""
    return jnp.any(balance.initial != 0)


def balanced(losses: Callable[[Any], Float[Array, " k"]], params: Any, balance: Balance, tasks: Any, alpha: float) -> Balanced:
    """The gradient of sum_i w_i L_i + G, where G = sum_i |g_i - stop(mean(g) (l_i / mean(l))^alpha)|.

    g_i is the sum over the parameters of task i of |d(w_i L_i)|, a norm for each array, and l_i = L_i / L_i(0). tasks: a tree beside the
    parameters of boolean arrays [k]: which tasks an array belongs to. G is also a function of the parameters, through the norms: its
    gradient, with second derivatives of the losses, moves them too, as in the original. A gradient that is 0 has a norm without
    derivative.
    """
    value, slopes = losses(params), jax.jacrev(losses)(params)
    initial = jnp.where(begun(balance), balance.initial, value)
    ratio = jax.lax.stop_gradient(value / initial)
    relative = ratio / jnp.mean(ratio)

    def gap(params: Any, weights: Array) -> Array:
        norms = jax.tree.map(_norms, jax.jacrev(losses)(params), tasks)
        lengths = weights * sum(jax.tree.leaves(norms))
        target = jax.lax.stop_gradient(jnp.mean(lengths) * relative**alpha)
        return jnp.sum(magnitude(lengths - target))

    more, slope = jax.grad(gap, (0, 1))(params, balance.weights)
    gradients = jax.tree.map(lambda s, m: jnp.tensordot(balance.weights.astype(s.dtype), s, 1) + m, slopes, more)
    return Balanced(value, gradients, slope, Balance(balance.weights, initial))


def fresh(step: Balanced, rate: float, decay: float) -> Balance:
    """The next balance: a step of an AdamW that is new each time, then k softmax(w), so that the weights sum to their number."""
    weights = step.balance.weights
    mover = riemannian_adamw(rate, weight_decay=decay, manifolds=Euclidean())
    update, _ = mover.update(step.slope, mover.init(weights), weights)
    return Balance(len(weights) * jax.nn.softmax(weights + jnp.asarray(update)), step.balance.initial)


def _norms(slopes: Float[Array, "k ..."], mine: Float[Array, " k"]) -> Float[Array, " k"]:
    """The norm of each task's gradient by one array, 0 for the tasks that it does not belong to."""
    return jnp.where(mine, optax.safe_norm(slopes.reshape(len(slopes), -1), 0.0, axis=1), 0)
