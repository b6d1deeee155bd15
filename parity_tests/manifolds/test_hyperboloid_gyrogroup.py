"""Gyrovector operations on the hyperboloid are those of the ball under the isometry, for several curvatures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parity_tests import draws
from port_jax.manifolds import Lorentz, PoincareBall
from port_jax.manifolds.isometries import ball_to_hyperboloid, hyperboloid_to_ball
from port_jax.manifolds.stereographic import StereographicModel

RNG = draws.stream(47)


def test_the_ball_sees_the_same():
    raw = jnp.asarray(0.4 * RNG.standard_normal((3, 5, 3)))
    m, w = jnp.asarray(RNG.standard_normal((2, 3))), jnp.asarray(RNG.uniform(0.1, 1, 5))

    @jax.jit
    @jax.vmap
    def both(c):
        ball, lorentz = PoincareBall(c), Lorentz(1 / c)
        p, q = raw[0] / jnp.sqrt(c) / 2, raw[1] / jnp.sqrt(c) / 2
        r = raw[2] / jnp.sqrt(c) / 2
        x, y, z = (ball_to_hyperboloid(point, c) for point in (p, q, r))
        normal, (_, a) = raw[2], jax.jvp(lambda z: ball_to_hyperboloid(z, c), (q,), (raw[2],))
        back = lambda z: hyperboloid_to_ball(z, c)  # noqa: E731
        keep = {"project": False}
        return {
            "add": (back(lorentz.mobius_add(x, y)), ball.mobius_add(p, q, **keep)),
            "inverse": (back(lorentz.mobius_add(lorentz.mobius_neg(x), x)), jnp.zeros_like(p)),
            "sub": (back(lorentz.mobius_sub(x, y)), ball.mobius_sub(p, q, **keep)),
            "coadd": (back(lorentz.mobius_coadd(x, y)), ball.mobius_coadd(p, q, **keep)),
            "cosub": (back(lorentz.mobius_cosub(x, y)), ball.mobius_cosub(p, q, **keep)),
            "gyration": (back(lorentz.gyration(x, y, z)), ball.gyration(p, q, r)),
            "antipode": (back(lorentz.antipode(x)), ball.antipode(p)),
            "pointwise": (back(lorentz.mobius_pointwise_mul(m[0], x)), ball.mobius_pointwise_mul(m[0], p, **keep)),
            # Tangents at the origin are twice as long on the hyperboloid.
            "function": (back(lorentz.mobius_fn_apply(lambda v: 2 * jnp.sin(v / 2), x)), ball.mobius_fn_apply(jnp.sin, p, **keep)),
            "functions": (
                back(lorentz.mobius_fn_apply_chain(x, lambda v: 2 * jnp.sin(v / 2), lambda v: 3 * v)),
                ball.mobius_fn_apply_chain(p, jnp.sin, lambda v: 3 * v, **keep),
            ),
            "geodesic": (back(lorentz.geodesic(jnp.array([0.3]), x, y)), ball.geodesic(jnp.array([0.3]), p, q)),
            "linear combination": (
                back(lorentz.weighted_midpoint(x, w, lincomb=True, keepdim=True)),
                ball.weighted_midpoint(p, w, lincomb=True, keepdim=True, project=False),
            ),
            "negative weights": (
                back(lorentz.weighted_midpoint(x, w - 0.5, posweight=True)),
                ball.weighted_midpoint(p, w - 0.5, posweight=True, project=False),
            ),
            "planes": (lorentz.dist2planes(x, y, a), ball.dist2planes(p, q, normal)),
            "tangents": (lorentz.to_tangent0(x), 2 * ball.to_tangent0(p)),
            "scalar": (back(lorentz.mobius_scalar_mul(1.7, x)), ball.mobius_scalar_mul(1.7, p, **keep)),
            "matvec": (back(lorentz.mobius_matvec(m, x)), ball.mobius_matvec(m, p, **keep)),
            "midpoint": (back(lorentz.weighted_midpoint(x, w)), ball.weighted_midpoint(p, w)),
            "two points": (back(lorentz.weighted_midpoint(x[:2])), ball.geodesic(jnp.array([0.5]), p[0], p[1])),
            "plane": (lorentz.dist2plane(x, y, a), ball.dist2plane(p, q, normal)),
            "signed": (
                lorentz.dist2plane(x, y, a, signed=True, keepdim=True),
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
        z = lorentz.mobius_add(lorentz.mobius_neg(x), y)
        a = lorentz.proju(x, y)
        a = 0.8 * a / lorentz.norm(x, a, keepdim=True)
        end = lorentz.expmap(x, a)
        maps = (lambda p: lorentz.dist2plane(p, x, a), lambda p: lorentz.mobius_scalar_mul(0.5, p))
        gradients = [jax.grad(lambda p: jnp.sum(f(p)))(x) for f in maps]  # noqa: B023
        gradients.append(jax.grad(lambda p: jnp.sum(lorentz.weighted_midpoint(p, reducedim=[-2])))(jnp.stack([o, o])))
        pairs = {
            "add": (lorentz.mobius_add(x, y), lorentz.expmap(x, lorentz.transp0(x, lorentz.logmap0(y)))),
            "origin": (lorentz.mobius_add(o, y), y),
            "left translations are isometries": (lorentz.dist0(z), lorentz.dist(x, y)),
            # The distance to a plane through p along its normal is the way gone.
            "plane": (lorentz.dist2plane(end, x, a, signed=True), jnp.full(5, 0.8)),
            "scaled": (lorentz.dist2plane(end, x, a, scaled=True), jnp.full(5, 0.64)),
        }
        return pairs, gradients

    pairs, gradients = sides(noise)
    for name, (mine, expected) in pairs.items():
        np.testing.assert_allclose(mine, expected, rtol=1e-13 if name == "origin" else 1e-9, err_msg=name)
    assert all(np.isfinite(g).all() for g in gradients)


def test_both_models_offer_the_same_list():
    """But for what is the model's own: the conformal factor and the projection, ambient products, the way back to the origin, and what
    subclasses of the other have."""
    offered = [{n for n in dir(cls) if not n.startswith("_")} for cls in (StereographicModel, Lorentz)]
    own = {"lambda_x", "radius", "spherical", "sproj", "inv_sproj"}, {"k", "inner0", "logmap0back", "from_raw"}
    assert offered[0] - offered[1] == own[0]
    assert offered[1] - offered[0] == own[1]


@pytest.mark.slow  # test_random.py has the distribution of the hyperboloid
def test_normal_points_lie_around_their_mean():
    """The squared distance to the mean is that of d normal numbers, on ball and hyperboloid; tangents have the metric's deviation."""
    for manifold, mean in ((PoincareBall(0.7), jnp.array([0.3, -0.2])), (Lorentz(1.7), Lorentz(1.7).from_tangent0(jnp.array([0.4, 0.9])))):
        points = jax.jit(lambda key, m=manifold, x=mean: m.wrapped_normal(key, 4000, x.shape[-1], mean=x, std=0.3))(draws.key(3))
        square = manifold.dist2(mean, points) / 0.3**2
        # chi squared with 2 degrees of freedom: mean 2, variance 4
        assert abs(float(square.mean()) - 2) < 5 * 2 / 4000**0.5
