"""Symmetric positive definite matrices: against geoopt, and gradients where eigenvalues coincide."""

import warnings

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.test_util import check_grads

from parity_tests import draws, slow
from parity_tests.manifolds.parity import Operation, compare
from port_jax.linalg import sym, sym_expm
from port_jax.manifolds.symmetric_positive_definite import SPDMetric, SymmetricPositiveDefinite

RNG = draws.stream(11)
N = 4
MINE = SymmetricPositiveDefinite()


def points(n: int = N, batch: int = 5) -> dict[str, np.ndarray]:
    raw = RNG.standard_normal((5, batch, n, n))
    half = raw + np.swapaxes(raw, -1, -2)
    x, y = (np.linalg.matrix_power(h, 2) / 4 + 0.3 * np.eye(n) for h in half[:2])
    return {"x": x, "y": y, "u": half[2] / 4, "v": half[3], "w": raw[4]}


def symmetric(g: np.ndarray) -> np.ndarray:
    return 0.5 * (g + np.swapaxes(g, -1, -2))


@pytest.mark.parametrize("metric", slow.all_but({"SM", "LEM"}, ["AIM", "SM", "LEM"]))
def test_parity(metric):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = geoopt.SymmetricPositiveDefinite(metric)
    mine = SymmetricPositiveDefinite(metric)

    def op(name, *names, **kwargs):
        # Functions of symmetric matrices: only the symmetric part of a gradient is determined.
        return Operation(
            lambda *a: getattr(theirs, name)(*a, **kwargs),
            lambda *a: getattr(mine, name)(*a, **kwargs),
            names,
            tangent=dict.fromkeys("xyuv", symmetric),
            backward=N,
        )

    operations = {"dist": op("dist", "x", "y"), "dist2": op("dist2", "x", "y", keepdim=True)}
    if metric == "AIM":
        operations |= {
            "inner": op("inner", "x", "u", "v"),
            "inner u": op("inner", "x", "u", keepdim=True),
            "norm": op("norm", "x", "u"),
            "component_inner": op("component_inner", "x", "u", "v"),
            "projx": op("projx", "w"),
            "proju": op("proju", "x", "w"),
            "egrad2rgrad": op("egrad2rgrad", "x", "w"),
            "retr": op("retr", "x", "u"),
            "expmap": op("expmap", "x", "u"),
            "logmap": op("logmap", "x", "y"),
            "transp": op("transp", "x", "y", "v"),
            "retr_transp": op("retr_transp", "x", "u", "v"),
            "expmap_transp": op("expmap_transp", "x", "u", "v"),
            "transp_follow_retr": op("transp_follow_retr", "x", "u", "v"),
            "transp_follow_expmap": op("transp_follow_expmap", "x", "u", "v"),
        }
    # Conditioning: the condition numbers of these x are below 1e3.
    compare(operations, points(), rtol=1e-10)


def test_laws():
    a = points()
    x, y, u, v, w = (a[n] for n in "xyuvw")
    end = MINE.expmap(x, u)
    np.testing.assert_allclose(MINE.logmap(x, end), u, atol=1e-11)
    np.testing.assert_allclose(MINE.dist(x, end), MINE.norm(x, u), rtol=1e-11)
    np.testing.assert_allclose(MINE.inner(y, MINE.transp(x, y, u), MINE.transp(x, y, v)), MINE.inner(x, u, v), rtol=1e-9)
    np.testing.assert_allclose(MINE.inner(x, MINE.egrad2rgrad(x, w), v), np.sum(w * v, (-2, -1)), rtol=1e-9)
    np.testing.assert_allclose(MINE.projx(MINE.projx(w)), MINE.projx(w), atol=1e-12)
    np.testing.assert_allclose(MINE.proju(x, MINE.proju(x, w)), MINE.proju(x, w), atol=1e-15)
    np.testing.assert_allclose(MINE.dist(x, y), MINE.dist(y, x), rtol=1e-11)
    congruent = [w @ m @ np.swapaxes(w, -1, -2) for m in (x, y)]
    np.testing.assert_allclose(MINE.dist(*congruent), MINE.dist(x, y), rtol=1e-7)
    step, half = (np.abs(MINE.retr(x, t * u) - MINE.expmap(x, t * u)).max() for t in (0.02, 0.01))
    assert step / half == pytest.approx(8, rel=0.1)  # the retraction is the exponential to the second order
    assert MINE.check_point_on_manifold(end)
    assert MINE.check_point_on_manifold(MINE.random(draws.key(0), 6, 3, 3))
    np.testing.assert_array_equal(MINE.origin(2, 3, 3)[1], np.eye(3))


@pytest.mark.parametrize("metric", slow.all_but({SPDMetric.SM, SPDMetric.LEM}, SPDMetric))
def test_coincident_points(metric):
    """geoopt: dist(I, I) and logmap(I, I) have NaN gradients. Here distance 0, gradient 0, and the Hessian is the metric."""
    spd = SymmetricPositiveDefinite(metric)
    eye = jnp.eye(3)
    x = jnp.asarray(points(3)["x"][0])
    for point in (eye, x):
        if metric is not SPDMetric.SM:
            np.testing.assert_array_equal(spd.dist(point, point), 0)
        np.testing.assert_allclose(spd.dist(point, point), 0, atol=1e-14)
        np.testing.assert_allclose(jax.grad(lambda y: spd.dist(point, y))(point), 0, atol=1e-13)  # noqa: B023
    if metric is SPDMetric.AIM:
        np.testing.assert_allclose(jax.jacobian(lambda y: sym(MINE.logmap(eye, y)))(eye), _projector(3), atol=1e-15)
        u = jnp.asarray(symmetric(RNG.standard_normal((3, 3))))
        second = jax.jvp(jax.grad(lambda y: spd.dist2(x, y)), (x,), (u,))[1]
        np.testing.assert_allclose(jnp.sum(second * u), 2 * spd.inner(x, u), rtol=1e-10)
        z = torch.eye(3, dtype=torch.float64, requires_grad=True)
        geoopt.SymmetricPositiveDefinite().dist(torch.eye(3, dtype=torch.float64), z).backward()
        assert torch.isnan(z.grad).any()


@pytest.mark.slow
def test_second_derivatives():
    """test_spectral.py has three derivatives along lines."""
    a = points(3, batch=1)
    x, y = a["x"][0], a["y"][0]
    close = x + 1e-4 * sym(a["u"][0])
    repeated = 2 * np.eye(3)
    check_grads(lambda x: MINE.dist2(sym(x), y), (jnp.asarray(x),), order=2, modes=["rev"])
    check_grads(lambda x: MINE.dist2(sym(x), close), (jnp.asarray(x),), order=2, modes=["rev"], rtol=1e-2, atol=1e-3)
    check_grads(lambda x: MINE.dist2(sym(x), np.eye(3)), (jnp.asarray(repeated),), order=2, modes=["rev"])


def test_close_and_far_points():
    """Half the plane: diag(e^a, e^b) is flat, with distance the Euclidean one of the exponents."""
    for dtype, far in ((np.float64, 30.0), (np.float32, 12.0)):
        t = np.array([0, 1e-12, 1e-6, 1e-2, 0.1, 1, far])
        spread = np.stack([t, -t], -1)
        exact = np.sqrt(2) * t
        y = jnp.asarray(np.exp(spread)[..., None] * np.eye(2), dtype)
        found = MINE.dist(jnp.eye(2, dtype=dtype), y)
        assert found.dtype == dtype
        # What the rounded entries of y themselves can tell: half an ulp of 1.
        np.testing.assert_allclose(found, exact, rtol=20 * np.finfo(dtype).eps, atol=2 * np.finfo(dtype).eps)


def test_bad_input():
    with pytest.raises(ValueError, match=r"default_metric is 'XYZ'; it has to be one of 'AIM', 'SM', 'LEM'"):
        SymmetricPositiveDefinite("XYZ")
    assert "last two axes" in MINE.check_point(np.zeros((2, 3)), explain=True)[1]
    assert "not symmetric" in MINE.check_point_on_manifold(np.array([[1.0, 2], [0, 1]]), explain=True)[1]
    assert "eigenvalue -1" in MINE.check_point_on_manifold(np.diag([1.0, -1]), explain=True)[1]


def test_broadcasting_and_vmap():
    a = points()
    x, y = a["x"][0], a["y"][:, None]
    assert jax.eval_shape(MINE.dist, x, y).shape == (5, 1)
    assert jax.eval_shape(MINE.expmap, a["x"], a["u"][:, None]).shape == (5, 5, 4, 4)
    lanes = jax.jit(jax.vmap(jax.grad(lambda x, y: MINE.dist2(x, y))))(a["x"], a["y"])
    batch = jax.jit(jax.grad(lambda x: jnp.sum(MINE.dist2(x, a["y"]))))(jnp.asarray(a["x"]))
    np.testing.assert_allclose(lanes, batch, rtol=1e-10)


def _projector(n: int) -> np.ndarray:
    eye = np.eye(n)
    return 0.5 * (np.einsum("ik,jl->ijkl", eye, eye) + np.einsum("il,jk->ijkl", eye, eye))


def test_steins_divergence_in_float32_is_nearer_to_float64_than_geoopts():
    """For logarithms of Frobenius norm near 0.3 the difference of logarithms in geoopt cancels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = geoopt.SymmetricPositiveDefinite("SM")
    mine = SymmetricPositiveDefinite("SM")
    x, y = np.asarray(sym_expm(symmetric(0.1 * draws.rng(0).standard_normal((2, 500, 4, 4))))).astype(np.float32)
    true = np.asarray(mine.dist(x.astype(np.float64), y.astype(np.float64)))
    have = mine.dist(x, y)
    assert have.dtype == np.float32
    off, geoopts = (np.max(np.abs(np.asarray(d) - true) / true) for d in (have, theirs.dist(torch.tensor(x), torch.tensor(y))))
    assert off < 5e-6
    assert 3 * off < geoopts
