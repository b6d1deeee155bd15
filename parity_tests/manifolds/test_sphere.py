"""Sphere and SphereExact: against geoopt, and right where geoopt loses digits or has no gradient."""

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from parity_tests import draws, slow
from parity_tests.manifolds.parity import Operation, compare
from port_jax.manifolds import PoincareBall, ProductManifold, Scaled, SphereProjection
from port_jax.manifolds.sphere import Sphere, SphereExact

RNG = draws.stream(5)
SPAN = RNG.standard_normal((6, 3))
KINDS = {"whole": {}, "intersection": {"intersection": SPAN}, "complement": {"complement": SPAN}}


def manifolds(kind: str, exact: bool = False):
    spans = KINDS[kind]
    theirs = (geoopt.SphereExact if exact else geoopt.Sphere)(**{k: torch.tensor(v) for k, v in spans.items()})
    mine = (SphereExact if exact else Sphere)(**{k: jnp.asarray(v) for k, v in spans.items()})
    return theirs, mine


def points(sphere: Sphere, n: int = 7) -> dict[str, np.ndarray]:
    raw = RNG.standard_normal((5, n, 6))
    x, y = np.asarray(sphere.projx(raw[0])), np.asarray(sphere.projx(raw[1]))
    tangents = [np.asarray(sphere.proju(x, r)) for r in raw[2:4]]
    return {"x": x, "y": y, "u": tangents[0], "v": tangents[1], "w": raw[4]}


@pytest.mark.parametrize(
    ("exact", "kind"),
    slow.all_but({(False, "intersection")}, [(exact, kind) for exact in (False, True) for kind in KINDS]),
)
def test_parity(kind, exact):
    theirs, mine = manifolds(kind, exact)
    if kind != "whole":
        theirs32 = (geoopt.SphereExact if exact else geoopt.Sphere)(
            **{k: torch.tensor(v, dtype=torch.float32) for k, v in KINDS[kind].items()}
        )
    arrays = points(mine)

    def op(name, *names, **kwargs):
        def run(*a):
            which = theirs if kind == "whole" or a[0].dtype == torch.float64 else theirs32
            return getattr(which, name)(*a, **kwargs)

        return Operation(run, lambda *a: getattr(mine, name)(*a, **kwargs), names)

    compare(
        {
            "inner": op("inner", "x", "u", "v"),
            "inner u": op("inner", "x", "u", keepdim=True),
            "norm": op("norm", "x", "u"),
            "component_inner": op("component_inner", "x", "u", "v"),
            "projx": op("projx", "w"),
            "proju": op("proju", "x", "w"),
            "egrad2rgrad": op("egrad2rgrad", "x", "w"),
            "expmap": op("expmap", "x", "u"),
            "retr": op("retr", "x", "u"),
            "transp": op("transp", "x", "y", "v"),
            "logmap": op("logmap", "x", "y"),
            "dist": op("dist", "x", "y", keepdim=True),
            "dist2": op("dist2", "x", "y"),
            "retr_transp": op("retr_transp", "x", "u", "v"),
            "expmap_transp": op("expmap_transp", "x", "u", "v"),
            "transp_follow_retr": op("transp_follow_retr", "x", "u", "v"),
            "transp_follow_expmap": op("transp_follow_expmap", "x", "u", "v"),
        },
        arrays,
        rtol=1e-11,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_laws(kind):
    _, mine = manifolds(kind)
    a = points(mine, n=20)
    x, u = a["x"], a["u"] * np.linspace(0.01, 2.9, 20)[:, None] / np.linalg.norm(a["u"], axis=-1, keepdims=True)
    y = mine.expmap(x, u)
    np.testing.assert_allclose(mine.logmap(x, y), u, atol=2e-14)
    np.testing.assert_allclose(mine.dist(x, y), np.linalg.norm(u, axis=-1), rtol=1e-12)
    np.testing.assert_allclose(mine.projx(mine.projx(a["w"])), mine.projx(a["w"]), atol=1e-15)
    np.testing.assert_allclose(mine.proju(x, mine.proju(x, a["w"])), mine.proju(x, a["w"]), atol=1e-14)
    assert mine.check_point_on_manifold(y)
    assert mine.check_vector_on_tangent(x, u)
    assert not mine.check_point_on_manifold(2 * y)


def test_coincident_points():
    """geoopt: dist(s, s) = 4.5e-4 (float32: 0.014), with gradient 0; exp's gradient at u = 0 is NaN."""
    sphere = Sphere()
    s = sphere.projx(jnp.asarray(RNG.standard_normal((3, 4))))
    assert float(geoopt.Sphere().dist(torch.tensor(np.asarray(s)), torch.tensor(np.asarray(s))).min()) > 4e-4
    np.testing.assert_array_equal(sphere.dist(s, s), 0)
    u = sphere.proju(s, jnp.ones_like(s))
    u = u / jnp.linalg.norm(u, axis=-1, keepdims=True)
    d = np.array([[[1e-12]], [[1e-9]], [[1e-4]]])
    basis = np.linalg.svd(np.asarray(s[:1]))[2][1:].T
    functions = (sphere.dist, sphere.dist2, lambda x, y: jnp.sum(sphere.logmap(x, y) ** 2))

    @jax.jit
    def derivatives(s):
        step = lambda u: sphere.expmap(s[0], u)  # noqa: E731
        chart = lambda t: sphere.dist2(s[0], sphere.expmap(s[0], basis @ t))  # noqa: E731
        slopes = [jax.grad(lambda x: jnp.sum(f(x, s)))(x) for f in functions for x in (s, -s)]  # noqa: B023
        at = jnp.zeros(4), jnp.zeros(3)
        hessians = jax.hessian(step)(at[0]), jax.hessian(chart)(at[1])
        return sphere.dist(s, sphere.expmap(s, d * u)), jax.jacobian(step)(at[0]), hessians, slopes

    distances, first, (second, square), slopes = derivatives(s)
    # A float64 coordinate of size 1 holds a step of 1e-12 to four digits only.
    assert (np.abs(distances / d[..., 0] - 1) <= 4e-16 / d[..., 0] + 1e-14).all()
    np.testing.assert_allclose(first, np.eye(4), atol=1e-15)
    # d²/du² exp_x(u) at 0 is -x δ, and the Hessian of dist² between x and exp_x(u) is twice the metric.
    np.testing.assert_allclose(second, -np.asarray(s[0])[:, None, None] * np.eye(4), atol=1e-15)
    np.testing.assert_allclose(square, 2 * np.eye(3), atol=1e-14)
    assert all(np.isfinite(slope).all() for slope in slopes)


def test_bad_input():
    with pytest.raises(ValueError, match="intersection and complement are both given"):
        Sphere(intersection=SPAN, complement=SPAN)
    with pytest.raises(ValueError, match="dimension 1"):
        Sphere(intersection=SPAN[:, :1])
    with pytest.raises(ValueError, match="dimension 1"):
        Sphere(complement=RNG.standard_normal((4, 3)))
    with pytest.raises(NotImplementedError, match=r"Sphere has no expmap0; it has .*random"):
        Sphere().expmap0(jnp.ones(3))
    assert jax.jit(lambda span: Sphere(intersection=span).projx(jnp.ones(6)))(SPAN).shape == (6,)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_origin(dtype):
    """The pole of the stereographic projection, repeated; geoopt's Sphere has a random point for each entry of a batch."""
    whole = Sphere().origin(2, 3, 4, dtype=dtype)
    assert whole.dtype == dtype
    assert SphereExact().origin(2).dtype == float
    np.testing.assert_array_equal(whole, np.broadcast_to([0, 0, 0, 1], (2, 3, 4)))
    for k in (0.7, 1.0):
        plane = SphereProjection(k)
        np.testing.assert_allclose(plane.inv_sproj(plane.origin(3, dtype=dtype)) * k**0.5, whole[0, 0], rtol=1e-6)
    theirs = geoopt.Sphere().origin(2, 4)
    assert torch.equal(theirs, geoopt.Sphere().origin(2, 4))
    assert geoopt.Sphere().dist(theirs[0], theirs[1]) > 0.1


@pytest.mark.slow  # as test_origin
def test_origin_in_a_subspace():
    """P e/‖P e‖ of the last unit vector e with ‖P e‖² at least half of its mean K/d; nothing is divided by nearly nothing."""
    for kind in ("intersection", "complement"):
        mine = manifolds(kind)[1]
        x = mine.origin(3, 6)
        assert mine.check_point_on_manifold(x, atol=1e-14)
        np.testing.assert_array_equal(x, np.broadcast_to(x[0], (3, 6)))
        projected = np.asarray(mine.projector)
        last = max(i for i in range(6) if projected[i, i] >= 3 / 6 / 2)
        np.testing.assert_allclose(x[0], mine.projx(jnp.eye(6)[last]), atol=1e-15)
        assert mine.origin(6, dtype=jnp.float32).dtype == jnp.float32
    # Spans of coordinate axes, and one that the last unit vector all but misses.
    np.testing.assert_allclose(Sphere(np.eye(4)).origin(4), [0, 0, 0, 1], atol=1e-15)
    np.testing.assert_allclose(Sphere(np.eye(4)[:, [0, 2]]).origin(4), [0, 0, 1, 0], atol=1e-15)
    tilted = np.array([[1.0, 0, 0], [0, 1.0, 1e-9]]).T
    np.testing.assert_allclose(Sphere(tilted).origin(3), [0, 1, 1e-9], rtol=1e-15, atol=1e-15)
    # A subspace for each entry of a batch, a traced one, and a derivative in it.
    spans = RNG.standard_normal((5, 6, 3))
    together = jax.jit(lambda spans: Sphere(spans).origin(2, 5, 6))(spans)
    np.testing.assert_allclose(together, np.broadcast_to([Sphere(span).origin(6) for span in spans], (2, 5, 6)), atol=1e-14)
    slope = jax.grad(lambda span: jnp.sum(Sphere(span).origin(6) * jnp.arange(6)))(SPAN)
    assert np.isfinite(slope).all()


def test_the_origin_of_products_and_scaled_spheres():
    product = ProductManifold((Sphere(), 3), (PoincareBall(0.7), 2), (Scaled(Sphere(jnp.asarray(SPAN)), 2.5), 6))
    x = product.origin(2, 11)
    np.testing.assert_array_equal(x[:, :5], [[0, 0, 1, 0, 0]] * 2)
    np.testing.assert_array_equal(x[:, 5:], Sphere(jnp.asarray(SPAN)).origin(2, 6))
    assert product.check_point_on_manifold(x)
    theirs = geoopt.ProductManifold((geoopt.Sphere(), 3), (geoopt.PoincareBall(), 2)).origin(2, 5)
    assert np.abs(theirs[:, :2]).max() > 0.1
    assert (product.any_origin, Scaled(product, 2.0).any_origin, Scaled(PoincareBall(0.7)).any_origin) == (True, True, False)


@pytest.mark.slow  # test_random.py is its like
def test_random_and_batches():
    sphere = Sphere(intersection=jnp.asarray(SPAN))
    x = sphere.random(draws.key(0), 2000, 6)
    assert sphere.check_point_on_manifold(x)
    assert float(jnp.linalg.norm(x.mean(0))) < 0.08  # its square is chi², 3 degrees of freedom, over 6000: one in 40 million
    y = sphere.random_uniform(draws.key(1), 5, 1, 6)
    assert sphere.dist(x[:3], y).shape == (5, 3)
    lanes = jax.vmap(lambda m, a, b: m.dist(a, b), in_axes=(None, 0, 0))(sphere, x[:5], y[:, 0])
    np.testing.assert_allclose(lanes, sphere.dist(x[:5], y[:, 0]))
