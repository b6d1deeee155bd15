"""Curvature by automatic differentiation is the curvature that each manifold claims; integrated geodesics end where expmap says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from parity_tests import draws, slow
from port_jax.manifolds import (
    Lorentz,
    PoincareBall,
    ProductManifold,
    Sphere,
    SphereProjection,
    SymmetricPositiveDefinite,
    UpperHalf,
)
from port_jax.manifolds.isometries import half_space_metric, klein_metric
from port_jax.riemannian_geometry import (
    christoffel,
    geodesic,
    metric_of,
    parallel_transport,
    ricci,
    riemann,
    scalar_curvature,
    sectional_curvature,
)

RNG = draws.stream(41)
X, U, V = jnp.asarray(0.3 * RNG.standard_normal((3, 3))) + jnp.array([0.0, 0.0, 0.2])
# Inside the ball of curvature -2.3, whose radius is 0.66, and above the half-space's boundary, whatever was drawn.
X = jnp.abs(X) + 0.1
X = X * jnp.minimum(1, 0.5 / jnp.linalg.norm(X))
D = 3


def hyperboloid(k):
    return lambda q: jnp.concatenate([jnp.sqrt(k + jnp.sum(q * q))[None], q])


def graph_of_sphere(q):
    return jnp.concatenate([q, jnp.sqrt(1 - jnp.sum(q * q))[None]])


METRICS = {
    "ball": (lambda c: Partial(metric_of, PoincareBall(c)), -1),
    "projected sphere": (lambda c: Partial(metric_of, SphereProjection(c)), 1),
    "hyperboloid": (lambda c: Partial(lambda c, q: metric_of(Lorentz(1 / c), q, hyperboloid(1 / c)), c), -1),
    "klein": (lambda c: Partial(lambda c, q: klein_metric(q, c), c), -1),
    "half-space": (lambda c: Partial(lambda c, q: half_space_metric(q, c), c), -1),
}


@pytest.mark.parametrize("name", slow.all_but({"ball", "half-space"}, METRICS))
def test_constant_curvature(name):
    """K = ±c in every plane, Ric = (d - 1) K g, S = d (d - 1) K, and dK/dc = ±1."""
    metric, sign = METRICS[name]

    @jax.jit
    def curvatures(c):
        m = metric(c)
        k, slope = jax.jvp(lambda c: sectional_curvature(metric(c), X, U, V), (c,), (1.0,))
        return k, slope, ricci(m, X), m(X), scalar_curvature(m, X), riemann(m, X)

    for c in (0.7, 2.3):
        k, slope, ric, g, scalar, full = curvatures(c)
        np.testing.assert_allclose(k, sign * c, rtol=1e-10)
        np.testing.assert_allclose(slope, sign, rtol=1e-9)
        np.testing.assert_allclose(ric, (D - 1) * sign * c * g, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(scalar, D * (D - 1) * sign * c, rtol=1e-10)
        lowered = jnp.einsum("ml,lijk->mijk", g, full)
        expected = sign * c * (jnp.einsum("mj,ik->mijk", g, g) - jnp.einsum("mk,ij->mijk", g, g))
        np.testing.assert_allclose(lowered, expected, atol=1e-8 * float(jnp.abs(g).max()) ** 2)


@pytest.mark.slow
def test_other_manifolds():
    """The sphere's graph, a flat factor of a product, SPD matrices (between -1/2 and 0), the Siegel half plane (-1)."""
    q = 0.5 * X
    np.testing.assert_allclose(
        jax.jit(lambda: sectional_curvature(lambda q: metric_of(Sphere(), q, graph_of_sphere), q, U, V))(), 1, rtol=1e-10
    )
    product = ProductManifold((PoincareBall(0.7), 2), (PoincareBall(1.9), 2))
    mixed, e = Partial(metric_of, product), jnp.eye(4)
    x = jnp.array([0.1, 0.2, -0.2, 0.3])
    planes = jax.jit(jax.vmap(lambda u, v: sectional_curvature(mixed, x, u, v)))(e[jnp.array([0, 2, 0])], e[jnp.array([1, 3, 2])])
    np.testing.assert_allclose(planes, [-0.7, -1.9, 0], atol=1e-10)

    def symmetric(q):
        return jnp.array([[1 + q[0], q[1]], [q[1], 1 + q[2]]])

    spd = Partial(lambda q: metric_of(SymmetricPositiveDefinite(), q, symmetric))
    planes = jax.jit(jax.vmap(lambda u, v: sectional_curvature(spd, 0 * X, u, v)))(
        jnp.array([[1.0, 0, -1], [1, 0, 1]]), jnp.array([[0.0, 1, 0], [0, 1, 0]])
    )
    np.testing.assert_allclose(planes, [-0.5, 0], atol=1e-12)

    def half_plane(q):
        return (q[0] + 1j * q[1])[None, None]

    siegel = Partial(lambda q: metric_of(UpperHalf(), q, half_plane))
    e = jnp.eye(2)
    found = jax.jit(lambda: sectional_curvature(siegel, jnp.array([0.3, 0.8]), e[0], e[1]))()
    np.testing.assert_allclose(found, -1, rtol=1e-12)


def test_christoffel_of_polar_coordinates():
    """dr² + r² dθ²: Γ^r_θθ = -r, Γ^θ_rθ = 1/r, and no curvature."""
    metric = Partial(lambda q: jnp.diag(jnp.array([1.0, 1.0]).at[1].set(q[0] ** 2)))
    q = jnp.array([1.7, 0.4])
    expected = np.zeros((2, 2, 2))
    expected[0, 1, 1], expected[1, 0, 1], expected[1, 1, 0] = -1.7, 1 / 1.7, 1 / 1.7
    symbols, full = jax.jit(lambda q: (christoffel(metric, q), riemann(metric, q)))(q)
    np.testing.assert_allclose(symbols, expected, atol=1e-15)
    np.testing.assert_allclose(full, 0, atol=1e-14)


@pytest.mark.parametrize(
    "manifold",
    [pytest.param(PoincareBall(0.7), id="ball"), pytest.param(SphereProjection(1.3), id="projected sphere", marks=pytest.mark.slow)],
)
def test_geodesics_and_transport(manifold):
    metric = Partial(metric_of, manifold)
    x, u, v = 0.7 * X, 0.5 * U, V

    @jax.jit
    def both():
        y = manifold.expmap(x, u)
        return (*geodesic(metric, x, u), parallel_transport(metric, x, u, v)), (y, manifold.transp(x, y, u), manifold.transp(x, y, v))

    for found, expected in zip(*both(), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-8)


@pytest.mark.slow  # the tests above integrate, and the curvature differentiates the metric
def test_geodesic_differentiates_in_the_metric():
    def integrated(c):
        return jnp.sum(V * geodesic(Partial(metric_of, PoincareBall(c)), X, U)[0])

    def closed(c):
        return jnp.sum(V * PoincareBall(c).expmap(X, U))

    slope, expected = jax.jit(lambda c: (jax.grad(integrated)(c), jax.grad(closed)(c)))(0.7)
    np.testing.assert_allclose(slope, expected, rtol=1e-6)


def test_geodesic_of_the_hyperboloid_chart():
    chart = hyperboloid(1 / 0.7)
    manifold, metric = Lorentz(1 / 0.7), METRICS["hyperboloid"][0](0.7)

    @jax.jit
    def both():
        end = geodesic(metric, X, U)[0]
        return chart(end), manifold.expmap(*jax.jvp(chart, (X,), (U,)))

    np.testing.assert_allclose(*both(), atol=1e-7)
