"""Gyrovector operations on the hyperboloid are those of the ball under the isometry, for several curvatures."""

import jax
import jax.numpy as jnp
import numpy as np

from parity_tests import draws
from port_jax.manifolds import Lorentz, PoincareBall
from port_jax.manifolds.lorentz_gyro import (
    gyro_midpoint,
    lorentz_centroid,
    lorentz_dist2plane,
    lorentz_mobius_add,
    lorentz_mobius_matvec,
    lorentz_mobius_neg,
    lorentz_mobius_scalar_mul,
)
from port_jax.manifolds.models import ball_to_hyperboloid, hyperboloid_to_ball

RNG = draws.stream(47)


def test_the_ball_sees_the_same():
    raw = jnp.asarray(0.4 * RNG.standard_normal((3, 5, 3)))
    m, w = jnp.asarray(RNG.standard_normal((2, 3))), jnp.asarray(RNG.uniform(0.1, 1, 5))

    @jax.jit
    @jax.vmap
    def both(c):
        ball, lorentz = PoincareBall(c), Lorentz(1 / c)
        p, q = raw[0] / jnp.sqrt(c) / 2, raw[1] / jnp.sqrt(c) / 2
        x, y = ball_to_hyperboloid(p, c), ball_to_hyperboloid(q, c)
        normal, (_, a) = raw[2], jax.jvp(lambda z: ball_to_hyperboloid(z, c), (q,), (raw[2],))
        back = lambda z: hyperboloid_to_ball(z, c)  # noqa: E731
        keep = {"project": False}
        return {
            "add": (back(lorentz_mobius_add(lorentz, x, y)), ball.mobius_add(p, q, **keep)),
            "inverse": (back(lorentz_mobius_add(lorentz, lorentz_mobius_neg(x), x)), jnp.zeros_like(p)),
            "scalar": (back(lorentz_mobius_scalar_mul(lorentz, 1.7, x)), ball.mobius_scalar_mul(1.7, p, **keep)),
            "matvec": (back(lorentz_mobius_matvec(lorentz, m, x)), ball.mobius_matvec(m, p, **keep)),
            "midpoint": (back(lorentz_centroid(lorentz, x, w)), gyro_midpoint(ball, p, w)),
            "two points": (back(gyro_midpoint(lorentz, x[:2])), ball.geodesic(jnp.array([0.5]), p[0], p[1])),
            "plane": (lorentz_dist2plane(lorentz, x, y, a), ball.dist2plane(p, q, normal)),
            "signed": (
                lorentz_dist2plane(lorentz, x, y, a, signed=True, keepdim=True),
                ball.dist2plane(p, q, normal, signed=True, keepdim=True),
            ),
        }

    for name, (mine, expected) in both(jnp.array([0.02, 0.7, 9.0])).items():
        np.testing.assert_allclose(mine, expected, rtol=1e-9, atol=1e-12 * float(jnp.abs(expected).max() + 1), err_msg=name)


def test_laws():
    lorentz = Lorentz(1.4)
    noise, o = jnp.asarray(RNG.standard_normal((2, 5, 4))), lorentz.origin(4)

    @jax.jit
    def sides(noise):
        """Pairs that agree, and gradients."""
        x, y = lorentz.expmap0(lorentz.proju(o, noise))
        z = lorentz_mobius_add(lorentz, lorentz_mobius_neg(x), y)
        a = lorentz.proju(x, y)
        a = 0.8 * a / lorentz.norm(x, a, keepdim=True)
        end = lorentz.expmap(x, a)
        maps = (lambda p: lorentz_dist2plane(lorentz, p, x, a), lambda p: lorentz_mobius_scalar_mul(lorentz, 0.5, p))
        gradients = [jax.grad(lambda p: jnp.sum(f(p)))(x) for f in maps]  # noqa: B023
        gradients.append(jax.grad(lambda p: jnp.sum(lorentz_centroid(lorentz, p)))(jnp.stack([o, o])))
        pairs = {
            "add": (lorentz_mobius_add(lorentz, x, y), lorentz.expmap(x, lorentz.transp0(x, lorentz.logmap0(y)))),
            "origin": (lorentz_mobius_add(lorentz, o, y), y),
            "left translations are isometries": (lorentz.dist0(z), lorentz.dist(x, y)),
            # The distance to a plane through p along its normal is the way gone.
            "plane": (lorentz_dist2plane(lorentz, end, x, a, signed=True), jnp.full(5, 0.8)),
            "scaled": (lorentz_dist2plane(lorentz, end, x, a, scaled=True), jnp.full(5, 0.64)),
        }
        return pairs, gradients

    pairs, gradients = sides(noise)
    for name, (mine, expected) in pairs.items():
        np.testing.assert_allclose(mine, expected, rtol=1e-13 if name == "origin" else 1e-9, err_msg=name)
    assert all(np.isfinite(g).all() for g in gradients)
