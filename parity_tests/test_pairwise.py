"""Distances between all pairs: against the manifold's own `dist`, geoopt, and mpmath for near points; derivatives; memory."""

from __future__ import annotations

from functools import partial
from itertools import product

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from parity_tests import draws, slow
from parity_tests.oracle import stereographic as oracle
from port_jax import pairwise
from port_jax.manifolds import Lorentz, PoincareBall, Sphere, Stereographic
from port_jax.pairwise import pairwise_dist, pairwise_dist2plane

CASES = [PoincareBall(0.1), PoincareBall(0.7), PoincareBall(10.0), Lorentz(0.4), Lorentz(1.0), Lorentz(3.0)]
OTHERS = [Stereographic(0.5), Sphere()]


@jax.jit
def _placed(manifold, u):
    return manifold.projx(u if isinstance(manifold, Sphere) else manifold.expmap0(u))


def _points(manifold, n, d, seed=0, scale=1.0):
    u = draws.rng(seed).standard_normal((n, d)) * scale / d**0.5
    if isinstance(manifold, Lorentz):
        u[:, 0] = 0
    return _placed(manifold, jnp.asarray(u))


def _plain(manifold, x, y):
    return manifold.dist(x[:, None], y[None])


@jax.jit
def _both(manifold, x, y, g):
    """`pairwise_dist` and `dist` itself, each with its derivatives; one program for all curvatures."""

    def pulled(f):
        # on the hyperboloid only directions along it count
        value, pull = jax.vjp(lambda x, y: f(manifold, manifold.projx(x), manifold.projx(y)), x, y)
        return value, *pull(g)

    return pulled(pairwise_dist), pulled(_plain)


# In make test the ball in 3 dimensions and the hyperboloid in 40 too, where sums have another form; of the others one.
KEPT = [*product([3], [*CASES, Sphere()]), *product([40], CASES[3:])]


@pytest.mark.parametrize(("d", "manifold"), slow.all_but(KEPT, product([3, 40], [*CASES, *OTHERS])), ids=str)
def test_equals_dist_with_its_derivatives(manifold, d):
    x, y = _points(manifold, 17, d), _points(manifold, 9, d, 1)
    y = y.at[2].set(x[5])
    g = jnp.asarray(draws.rng(2).standard_normal((17, 9)))
    for a, b in zip(*_both(manifold, x, y, g), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * float(jnp.abs(b).max()))


def test_points_alone_are_taken_with_themselves():
    x = _points(CASES[1], 17, 3)
    found, expected = jax.jit(lambda x: (pairwise_dist(CASES[1], x), pairwise_dist(CASES[1], x, x)))(x)
    np.testing.assert_allclose(found, expected, rtol=0)


@pytest.mark.parametrize(
    ("make", "value"), [pytest.param(PoincareBall, 0.7, id="c", marks=pytest.mark.slow), pytest.param(Lorentz, 1.7, id="k")]
)
def test_derivative_by_the_curvature(make, value):
    x, y = _points(make(value), 7, 4), _points(make(value), 6, 4, 1)
    g = jnp.asarray(draws.rng(2).standard_normal((7, 6)))

    def total(f, c):
        M = make(c)
        on = (M.projx(x), M.projx(y)) if make is Lorentz else (x, y)
        return jnp.vdot(g, f(M, *on))

    found, true = jax.jit(lambda c: [jax.grad(partial(total, f))(c) for f in (pairwise_dist, _plain)])(jnp.asarray(value))
    np.testing.assert_allclose(found, true, rtol=1e-9)


@pytest.mark.slow  # test_equals_dist_with_its_derivatives has the first
def test_second_derivatives():
    M = PoincareBall(0.7)
    x, y, t = _points(M, 5, 3), _points(M, 4, 3, 1), _points(M, 5, 3, 2)

    def bent(f):
        return jax.jvp(jax.grad(lambda x: jnp.sum(jnp.sin(f(M, x, y)))), (x,), (t,))[1]

    found, true = jax.jit(lambda: (bent(pairwise_dist), bent(_plain)))()
    np.testing.assert_allclose(found, true, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("distance", [1e-1, 1e-3, 1e-5])
def test_near_points_against_fifty_digits(distance):
    """float32: within a few ulp of the truth of its arguments, where a Gram form and geoopt are off by orders."""
    c, rng = 0.7, draws.rng(3)
    x = np.asarray(_points(PoincareBall(c), 40, 16), np.float32)
    y = (x + distance * rng.standard_normal(x.shape)).astype(np.float32)
    found = np.diag(jax.jit(pairwise_dist)(PoincareBall(c), jnp.asarray(x), jnp.asarray(y))).astype(float)
    truth = np.array([float(oracle.dist([float(v) for v in a], [float(v) for v in b], -c)) for a, b in zip(x, y, strict=True)])
    theirs = np.array(geoopt.PoincareBall(c).dist(torch.tensor(x), torch.tensor(y)), float)
    error, their_error = (np.max(np.abs(f - truth) / truth) for f in (found, theirs))
    assert error < 16 * np.finfo(np.float32).eps
    assert error <= their_error


def test_no_array_over_pairs_and_coordinates():
    """2,000 x 2,000 pairs in 16 dimensions, value and gradient: three matrices at most; the array would be 16."""
    n, d = 2000, 16
    x = jax.ShapeDtypeStruct((n, d), jnp.float32)
    g = jax.ShapeDtypeStruct((n, n), jnp.float32)

    def both(x, y, g):
        value, pull = jax.vjp(lambda x, y: pairwise_dist(PoincareBall(0.7), x, y), x, y)
        return value, pull(g)

    memory = jax.jit(both).lower(x, x, g).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 3 * 4 * n * n


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"y has shape \(4, 3\).*x has \(5, 2\)"):
        pairwise_dist(PoincareBall(1.0), jnp.zeros((5, 2)), jnp.zeros((4, 3)))


def _planes(n, d, seed=3):
    rng = draws.rng(seed)
    return _points(PoincareBall(0.7), n, d, seed), jnp.asarray(rng.standard_normal((n, d)))


@jax.jit
def _both_of_planes(c, x, p, a, g):
    def pulled(f):
        value, pull = jax.vjp(lambda c, x, p, a: f(PoincareBall(c), x, p, a), c, x, p, a)
        return value, *pull(g)

    def plain(ball, x, p, a):
        return ball.dist2plane(x[:, None], p, a, signed=True)

    return pulled(pairwise_dist2plane), pulled(plain)


@pytest.mark.parametrize("c", [0.1, 0.7, 10.0])
@pytest.mark.parametrize("d", slow.all_but({40}, [3, 40]))
def test_planes_equal_dist2plane_with_their_derivatives(c, d):
    ball = PoincareBall(c)
    x, (p, a) = _points(ball, 17, d), _planes(6, d)
    p = ball.projx(p * (0.7 / c) ** 0.5).at[2].set(x[5])
    g = jnp.asarray(draws.rng(2).standard_normal((17, 6)))
    for ours, theirs in zip(*_both_of_planes(jnp.asarray(c), x, p, a, g), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9 * float(jnp.abs(theirs).max()))


def test_planes_near_their_points_in_float32():
    """Points 1e-3 from a plane's own point: values and derivatives as near to float64 as those of geoopt, which sums differences."""
    x, (p, a) = _points(PoincareBall(0.7), 64, 16), _planes(4, 16)
    x = x.at[:32].set(p[np.arange(32) % 4] + 1e-3 * x[:32])
    g = draws.rng(4).standard_normal((64, 4))

    @jax.jit
    def pulled(g, *leaves):
        value, pull = jax.vjp(lambda *v: pairwise_dist2plane(PoincareBall(0.7), *v), *leaves)
        return value, *pull(g)

    def ours(dtype):
        return [np.asarray(v, np.float64) for v in pulled(*(jnp.asarray(v, dtype) for v in (g, x, p, a)))]

    leaves = [torch.tensor(np.asarray(v, np.float32)).requires_grad_() for v in (x, p, a)]
    value = geoopt.PoincareBall(0.7).dist2plane(leaves[0][:, None], leaves[1], leaves[2], signed=True)
    value.backward(torch.tensor(g, dtype=torch.float32))
    theirs = [value.detach(), *(v.grad for v in leaves)]
    for truth, mine, original in zip(ours(jnp.float64), ours(jnp.float32), theirs, strict=True):
        scale = np.abs(truth).max()
        assert np.abs(mine - truth).max() <= max(np.abs(original.numpy() - truth).max(), 16 * np.finfo(np.float32).eps * scale)


@pytest.mark.slow  # the tests above have one block
@pytest.mark.parametrize("manifold", [PoincareBall(0.7), Lorentz(1.0)], ids=str)
def test_blocks_and_strips_join_without_a_seam(monkeypatch, manifold):
    x, y = _points(manifold, 23, 4), _points(manifold, 17, 4, 1)
    g = jnp.asarray(draws.rng(2).standard_normal((23, 17)))

    def pulled():
        def both(x, y):
            value, pull = jax.vjp(lambda x, y: pairwise_dist(manifold, x, y), x, y)
            return value, *pull(g)

        return jax.jit(both)(x, y)  # a function of its own each time: the sizes are read while it is traced

    whole = pulled()
    monkeypatch.setattr(pairwise, "PAIRS", 30)
    monkeypatch.setattr(pairwise, "WIDEST", 5)
    for ours, theirs in zip(pulled(), whole, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)
