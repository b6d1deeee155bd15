"""MAML on the Poincaré ball (Finn et al., ICML 2017): finds a starting point from which two Riemannian steps solve each task."""

import jax
import optax

from port_jax.manifolds import PoincareBall
from port_jax.optim import riemannian_adam, riemannian_sgd

BALL = PoincareBall(c=0.7)
INNER, OUTER = riemannian_sgd(0.4, manifolds=BALL), riemannian_adam(0.02, manifolds=BALL)


def loss(point, task):
    """The weighted squared distance to the goal of a task, the pair (goal, weight). A task with a small weight is learned slowly."""
    return task[1] * BALL.dist2(point, task[0])


def adapt(point, task):
    """Takes two Riemannian steps on a task; the result is differentiable with respect to the point."""
    state = INNER.init(point)
    for _ in range(2):
        updates, state = INNER.update(jax.grad(loss)(point, task), state, point)
        point = optax.apply_updates(point, updates)
    return point


def train(start, tasks, before=adapt, steps=300):
    """The starting point with the smallest mean loss after `before`. If `before` returns the point unchanged, this is joint training."""

    def step(carry, _):
        value, grad = jax.value_and_grad(lambda p: jax.vmap(lambda t: loss(before(p, t), t))(tasks).mean())(carry[0])
        updates, state = OUTER.update(grad, carry[1], carry[0])
        return (optax.apply_updates(carry[0], updates), state), value

    return jax.lax.scan(step, (start, OUTER.init(start)), length=steps)[0][0]
