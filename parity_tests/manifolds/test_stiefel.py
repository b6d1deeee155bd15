"""Stiefel manifolds: against geoopt, and the exponential and the projection where geoopt has approximations."""

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from parity_tests import draws, slow
from parity_tests.manifolds.parity import Operation, compare
from port_jax.manifolds.stiefel import CanonicalStiefel, EuclideanStiefel, EuclideanStiefelExact, Stiefel
from port_jax.riemannian_geometry import geodesic, metric_of

RNG = draws.stream(7)
PAIRS = {
    "canonical": (geoopt.CanonicalStiefel(), CanonicalStiefel()),
    "euclidean": (geoopt.EuclideanStiefel(), EuclideanStiefel()),
    "exact": (geoopt.EuclideanStiefelExact(), EuclideanStiefelExact()),
}


def points(mine, n: int, p: int) -> dict[str, np.ndarray]:
    raw = RNG.standard_normal((5, 4, n, p))
    x = np.linalg.qr(raw[0])[0]
    return {
        "x": x,
        "y": np.linalg.qr(raw[1])[0],
        "u": 0.3 * np.asarray(mine.proju(x, raw[2])),
        "v": np.asarray(mine.proju(x, raw[3])),
        "w": raw[4],
    }


def qr_retraction(x: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """geoopt's retraction without the assignment in place, for which torch refuses it a gradient."""
    q, r = torch.linalg.qr(x + u)
    return q * r.diagonal(dim1=-2, dim2=-1).sign().add(0.5).sign()[..., None, :]


# 2p < n solves the small system of the Cayley transform, 2p >= n the large one.
@pytest.mark.parametrize(
    ("kind", "shape"),
    slow.all_but(
        {("canonical", (6, 2))},
        [("canonical", (6, 2)), ("canonical", (4, 3)), ("euclidean", (5, 3)), ("exact", (5, 3))],
    ),
)
def test_parity(kind, shape):
    theirs, mine = PAIRS[kind]
    arrays = points(mine, *shape)

    def op(name, *names, theirs_as=None, **kwargs):
        return Operation(
            lambda *a: getattr(theirs, theirs_as or name)(*a, **kwargs),
            lambda *a: getattr(mine, name)(*a, **kwargs),
            names,
            backward=shape[1],
        )

    if kind == "exact":
        operations = {name: op(name, "x", "u", "v") for name in ("retr_transp", "transp_follow_retr")}
        compare(operations, arrays, rtol=1e-10)
        return
    operations = {
        "inner": op("inner", "x", "u", "v"),
        "inner u": op("inner", "x", "u", keepdim=True),
        "norm": op("norm", "x", "u"),
        "component_inner": op("component_inner", "x", "u", "v"),
        "projx": op("projx", "w"),
        "egrad2rgrad": op("egrad2rgrad", "x", "w"),
        "retr": op("retr", "x", "u"),
    }
    if kind == "canonical":
        operations["transp_follow_retr"] = op("transp_follow_retr", "x", "u", "v")
        operations["retr_transp"] = op("retr_transp", "x", "u", "v")
    else:
        with pytest.raises(RuntimeError, match="inplace"):
            theirs.retr(torch.tensor(arrays["x"], requires_grad=True), torch.tensor(arrays["u"])).sum().backward()
        np.testing.assert_array_equal(*(f(torch.tensor(arrays["x"]), torch.tensor(arrays["u"])) for f in (theirs.retr, qr_retraction)))
        operations |= {
            "retr": Operation(qr_retraction, mine.retr, ("x", "u")),
            "proju": op("proju", "x", "w"),
            "transp": op("transp", "x", "y", "v"),
            "retr_transp": Operation(lambda x, u, v: (y := qr_retraction(x, u), theirs.transp(x, y, v)), mine.retr_transp, ("x", "u", "v")),
            "expmap_transp": op("expmap_transp", "x", "u", "v"),
        }
    compare(operations, arrays, rtol=1e-10)


@pytest.mark.parametrize("kind", PAIRS)
def test_laws(kind):
    _, mine = PAIRS[kind]
    a = points(mine, 5, 3)
    x, u, v, w = a["x"], a["u"], a["v"], a["w"]
    for y in (
        mine.retr(x, u),
        mine.expmap(x, u),
        mine.projx(w),
        mine.random(draws.key(0), 4, 5, 3),
        mine.origin(2, 5, 3),
    ):
        assert mine.check_point_on_manifold(y)
    projected = mine.proju(x, w)
    assert mine.check_vector_on_tangent(x, projected)
    np.testing.assert_allclose(mine.proju(x, projected), projected, atol=1e-14)
    np.testing.assert_allclose(mine.projx(mine.projx(w)), mine.projx(w), atol=1e-14)
    # egrad2rgrad is the gradient: <grad, v> is the derivative along v.
    np.testing.assert_allclose(mine.inner(x, mine.egrad2rgrad(x, w), v), np.sum(w * v, (-2, -1)), rtol=1e-12)
    y, transported = mine.expmap_transp(x, u, v)
    assert mine.check_vector_on_tangent(y, transported)
    if kind == "canonical":
        np.testing.assert_allclose(mine.norm(y, transported), mine.norm(x, v), rtol=1e-12)
        np.testing.assert_allclose(mine.norm(mine.retr(x, u), mine.transp_follow_retr(x, u, v)), mine.norm(x, v), rtol=1e-12)


@pytest.mark.parametrize("kind", ["canonical", "euclidean"])
def test_square_frames_have_the_gradient_of_the_orthogonal_group(kind):
    """Where a transpose has the same shape, its place is seen by <grad, v> alone."""
    _, mine = PAIRS[kind]
    a = points(mine, 3, 3)
    x, v, w = a["x"], a["v"], a["w"]
    grad = mine.egrad2rgrad(x, w)
    assert mine.check_vector_on_tangent(x, grad)
    np.testing.assert_allclose(mine.inner(x, grad, v), np.sum(w * v, (-2, -1)), rtol=1e-12)


@pytest.mark.parametrize("kind", ["canonical", "euclidean"])
def test_expmap_has_constant_speed_and_starts_along_u(kind):
    """geoopt's canonical expmap is its Cayley retraction, whose derivative at 0 is u + x xᵀu."""
    _, mine = PAIRS[kind]
    a = points(mine, 5, 3)
    x, u = a["x"][0], a["u"][0]

    def curve(t):
        return mine.expmap(x, t * u)

    points_, velocities = jax.jit(jax.vmap(lambda t: jax.jvp(curve, (t,), (jnp.ones_like(t),))))(jnp.array([0.0, 0.5, 2.0]))
    np.testing.assert_allclose(velocities[0], u, atol=1e-14)
    np.testing.assert_allclose(mine.norm(points_, velocities), mine.norm(x, u), rtol=1e-12)
    if kind == "canonical":
        start = [geoopt.CanonicalStiefel().expmap(torch.tensor(x), t * torch.tensor(u)) for t in (1e-6, -1e-6)]
        np.testing.assert_allclose((start[0] - start[1]) / 2e-6, u + x @ x.T @ u, atol=1e-9)


@pytest.mark.slow
def test_expmap_ends_where_the_geodesic_does():
    """In the chart t -> polar(x + Σ tₖ Eₖ) around x the geodesic is integrated from Christoffel symbols alone."""
    mine = CanonicalStiefel()
    x = points(mine, 3, 2)["x"][0]
    q = np.linalg.svd(x)[0]
    skew = np.array([[0.0, 1.0], [-1.0, 0.0]])
    basis = np.stack([x @ skew, np.outer(q[:, 2], [1, 0]), np.outer(q[:, 2], [0, 1])])

    def chart(t):
        return mine.projx(x + jnp.einsum("k,kij->ij", t, basis))

    velocity = jnp.asarray([0.4, -0.3, 0.5])
    ends = geodesic(lambda t: metric_of(mine, t, chart), jnp.zeros(3), velocity)[0]
    np.testing.assert_allclose(chart(ends), mine.expmap(x, jnp.einsum("k,kij->ij", velocity, basis)), atol=1e-7)


def test_gradients_on_the_manifold():
    """projx at a frame has three equal singular values, where geoopt's gradient is infinite or NaN."""
    mine = CanonicalStiefel()
    x = jnp.asarray(points(mine, 5, 3)["x"][0])
    w = jnp.asarray(RNG.standard_normal((5, 3)))
    np.testing.assert_allclose(jax.grad(lambda x: jnp.sum(w * mine.projx(x)))(x), mine.proju(x, w), atol=1e-13)
    z = torch.tensor(np.asarray(x), requires_grad=True)
    (geoopt.CanonicalStiefel().projx(z) * torch.tensor(np.asarray(w))).sum().backward()
    assert not np.allclose(z.grad, mine.proju(x, w), atol=1e-3, equal_nan=False)
    gradient = jax.grad(lambda u: sum(jnp.sum(f(x, u) * w) for f in (mine.retr, mine.expmap, EuclideanStiefel().retr)))
    for part in jax.jit(lambda u: jax.jvp(gradient, (u,), (w,)))(jnp.zeros_like(x)):
        assert np.isfinite(part).all()


def test_factory_and_bad_input():
    assert isinstance(Stiefel(), CanonicalStiefel)
    assert isinstance(Stiefel(canonical=False), EuclideanStiefel)
    ok, reason = Stiefel().check_point(np.zeros((2, 3)), explain=True)
    assert not ok
    assert "as many rows as columns" in reason
    assert "differs from I" in Stiefel().check_point_on_manifold(np.ones((3, 2)), explain=True)[1]
    with pytest.raises(NotImplementedError, match="CanonicalStiefel has no dist; it has"):
        Stiefel().dist(np.eye(3), np.eye(3))
    with pytest.raises(ValueError, match="rows as columns"):
        Stiefel().origin(2, 3)


@pytest.mark.parametrize("kind", PAIRS)
def test_broadcasting(kind):
    """Shapes alone; test_interface.py has the values."""
    a = points(CanonicalStiefel(), 6, 2)
    x, u, v = a["x"][0], a["u"][:, None], a["v"][:3]
    for f in (PAIRS[kind][1].retr_transp, PAIRS[kind][1].expmap_transp):
        y, t = jax.eval_shape(f, x, u, v)
        assert y.shape in ((4, 1, 6, 2), (4, 3, 6, 2))
        assert t.shape == (4, 3, 6, 2)
