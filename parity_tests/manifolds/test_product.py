"""Products of manifolds: against geoopt with mixed factors, and finite where geoopt divides by zero."""

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from parity_tests import draws, slow
from parity_tests.manifolds.parity import Operation, compare
from port_jax.manifolds import Euclidean, Lorentz, Manifold, PoincareBall
from port_jax.manifolds.product import ProductManifold
from port_jax.manifolds.sphere import Sphere
from port_jax.manifolds.symmetric_positive_definite import SymmetricPositiveDefinite

RNG = draws.stream(23)


def theirs(dtype: torch.dtype = torch.float64) -> geoopt.ProductManifold:
    ball = geoopt.Stereographic(torch.tensor(-0.7, dtype=dtype))
    return geoopt.ProductManifold((geoopt.Sphere(), 3), (ball, (2, 3)), (geoopt.Euclidean(1), 2))


MINE = ProductManifold((Sphere(), 3), (PoincareBall(0.7), (2, 3)), (Euclidean(1), 2))


def points(batch: int = 4) -> dict[str, np.ndarray]:
    raw = 0.2 * RNG.standard_normal((5, batch, 11))
    x, y = (np.asarray(MINE.projx(r)) for r in raw[:2])
    u, v = (np.asarray(MINE.proju(x, r)) for r in raw[2:4])
    return {"x": x, "y": y, "u": u, "v": v, "w": raw[4]}


@pytest.mark.parametrize("orders", slow.all_but({0}, [0, 1]))
def test_parity(orders: int):
    """Values, and gradients: these are the factors', which have tests of their own."""
    reference = {torch.float64: theirs(), torch.float32: theirs(torch.float32)}

    def op(name, *names, **kwargs):
        return Operation(
            lambda *a: getattr(reference[a[0].dtype], name)(*a, **kwargs),
            lambda *a: getattr(MINE, name)(*a, **kwargs),
            names,
            orders,
        )

    compare(
        {
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
            "transp_follow_retr": op("transp_follow_retr", "x", "u", "v"),
            "retr_transp": op("retr_transp", "x", "u", "v"),
            "expmap_transp": op("expmap_transp", "x", "u", "v"),
            "dist2": op("dist2", "x", "y", keepdim=True),
            "dist": op("dist", "x", "y"),
        },
        points(),
        rtol=1e-10,
    )


def test_parts():
    a = points()
    parts = MINE.unpack_tensor(a["x"])
    assert [p.shape for p in parts] == [(4, 3), (4, 2, 3), (4, 2)]
    np.testing.assert_array_equal(MINE.pack_point(*parts), a["x"])
    for i in range(3):
        for reshape in (True, False):
            expected = theirs().take_submanifold_value(torch.tensor(a["x"]), i, reshape)
            np.testing.assert_array_equal(MINE.take_submanifold_value(a["x"], i, reshape), expected)
    same = ProductManifold.from_point(*zip(MINE.manifolds, parts), batch_dims=1)
    assert same.shapes == MINE.shapes
    assert same.n_elements == 11
    assert jax.tree.structure(same) == jax.tree.structure(MINE)


@pytest.mark.slow  # test_laws.py is its like
def test_laws_and_randoms():
    a = points()

    @jax.jit
    def there_and_back(x, u, w):
        end, on = MINE.expmap(x, u), MINE.projx(w)
        return MINE.logmap(x, end), MINE.dist(x, end), MINE.norm(x, u), on, MINE.projx(on)

    back, distance, length, on, again = there_and_back(a["x"], a["u"], a["w"])
    np.testing.assert_allclose(back, a["u"], atol=1e-12)
    np.testing.assert_allclose(distance, length, rtol=1e-11)
    np.testing.assert_allclose(again, on, atol=1e-15)
    assert MINE.check_point_on_manifold(MINE.random(draws.key(0), 5, 11))
    assert MINE.check_vector_on_tangent(a["x"], a["u"])
    mixed = ProductManifold((Lorentz(2.0), 3), (SymmetricPositiveDefinite(), (2, 2)), (Euclidean(), ()))
    origin = mixed.origin(6, 8)
    np.testing.assert_allclose(origin[0], [np.sqrt(2), 0, 0, 1, 0, 0, 1, 0], rtol=1e-6)
    assert jax.eval_shape(lambda x: mixed.dist(x, mixed.projx(x + 0.1)), origin).shape == (6,)


def test_factors_are_drawn_apart():
    two = ProductManifold((Sphere(), 3), (Sphere(), 3)).random(draws.key(0), 400, 6)
    assert abs(np.corrcoef(two[:, 0], two[:, 3])[0, 1]) < 5 / 400**0.5


def test_coincident_points():
    """geoopt: norm(0) has a NaN gradient, and dist(x, x) is 3e-8."""
    x = jnp.asarray(points()["x"])
    np.testing.assert_array_equal(MINE.dist(x, x), 0)
    np.testing.assert_array_equal(MINE.norm(x, jnp.zeros_like(x)), 0)
    t = torch.tensor(np.asarray(x))
    assert theirs().dist(t, t).min() > 3e-8
    zero = torch.zeros_like(t, requires_grad=True)
    theirs().norm(t, zero).sum().backward()
    assert torch.isnan(zero.grad).any()
    slopes = jax.jit(lambda x: [jax.grad(lambda y: jnp.sum(f(x, y)))(x) for f in (MINE.dist, MINE.dist2)])(x)  # noqa: B023
    slopes.append(jax.jit(jax.grad(lambda u: jnp.sum(MINE.norm(x, u))))(jnp.zeros_like(x)))
    assert np.isfinite(slopes).all()


def test_leaves_and_transformations():
    """The factors' curvatures are leaves of the product; batches of different depth broadcast; vmap gives the same."""
    a = points()
    assert jax.tree.leaves(MINE) == [0.7]
    dc = jax.jit(jax.grad(lambda m: jnp.sum(m.dist(a["x"], a["y"])), allow_int=True))(MINE)
    assert float(jax.tree.leaves(dc)[0]) != 0
    pairwise = jax.jit(MINE.dist)(a["x"][:, None], a["y"])
    lanes = jax.jit(jax.vmap(jax.vmap(MINE.dist, (None, 0)), (0, None)))(a["x"], a["y"])
    np.testing.assert_allclose(lanes, pairwise, rtol=1e-12)
    assert jax.eval_shape(MINE.retr_transp, a["x"], a["u"][:, None], a["v"])[0].shape == (4, 4, 11)


# The arguments of each method of a product, where x, y, u, v, w are vectors of its length.
METHODS = {
    **dict.fromkeys(("projx", "unpack_tensor"), "x"),
    **dict.fromkeys(("norm", "retr", "expmap", "proju", "egrad2rgrad", "gradient", "sqrt_cometric"), "xu"),
    **dict.fromkeys(("dist", "dist2", "logmap"), "xy"),
    **dict.fromkeys(("inner", "component_inner", "retr_transp", "expmap_transp", "transp_follow_retr", "transp_follow_expmap"), "xuv"),
    "transp": "xyv",
    "retr_transp_ambient": "xuv",
    "descend": "xuv",
    "descend_along": "xuv",
    "dist_to": "y",
}
OWN = {
    "take_submanifold_value",
    "pack_point",
    "random",
    "random_combined",
    "origin",
    "from_point",
    "has",
    "narrowed",
    "with_exact_retraction",
    "beside",
}


def call(m: ProductManifold, method: str, *arrays: np.ndarray) -> object:
    """The method of these arrays; what it needs beside them is added, and functions that it returns are called."""
    if method == "descend":
        return m.descend(arrays[0], arrays[1], 0.1)
    if method == "descend_along":
        return m.descend_along(*arrays, 0.9)[1](0.1)
    return m.dist_to(arrays[0])(jnp.full(11, 0.1)) if method == "dist_to" else getattr(m, method)(*arrays)


@pytest.mark.parametrize("method", METHODS)
def test_vectors_of_another_length_are_refused(method: str):
    """Longer ones, of which geoopt drops the rest; shorter ones; and of one entry, which would broadcast. Under jit as well."""
    a = points()
    names = METHODS[method]
    jax.jit(lambda *given: jax.tree.leaves(call(MINE, method, *given)))(*(a[n] for n in names))
    for i in range(len(names)):
        if method in ("descend", "descend_along") and i == 2:
            continue  # a momentum, which `transp` gets; see "transp"
        for length in (12, 10, 1):
            wrong = [np.resize(a[n], (4, length)) if j == i else a[n] for j, n in enumerate(names)]
            for run in (lambda *given: call(MINE, method, *given), jax.jit(lambda *given: jax.tree.leaves(call(MINE, method, *given)))):
                with pytest.raises(ValueError, match=rf"has shape \((4, )?{length},?\); its last axis has to have 11 entries"):
                    run(*wrong)


def test_geoopt_drops_what_is_left_over():
    x = np.concatenate([points()["x"], np.full((4, 2), 7.0)], -1)
    assert theirs().projx(torch.tensor(x)).shape == (4, 11)
    np.testing.assert_array_equal(theirs().dist(torch.tensor(x), torch.tensor(-x)), theirs().dist(*torch.tensor([x[:, :11], -x[:, :11]])))
    with pytest.raises(
        ValueError, match=r"has shape \(4, 13\); its last axis has to have 11 entries, as many as .* \(3,\), \(2, 3\), \(2,\)"
    ):
        MINE.projx(x)


def test_every_method_of_a_product_is_called():
    """Those of the protocol that every manifold has, checks, and those that a product does not have are left out."""
    methods = {n for n in dir(ProductManifold) if not n.startswith(("_", "check_", "assert_")) and callable(getattr(ProductManifold, n))}
    without = {n for n in methods if n in vars(Manifold) and not MINE.has(n)} - {*METHODS}
    assert methods - {*METHODS} - OWN == without - OWN
    assert without == {
        *("expmap0", "logmap0", "transp0", "transp0back", "coordinates0", "from_coordinates0", "to_tangent0", "from_tangent0", "reach"),
        *("within_reach", "mobius_add", "to_ball", "random_normal", "has", "with_exact_retraction"),
    }


def test_checks_say_what_is_wrong_with_a_length():
    a = points()
    ok, reason = MINE.check_vector_on_tangent(a["x"], np.ones((4, 12)), ok_point=True, explain=True)
    assert not ok
    assert "u has shape (4, 12); the factors' points have 11 entries together" in reason
    for i, reshape in ((0, True), (2, False)):
        with pytest.raises(ValueError, match="11 entries"):
            MINE.take_submanifold_value(np.ones((4, 12)), i, reshape)


def test_bad_input():
    with pytest.raises(ValueError, match="no factor is given"):
        ProductManifold()
    with pytest.raises(ValueError, match="shape of factor 1 does not fit Sphere"):
        ProductManifold((Euclidean(1), 2), (Sphere(), 1))
    with pytest.raises(ValueError, match=r"part 1 has shape \(3,\); its last axes have to be \(2, 3\)"):
        MINE.pack_point(np.ones(3), np.ones(3), np.ones(2))
    assert "11 entries together" in MINE.check_point(np.ones(10), explain=True)[1]
    assert "factor 0, Sphere: x has norm" in MINE.check_point_on_manifold(np.full(11, 0.1), explain=True)[1]
