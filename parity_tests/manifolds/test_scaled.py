"""Scaled manifolds: against geoopt over a ball, a sphere and a hyperboloid, and as geometry of another curvature."""

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from parity_tests import draws, slow
from parity_tests.manifolds.parity import Operation, compare
from port_jax.manifolds import Euclidean, Lorentz, PoincareBall, ProductManifold, Stereographic
from port_jax.manifolds.scaled import Scaled
from port_jax.manifolds.sphere import Sphere

RNG = draws.stream(31)
S = 2.5


def reference(base: str, dtype: torch.dtype) -> geoopt.Scaled:
    inner = geoopt.Sphere() if base == "sphere" else geoopt.Stereographic(torch.tensor(-0.7, dtype=dtype))
    scaled = geoopt.Scaled(geoopt.Scaled(inner, 0.625), S) if base == "ball, twice" else geoopt.Scaled(inner, S)
    return scaled.to(dtype)


@pytest.mark.parametrize("base", slow.all_but({"sphere"}, ["sphere", "ball", "ball, twice"]))
def test_parity(base):
    theirs = {dtype: reference(base, dtype) for dtype in (torch.float64, torch.float32)}
    inner = Sphere() if base == "sphere" else Stereographic(-0.7)
    mine = Scaled(Scaled(inner, 0.625), S) if base == "ball, twice" else Scaled(inner, S)

    def op(name, *names, **kwargs):
        return Operation(
            lambda *a: getattr(theirs[a[-1].dtype], name)(*a, **kwargs),
            lambda *a: getattr(mine, name)(*a, **kwargs),
            names,
        )

    raw = 0.3 * RNG.standard_normal((5, 4, 3))
    x, y = (np.asarray(mine.projx(r)) for r in raw[:2])
    u, v = (np.asarray(mine.proju(x, r)) for r in raw[2:4])
    operations = {
        "inner": op("inner", "x", "u", "v", keepdim=True),
        "norm": op("norm", "x", "u"),
        "component_inner": op("component_inner", "x", "u"),
        "proju": op("proju", "x", "w"),
        "projx": op("projx", "w"),
        "egrad2rgrad": op("egrad2rgrad", "x", "w"),
        "transp": op("transp", "x", "y", "v"),
        "retr": op("retr", "x", "u"),
        "expmap": op("expmap", "x", "u"),
        "logmap": op("logmap", "x", "y"),
        "dist": op("dist", "x", "y", keepdim=True),
        "dist2": op("dist2", "x", "y"),
        "expmap_transp": op("expmap_transp", "x", "u", "v"),
        "retr_transp": op("retr_transp", "x", "u", "v"),
        "transp_follow_retr": op("transp_follow_retr", "x", "u", "v"),
        "transp_follow_expmap": op("transp_follow_expmap", "x", "u", "v"),
    }
    if base != "sphere":
        operations |= {
            "dist0": op("dist0", "x"),
            "expmap0": op("expmap0", "u"),
            "logmap0": op("logmap0", "x"),
            "geodesic_unit": op("geodesic_unit", "t", "x", "u"),
            "dist2plane": op("dist2plane", "x", "y", "u"),
            "mobius_add": op("mobius_add", "x", "y"),
            "transp0": op("transp0", "y", "u"),
        }
    compare(operations, {"x": x, "y": y, "u": u, "v": v, "w": raw[4], "t": RNG.uniform(0.2, 2, (4, 1))}, rtol=1e-10)


def test_laws():
    mine = Scaled(PoincareBall(0.7), S)
    x, u = 0.3 * RNG.standard_normal((2, 4, 3))
    end = mine.expmap(x, u)
    np.testing.assert_allclose(mine.logmap(x, end), u, atol=1e-13)
    np.testing.assert_allclose(mine.dist(x, end), mine.norm(x, u), rtol=1e-12)
    # Distances of the ball of curvature -c/s².
    other = PoincareBall(0.7 / S**2)
    np.testing.assert_allclose(mine.dist(x, end), other.dist(S * x, S * end), rtol=1e-12)
    np.testing.assert_allclose(mine.expmap(x, u), other.expmap(S * x, u * S / S) / S, rtol=1e-12)
    twice = Scaled(mine, 2.0)
    np.testing.assert_allclose(twice.dist0(x), 2 * S * mine.base.dist0(x), rtol=1e-14)
    np.testing.assert_array_equal(mine.origin(3), np.zeros(3))


def test_gradient_in_scaled_lengths():
    """The derivative along the geodesic of v is ⟨g, v⟩ with g = egrad2rgrad(df) / scale: geoopt's is the base's, `scale` times it."""
    mine, theirs = Scaled(PoincareBall(0.7), S), reference("ball", torch.float64)
    x, v, w = 0.3 * RNG.standard_normal((3, 4, 3))
    along = jax.jvp(lambda t: jnp.sum(w * mine.expmap(x, t * v), -1), (0.0,), (1.0,))[1]
    np.testing.assert_allclose(mine.inner(x, mine.egrad2rgrad(x, w) / S, v), along, rtol=1e-12)
    np.testing.assert_allclose(mine.inner(x, theirs.egrad2rgrad(*map(torch.tensor, (x, w))).numpy(), v) / along, S, rtol=1e-12)


def test_around_the_origin():
    """Curvature, lengths and reach are those of the ball of c/s², whose points are s times these; a row is too long for the ball."""
    mine, other = Scaled(PoincareBall(0.7), S), PoincareBall(0.7 / S**2)
    np.testing.assert_allclose(mine.curvature, other.curvature, rtol=1e-15)
    x, v = 0.2 * RNG.standard_normal((2, 4, 3))
    v[0] *= 200 / np.linalg.norm(v[0])
    np.testing.assert_allclose(2 * np.linalg.norm(mine.to_tangent0(x), axis=-1), mine.dist0(x), rtol=1e-12)
    np.testing.assert_allclose(mine.reach(v), other.reach(v), rtol=1e-14)
    np.testing.assert_array_equal((mine.reach(v) < 1)[:, 0], [True, False, False, False])
    np.testing.assert_allclose(mine.within_reach(v)[1:], mine.to_tangent0(mine.from_tangent0(v))[1:], rtol=1e-12)
    np.testing.assert_allclose(mine.transp0back(x, mine.transp0(x, v)), v, rtol=1e-12)


def test_samplers_vectors():
    """`gradient` gives the derivative along a geodesic; `sqrt_cometric` of orthonormal noise is orthonormal by `inner`."""
    mine = Scaled(PoincareBall(0.7), S)
    x, v, w = 0.2 * RNG.standard_normal((3, 4, 3))
    along = jax.jvp(lambda t: jnp.sum(w * mine.expmap(x, t * v), -1), (0.0,), (1.0,))[1]
    np.testing.assert_allclose(mine.inner(x, mine.gradient(x, w), v), along, rtol=1e-12)
    noise = np.linalg.qr(RNG.standard_normal((3, 3)))[0][:, None]
    frame = mine.sqrt_cometric(x, jnp.broadcast_to(noise, (3, 4, 3)))
    np.testing.assert_allclose(mine.inner(x, frame[:, None], frame[None]), np.broadcast_to(np.eye(3)[..., None], (3, 3, 4)), atol=1e-14)


def test_random_deviation_is_that_of_the_scaled_lengths():
    """Under both names, as in geoopt, whose samples at the same seed are the base's of that deviation."""
    mine, theirs, key = Scaled(PoincareBall(0.7), S), reference("ball", torch.float64), draws.key(0)
    for options, std in (({}, 1), ({"std": 0.5}, 0.5)):
        want = mine.base.random_normal(key, 5, 3, std=std / S)
        np.testing.assert_allclose(mine.random_normal(key, 5, 3, **options), want, rtol=1e-6)
        np.testing.assert_allclose(mine.random(key, 5, 3, **options), want, rtol=1e-6)
        drawn = []
        for draw in (lambda: theirs.random(5, 3, **options), lambda: theirs.base.random(5, 3, std=std / S)):  # noqa: B023
            draws.seed_torch(0)
            drawn.append(draw().detach().numpy())
        np.testing.assert_allclose(*drawn, rtol=1e-6)
        mean = mine.base.random_normal(draws.key(1), 3, std=0.3)
        found = mine.wrapped_normal(key, 4000, 3, mean=mean, **options)
        spread = mine.norm(mean, mine.logmap(mean, found))  # of three coordinates: five standard errors of a mean of 12,000 squares
        np.testing.assert_allclose(np.mean(spread**2) / 3, std**2, rtol=5 * (2 / 12000) ** 0.5)
    np.testing.assert_array_equal(Scaled(Sphere(), S).random(key, 5, 3), Sphere().random(key, 5, 3))
    with pytest.raises(NotImplementedError, match="Sphere has no random_normal"):
        Scaled(Sphere(), S).random_normal(key, 5, 3)


def test_scale_is_a_leaf():
    x, y = 0.3 * RNG.standard_normal((2, 3))
    mine = Scaled(PoincareBall(0.7), S)
    gradient = jax.jit(jax.grad(lambda m: m.dist(x, y)))(mine)
    np.testing.assert_allclose(gradient.scale, mine.base.dist(x, y), rtol=1e-14)
    np.testing.assert_allclose(mine.log_scale, np.log(S), rtol=1e-15)
    low = mine.dist(jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32))
    assert low.dtype == jnp.float32


def test_bad_input():
    for scale in (0.0, -1.0, np.nan):
        with pytest.raises(ValueError, match="scale must be finite and positive"):
            Scaled(Sphere(), scale)
    with pytest.raises(NotImplementedError, match="has no mobius_fn_apply"):
        Scaled(PoincareBall(0.7), 2.0).mobius_fn_apply(jnp.sin, jnp.zeros(3))
    with pytest.raises(AttributeError, match="lambda_x"):
        Scaled(Euclidean(1), 2.0).lambda_x  # noqa: B018
    assert Scaled(Sphere(), 2.0).check_point_on_manifold(np.array([0.6, 0.8]))


def ambient() -> tuple[np.ndarray, ...]:
    """A point of Lorentz(0.3), a tangent vector there, and a vector with a part normal to the hyperboloid."""
    rng = draws.rng(17)
    space, u, v = rng.standard_normal((3, 5, 3))
    x = np.concatenate([np.sqrt(0.3 + (space**2).sum(-1, keepdims=True)), space], -1)
    tangent = np.concatenate([(space * u).sum(-1, keepdims=True) / x[:, :1], u], -1)
    return x, 0.3 * tangent, np.concatenate([rng.standard_normal((5, 1)), v], -1)


def test_a_momentum_that_begins_as_a_gradient_is_geoopts():
    """RiemannianSGD's momentum begins with a Euclidean gradient, whose normal part geoopt's transport leaves; so do the scaled manifold and
    the product."""
    x, u, v = ambient()
    lorentz = geoopt.Lorentz(torch.tensor(0.3, dtype=torch.float64))
    want = geoopt.Scaled(lorentz, 1.75).double().retr_transp(*map(torch.tensor, (x, u, v)))
    found = Scaled(Lorentz(0.3), 1.75).retr_transp_ambient(x, u, v)
    pair = ProductManifold((Lorentz(0.3), 4), (Euclidean(1), 4)).retr_transp_ambient(*(np.tile(a, 2) for a in (x, u, v)))
    both = lorentz.retr_transp(*map(torch.tensor, (x, u, v)))
    for have, theirs in zip((*found, *(a[:, :4] for a in pair)), (*want, *both)):
        # Roundings of squares of coordinates, below 30, over the lengths of u in geoopt's logarithm, above 0.01.
        np.testing.assert_allclose(have, theirs, rtol=0, atol=1e-11 * np.abs(theirs.numpy()).max())


def test_logarithm_of_the_origin():
    """geoopt's Scaled leaves the base's `logmap0back` as it is; a logarithm has the scale's units wherever it ends."""
    lorentz = Lorentz(1.7)
    mine, x = Scaled(lorentz, S), lorentz.projx(RNG.standard_normal((5, 4)))
    wanted = mine.logmap(x, jnp.broadcast_to(lorentz.origin(4), x.shape))
    np.testing.assert_allclose(mine.logmap0back(x), wanted, rtol=1e-12, atol=1e-12)
    theirs = geoopt.Scaled(geoopt.Lorentz(torch.tensor(1.7, dtype=torch.float64)), S)
    np.testing.assert_allclose(S * theirs.logmap0back(torch.tensor(np.asarray(x))), wanted, rtol=1e-12, atol=1e-12)
