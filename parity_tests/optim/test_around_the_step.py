"""What may stand before, around and after an optimizer, as docs/guide/optimizers.md says: whether points stay where they belong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

from parity_tests import draws
from port_jax.manifolds import Lorentz, Manifold, PoincareBall
from port_jax.optim import clip_grad_norm, guard, riemannian_sgd, weight_average

BALL, HYPERBOLOID = PoincareBall(0.7), Lorentz(1.4)
RATE = {BALL.name: 3.0, HYPERBOLOID.name: 0.03}
STEPS = {BALL.name: 12, HYPERBOLOID.name: 3}
Wrap = Callable[[optax.GradientTransformation], Any]

# name -> (what is made of the optimizer, whether points stay in the ball (None: it depends), whether they stay on the hyperboloid)
AROUND: dict[str, tuple[Wrap, bool | None, bool]] = {
    "alone": (lambda tx: tx, True, True),
    "clipping before": (lambda tx: optax.chain(clip_grad_norm(1.0), tx), True, True),
    "scaling before": (lambda tx: optax.chain(optax.scale(3.0), tx), True, True),
    "average of gradients before": (lambda tx: optax.chain(optax.ema(0.9), tx), True, True),
    "guard": (lambda tx: guard(tx, "skip"), True, True),
    "several steps": (lambda tx: optax.MultiSteps(tx, 2), True, True),
    "scaling after, up": (lambda tx: optax.chain(tx, optax.scale(3.0)), False, False),
    "scaling after, down": (lambda tx: optax.chain(tx, optax.scale(0.5)), True, False),
    "clipping after": (lambda tx: optax.chain(tx, optax.clip_by_global_norm(0.1)), True, False),
    "momentum after": (lambda tx: optax.chain(tx, optax.trace(0.9)), False, False),
    "weight decay after": (lambda tx: optax.chain(tx, optax.add_decayed_weights(-0.1)), None, False),
    "lookahead": (lambda tx: optax.lookahead(tx, 2, 0.5), True, False),
    "schedule-free": (lambda tx: optax.contrib.schedule_free(tx, 1.0), False, False),
}


def start(manifold: Manifold) -> jax.Array:
    """The same points on every manifold: `unit` is the length of a unit tangent there."""
    tangents = draws.rng(4).standard_normal((6, 3)) * 0.8
    return manifold.from_tangent0(jnp.asarray(tangents) / manifold.unit)


def off(manifold: Manifold, points: Any) -> float:
    """By how much points are out of the ball, or <x, x> is not -k."""
    points = np.asarray(points)
    if isinstance(manifold, PoincareBall):
        return float(np.linalg.norm(points, axis=-1).max() - 1 / np.sqrt(0.7))
    return float(np.abs((points * points) @ np.array([-1, 1, 1, 1]) + 1.4).max())


def run(manifold: Manifold, wrap: Wrap) -> list[jax.Array]:
    """The points after each step."""
    tx, points = wrap(riemannian_sgd(RATE[manifold.name], manifolds=manifold)), start(manifold)
    ahead = isinstance(points, jax.Array) and wrap is AROUND["lookahead"][0]
    params = optax.LookaheadParams.init_synced(points) if ahead else points
    grads = jnp.asarray(draws.rng(5).standard_normal(points.shape))
    state = tx.init(params)
    step = jax.jit(lambda state, params: tx.update(grads, state, params))
    found = []
    for _ in range(STEPS[manifold.name]):
        updates, state = step(state, params)
        params = optax.apply_updates(params, updates)
        found.append(params.slow if ahead else params)
    return found


@pytest.mark.parametrize("name", AROUND)
def test_points_stay_or_leave(name: str):
    wrap, in_ball, on_hyperboloid = AROUND[name]
    ball, hyperboloid = (np.concatenate(run(manifold, wrap)) for manifold in (BALL, HYPERBOLOID))
    stays = off(BALL, ball) < 0
    assert stays == in_ball or in_ball is None, off(BALL, ball)
    rounding = 1e-12 * np.abs(hyperboloid).max() ** 2  # of the squares, whose difference is -k
    assert (off(HYPERBOLOID, hyperboloid) < rounding) == on_hyperboloid, off(HYPERBOLOID, hyperboloid)
    # where geoopt gives the distance of the boundary
    assert bool(jnp.isnan(BALL.dist0(ball)).any()) != stays


def test_the_mean_of_points_is_that_of_weight_average():
    """A mean of coordinates is on the ball, and not on the hyperboloid; the one along geodesics is the same point on both."""
    from port_jax.manifolds import lorentz_to_poincare

    unit, other = PoincareBall(1.0), Lorentz(1.0)
    means = {}
    for manifold in (unit, other):
        average, first = weight_average(manifolds=manifold), start(manifold)
        second = manifold.from_tangent0(-0.5 * manifold.to_tangent0(first)[::-1])
        means[manifold.name] = average.update(second, average.update(first, average.init(first))).average
        plain = (first + second) / 2
        assert jnp.abs(plain - means[manifold.name]).max() > 1e-2
    assert not other.check_point_on_manifold(plain)
    np.testing.assert_allclose(lorentz_to_poincare(means["Lorentz"], 1.0), means["PoincareBall"], rtol=0, atol=1e-12)
