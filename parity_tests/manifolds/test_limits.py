"""Where formulas usually fail: coincident points, the origin, zero tangents, padded rows, antipodes, k = 0, far points, bad input."""

from __future__ import annotations

import functools

import geoopt
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import torch

from parity_tests import cases, draws, slow
from parity_tests.oracle import stereographic as oracle
from port_jax.manifolds import Euclidean, Lorentz, PoincareBall, Sphere, SphereProjection, Stereographic, trig
from port_jax.manifolds.hyperboloid import geodesics
from port_jax.manifolds.stereographic.metric import lambda_x

RNG = draws.stream(3)


@functools.cache
def compiled(function, twice):
    """Value, gradient and, if so asked, Hessian-vector product of (k, x, y, u) -> array, with fixed weights over its entries."""

    def weighed(*args):
        out = function(*args)
        return jnp.sum(jnp.sin(jnp.arange(1.0, 1 + out.size, dtype=out.dtype)).reshape(out.shape) * out)

    gradient = jax.grad(weighed, argnums=(0, 1, 2, 3))
    if not twice:
        return jax.jit(lambda k, x, y, u: (function(k, x, y, u), gradient(k, x, y, u)))
    return jax.jit(lambda k, x, y, u: (function(k, x, y, u), *jax.jvp(gradient, (k, x, y, u), (k, y, u, x))))


def derivatives(functions, k, x, y, u, twice):
    """`compiled` of each, with second derivatives of those in `twice`."""
    return {name: compiled(f, name in twice)(k, x, y, u) for name, f in functions.items()}


def assert_finite(found):
    bad = [name for name, parts in found.items() if not all(np.isfinite(p).all() for p in jax.tree.leaves(parts))]
    assert not bad, f"not finite: {bad}"


BALL = {
    name: lambda k, x, y, u, call=call: call(Stereographic(k), x, y, u)
    for name, call in {
        "dist": lambda m, x, y, u: m.dist(x, y),
        "dist2": lambda m, x, y, u: m.dist2(x, y),
        "dist0": lambda m, x, y, u: m.dist0(x),
        "expmap": lambda m, x, y, u: m.expmap(x, u),
        "expmap0": lambda m, x, y, u: m.expmap0(u),
        "logmap": lambda m, x, y, u: m.logmap(x, y),
        "logmap0": lambda m, x, y, u: m.logmap0(x),
        "transp": lambda m, x, y, u: m.transp(x, y, u),
        "norm": lambda m, x, y, u: m.norm(x, u),
        "mobius_add": lambda m, x, y, u: m.mobius_add(x, y),
        "mobius_matvec": lambda m, x, y, u: m.mobius_matvec(jnp.eye(4)[:3], x),
        "dist2plane": lambda m, x, y, u: m.dist2plane(x, y, u),
        "midpoint": lambda m, x, y, u: m.weighted_midpoint(jnp.stack([x, y]), reducedim=[0]),
    }.items()
}
LORENTZ = {
    name: lambda k, x, y, u, call=call: call(Lorentz(k), Lorentz(k).projx(x), Lorentz(k).projx(y), Lorentz(k).proju(Lorentz(k).projx(x), u))
    for name, call in {
        "dist": lambda m, x, y, u: m.dist(x, y),
        "dist2": lambda m, x, y, u: m.dist2(x, y),
        "dist0": lambda m, x, y, u: m.dist0(x),
        "expmap": lambda m, x, y, u: m.expmap(x, u),
        "expmap0": lambda m, x, y, u: m.expmap0(u.at[..., 0].set(0)),
        "logmap": lambda m, x, y, u: m.logmap(x, y),
        "logmap0": lambda m, x, y, u: m.logmap0(x),
        "transp": lambda m, x, y, u: m.transp(x, y, u),
        "norm": lambda m, x, y, u: m.norm(x, u),
    }.items()
}


def special(d, scale):
    x, y = cases.special_rows(scale * RNG.uniform(-1, 1, (2, d)), scale * RNG.uniform(-1, 1, (2, d)))
    u = RNG.standard_normal(x.shape)
    u[[0, 2, 5]] = 0  # zero tangents: at a general point, at a coincident pair, on a padded row
    return x, y, u


# Where points coincide these have no second derivative but by care; the rest is made of them.
CAREFUL = ("dist", "logmap")
FINITE = [(np.float32, CAREFUL), *(pytest.param(dtype, (*BALL, *LORENTZ), marks=pytest.mark.slow) for dtype in (np.float32, np.float64))]


@pytest.mark.parametrize(("dtype", "twice"), FINITE)
def test_ball_is_finite(dtype, twice):
    x, y, u = (a.astype(dtype) for a in special(4, 0.3))
    for k in (dtype(-1.3), dtype(0.0)):
        found = derivatives(BALL, k, x, y, u, twice)
        assert_finite(found)
        assert found["dist"][0][2] == 0
        # the true Jacobian of expmap0 and logmap0 at the origin is the identity
    jacobian = jax.jacobian(PoincareBall(1.3).logmap0)(np.zeros(4, dtype))
    np.testing.assert_array_equal(jacobian, np.eye(4))


@pytest.mark.slow  # test_far_points.py is its like
@pytest.mark.parametrize(("dtype", "twice"), FINITE)
def test_lorentz_is_finite(dtype, twice):
    x, y, u = (a.astype(dtype) for a in special(5, 0.7))
    found = derivatives(LORENTZ, dtype(1.7), x, y, u, twice)
    assert_finite(found)
    # row 2 is a point with itself
    assert found["dist"][0][2] == 0
    assert found["dist"][1][1][2].max() == 0


def test_second_derivative_of_squared_distance_where_points_coincide():
    """Half the Hessian of d² is the metric."""
    x = jnp.asarray([0.2, -0.3])
    ball, sphere = PoincareBall(1.3), SphereProjection(0.7)
    hessian = jax.jit(jax.hessian(lambda y, m: Stereographic(m.k).dist2(x, y)))
    for m in (ball, sphere, Stereographic(0.0)):
        found = hessian(x, Stereographic(jnp.asarray(m.k, float)))
        np.testing.assert_allclose(found / 2, m.lambda_x(x) ** 2 * np.eye(2), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("function", ["tan_k", "artan_k", "sin_k", "arsin_k"])
def test_derivative_in_k_across_zero(function):
    """Value, first and second derivative with respect to k, across the switches between series and closed forms."""
    ks = np.array([-4.0, -1.0, -0.41, -0.39, -1e-2, -1e-6, -1e-9, 0.0, 1e-12, 1e-6, 1e-2, 0.39, 0.41, 1.0, 3.0])
    x = 0.49
    f = lambda k: getattr(trig, function)(jnp.asarray(x), k)  # noqa: E731
    found = jax.jit(jax.vmap(lambda k: (f(k), jax.grad(f)(k), jax.grad(jax.grad(f))(k))))(ks)
    with mpmath.workdps(60):
        closed = lambda k: getattr(oracle, function)(mpmath.mpf(x), k)  # noqa: E731
        h = mpmath.mpf(10) ** -15
        for i, k in enumerate(map(mpmath.mpf, ks)):
            below, at, above = closed(k - h), closed(k), closed(k + h)
            if abs(k) < h:  # the closed form at k = 0 is exact, its neighbours are close enough
                at = mpmath.mpf(x)
            exact = at, (above - below) / (2 * h), (above - 2 * at + below) / h**2
            for have, want, ulp in zip((f_i[i] for f_i in found), exact, (4, 64, 4096)):
                assert abs(float(have) - float(want)) <= ulp * 2.3e-16 * max(abs(float(want)), 1e-3), (k, have, want)


@pytest.mark.parametrize("dtype", slow.all_but({np.float64}, [np.float32, np.float64]))
def test_where_geoopt_clamps_or_cancels(dtype):
    """artanh of small numbers, arsinh of a large negative one, and the unit sphere's distance and exponential where |u| = 0."""
    eps = np.finfo(dtype).eps
    for function, x, exact in ((trig.artan_k, 1e-6, mpmath.atanh), (trig.artan_k, 1e-8, mpmath.atanh), (trig.arsin_k, -1e4, mpmath.asinh)):
        x = dtype(x)
        assert abs(float(function(x, dtype(-1))) / float(exact(mpmath.mpf(float(x)))) - 1) <= 4 * eps
    s, weights = np.array([0.6, 0.0, 0.8], dtype), np.array([0.3, -1.1, 0.7], dtype)
    sphere = Sphere()
    assert sphere.dist(s, s) == 0
    np.testing.assert_array_equal(jax.grad(sphere.dist)(s, s), 0 * s)
    gradient = jax.grad(lambda u: jnp.vdot(weights, sphere.expmap(s, u)))(0 * s)
    np.testing.assert_allclose(gradient, weights, rtol=4 * eps)


def test_antipodes():
    """Distance and its gradient at antipodal points near the boundary, and on the sphere, where geoopt is saturated."""
    edge = np.float64(1 - 1e-12)
    x, y = np.array([edge, 0.0]), np.array([-edge, 0.0])
    ball = PoincareBall(1.0)
    want = float(4 * mpmath.atanh(mpmath.mpf(edge)))
    np.testing.assert_allclose(ball.dist(x, y), want, rtol=1e-5)  # 1 - |x|² has five digits left
    gradient = jax.grad(lambda a: ball.dist(a, y))(x)
    np.testing.assert_allclose(gradient, [float(2 / (1 - mpmath.mpf(edge) ** 2)), 0], rtol=1e-4, atol=1e-4 * gradient[0])
    sphere = SphereProjection(0.7)
    p = np.array([0.3, 0.4])
    np.testing.assert_allclose(sphere.dist(p, sphere.antipode(p)), np.pi / np.sqrt(0.7), rtol=1e-15)
    assert np.isfinite(sphere.logmap(p, sphere.antipode(p))).all()


@pytest.mark.parametrize("dtype", slow.all_but({np.float32}, [np.float32, np.float64]))
def test_lorentz_far_points(dtype):
    """The distance of far points to themselves and neighbours, and expmap0 beyond what the dtype can hold."""
    m = Lorentz(np.array(1.0, dtype))
    x = m.projx(np.array([0, 3000.0, 4000.0], dtype))
    assert m.dist(x, x) == 0
    y = m.expmap(x, jnp.stack([x[1] / 0.6, 0.6 * x[0], 0.8 * x[0]]))  # the radial unit tangent
    np.testing.assert_allclose(m.dist(x, y), 1, rtol=1e-6)
    assert np.isfinite(m.logmap(x, y)).all()
    far = m.expmap0(np.array([0, 60.0, 80.0], dtype))
    assert np.isfinite(far).all()
    gradient = jax.grad(lambda u: m.dist0(m.expmap0(u)))(np.array([0, 30.0, 40.0], dtype))
    np.testing.assert_allclose(gradient, [0, 0.6, 0.8], rtol=64 * np.finfo(dtype).eps * 50, atol=1e-4)


def test_posweight_on_the_sphere_takes_the_antipodes_factor():
    """geoopt keeps the conformal factor of the point that it has replaced; the midpoint in the ambient space says who is right."""
    sphere = SphereProjection(0.7)
    xs, w = cases.ball_points(RNG, 4, 3, 0.7, 0.6), np.array([1.0, -0.4, 0.8, 0.6])
    mine = sphere.weighted_midpoint(xs, w, posweight=True)
    total = np.sum(w[:, None] * np.asarray(sphere.inv_sproj(xs)), 0)
    ambient = total / np.linalg.norm(total) / np.sqrt(0.7)
    candidates = [np.asarray(sphere.sproj(s * ambient)) for s in (1, -1)]
    assert min(np.abs(mine - c).max() for c in candidates) < 1e-14
    theirs = geoopt.Stereographic(torch.tensor(0.7, dtype=torch.float64)).weighted_midpoint(
        torch.tensor(xs), torch.tensor(w), posweight=True
    )
    assert min(np.abs(theirs.numpy() - c).max() for c in candidates) > 1e-2


def test_float32_without_x64_is_the_same():
    x, y = (cases.ball_points(RNG, 6, 4, -1.0, 0.9).astype(np.float32) for _ in range(2))
    lift = lambda a: np.concatenate([np.zeros_like(a[:, :1]), a], 1)  # noqa: E731

    def operations(ball, lorentz, x, y, high, low):
        return ball.dist(x, y), ball.logmap(x, y), ball.transp(x, y, x), lorentz.dist(lorentz.projx(high), lorentz.projx(low))

    def run():
        out = jax.jit(operations)(PoincareBall(0.7), Lorentz(1.3), x, y, lift(x), lift(y))
        return [np.asarray(o) for o in out]

    with_x64 = run()
    with jax.enable_x64(False):
        without = run()
    for a, b in zip(with_x64, without):
        assert a.dtype == b.dtype == np.float32
        np.testing.assert_array_equal(a, b)


def test_raw_curvature():
    """c = softplus(isp_c) both ways, also where exp(c) overflows."""
    for c in (1e-3, 0.7, 5.0, 95.0):
        theirs = geoopt.PoincareBall(torch.tensor(c, dtype=torch.float64))
        raw = float(PoincareBall(c).isp_c)
        np.testing.assert_allclose(raw, theirs.isp_c.item(), rtol=1e-10, atol=1e-13)
        np.testing.assert_allclose(float(PoincareBall.from_raw(raw).c), c, rtol=1e-12)
        np.testing.assert_allclose(float(SphereProjection.from_raw(SphereProjection(c).isp_k).k), c, rtol=1e-12)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: PoincareBall(0.0), "PoincareBall(c=0.0)"),
        (lambda: PoincareBall(-1.0), "c is minus the curvature"),
        (lambda: PoincareBall(float("nan")), "finite and positive"),
        (lambda: SphereProjection(-0.5), "SphereProjection(k=-0.5)"),
        (lambda: Lorentz(jnp.array(-1.0)), "squared radius"),
        (lambda: Stereographic(float("inf")), "finite"),
        (lambda: Euclidean(-1), "ndim"),
    ],
)
def test_bad_curvature_raises(build, says):
    with pytest.raises(ValueError) as error:
        build()
    assert says in str(error.value)


def test_pytrees_pass_through():
    """Gradients and placeholders are manifolds too, whatever their sign; curvature is a leaf that jit, grad and vmap see."""
    ball = PoincareBall(0.7)
    x, y = np.array([0.1, 0.2]), np.array([-0.3, 0.4])
    gradient = jax.jit(jax.grad(lambda m: m.dist(x, y)))(ball)
    assert isinstance(gradient, PoincareBall)
    assert np.isfinite(gradient.c)
    assert jax.tree.map(lambda c: -c, ball).c == -0.7
    many = jax.vmap(lambda m: m.dist(x, y))(PoincareBall(jnp.array([0.1, 0.7])))
    np.testing.assert_allclose(many[1], ball.dist(x, y), rtol=1e-14)
    assert hash(ball) == hash(PoincareBall(0.7))
    assert ball == PoincareBall(0.7)


def test_checks_say_why():
    ball, lorentz = PoincareBall(1.0), Lorentz(2.0)
    ok, reason = ball.check_point_on_manifold(np.array([0.9, 0.9]), explain=True)
    assert not ok
    assert "1.27" in reason
    assert ball.check_point_on_manifold(np.array([0.5, 0.5]))
    with pytest.raises(ValueError, match="projx"):
        lorentz.assert_check_point_on_manifold(np.array([1.0, 1.0]))
    with pytest.raises(ValueError, match="proju"):
        lorentz.assert_check_vector_on_tangent(lorentz.origin(3), np.array([1.0, 0.0, 0.0]))
    with pytest.raises(ValueError, match="time"):
        lorentz.assert_check_point(np.array([1.0]))
    x = lorentz.random_normal(draws.key(0), 5, 4)
    assert lorentz.check_point_on_manifold(x)
    assert ball.check_point_on_manifold(ball.random_normal(draws.key(1), 5, 4))


def test_functions_used_by_no_method():
    """project_polar against its definition."""
    direction = np.array([0.6, 0.8])
    x = geodesics.project_polar(np.array([*direction, 1.5]), 2.0)
    m = Lorentz(2.0)
    assert m.check_point_on_manifold(x)
    np.testing.assert_allclose(m.dist0(x), 1.5, rtol=1e-14)
    assert lambda_x(np.zeros((1, 2)), -1.0) == 2
