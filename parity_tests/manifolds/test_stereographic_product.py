"""Products of stereographic manifolds: every gyrovector operation against geoopt, curvatures of both signs."""

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from parity_tests import draws, slow
from parity_tests.manifolds.parity import Operation, compare
from port_jax.manifolds import Euclidean, PoincareBall, Scaled, SphereProjection, Stereographic
from port_jax.manifolds.stereographic.product import StereographicProductManifold

RNG = draws.stream(29)
CURVATURES, SIZES = (-0.7, 0.6), (4, 3)
MINE = StereographicProductManifold(*((Stereographic(k), n) for k, n in zip(CURVATURES, SIZES)))


def theirs(dtype: torch.dtype) -> geoopt.StereographicProductManifold:
    factors = ((geoopt.Stereographic(torch.tensor(k, dtype=dtype)), n) for k, n in zip(CURVATURES, SIZES))
    return geoopt.StereographicProductManifold(*factors)


@pytest.mark.parametrize("orders", slow.all_but({0}, [0, 1]))
def test_parity(orders: int):
    """Values, and gradients: these are the factors', which have tests of their own."""
    reference = {dtype: theirs(dtype) for dtype in (torch.float64, torch.float32)}

    def op(name, *names, **kwargs):
        return Operation(
            lambda *a: getattr(reference[a[-1].dtype], name)(*a, **kwargs),
            lambda *a: getattr(MINE, name)(*a, **kwargs),
            names,
            orders,
        )

    def fn(name):
        return Operation(
            lambda x: getattr(reference[x.dtype], name)(*((torch.sin, x) if name == "mobius_fn_apply" else (x, torch.sin))),
            lambda x: getattr(MINE, name)(*((jnp.sin, x) if name == "mobius_fn_apply" else (x, jnp.sin))),
            ("x",),
            orders,
        )

    raw = 0.25 * RNG.standard_normal((5, 4, 7))
    arrays = dict(zip("xyzuv", raw)) | {"t": RNG.uniform(0.2, 1.5, (4, 1)), "m": RNG.standard_normal((7, 7))}
    binary = {name: op(name, "x", "y") for name in ("mobius_add", "mobius_sub", "mobius_coadd", "mobius_cosub")}
    compare(
        binary
        | {
            "dist2plane": op("dist2plane", "x", "y", "u", scaled=True),
            "dist0": op("dist0", "x", keepdim=True),
            "expmap0": op("expmap0", "u"),
            "logmap0": op("logmap0", "x"),
            "transp0": op("transp0", "y", "u"),
            "transp0back": op("transp0back", "x", "u"),
            "geodesic": op("geodesic", "t", "x", "y"),
            "geodesic_unit": op("geodesic_unit", "t", "x", "u"),
            "mobius_scalar_mul": op("mobius_scalar_mul", "t", "x"),
            "mobius_pointwise_mul": op("mobius_pointwise_mul", "u", "x"),
            "mobius_matvec": op("mobius_matvec", "m", "x"),
            "mobius_fn_apply": fn("mobius_fn_apply"),
            "mobius_fn_apply_chain": fn("mobius_fn_apply_chain"),
            "gyration": op("gyration", "x", "y", "z"),
            "antipode": op("antipode", "x"),
            "dist": op("dist", "x", "y"),
            "take_submanifold_matrix": op("take_submanifold_matrix", "m", i=1),
        },
        arrays,
        rtol=1e-9,
        f32=orders > 0,
    )


def test_zero_distances():
    """geoopt: dist0(0) and dist2plane at x = p have NaN gradients."""
    x = jnp.asarray(0.2 * RNG.standard_normal((3, 7)))
    zero = jnp.zeros_like(x)
    distance, slope = jax.jit(jax.value_and_grad(lambda x: jnp.sum(MINE.dist0(x))))(zero)
    assert distance == 0
    np.testing.assert_array_equal(slope, 0)
    distance, slope = jax.jit(jax.value_and_grad(lambda p: jnp.sum(jnp.abs(MINE.dist2plane(x, p, x, keepdim=True)))))(x)
    assert distance == 0
    assert np.isfinite(slope).all()
    z = torch.zeros(3, 7, dtype=torch.float64, requires_grad=True)
    theirs(torch.float64).dist0(z).sum().backward()
    assert torch.isnan(z.grad).any()


def test_wrapped_normal():
    """Deviation std in the metric at the mean, also for the default std, which geoopt multiplies by zero."""
    mean = jnp.asarray(0.2 * RNG.standard_normal(7))
    for std in (1.0, 0.5):
        drawn = MINE.wrapped_normal(draws.key(0), 4000, 7, mean=mean, **({} if std == 1.0 else {"std": std}))
        logs = MINE.unpack_tensor(MINE.logmap(mean, drawn))
        for i in (0, 1):
            k, part = CURVATURES[i], MINE.take_submanifold_value(mean, i)
            spread = np.std(np.asarray(logs[i]) * 2 / (1 + k * np.sum(part**2)), 0)
            np.testing.assert_allclose(spread, std, rtol=0.06)  # five standard errors of the deviation of 4000 normal numbers
    still = theirs(torch.float64).wrapped_normal(4, 7, mean=torch.tensor(np.asarray(mean)))
    assert np.abs(np.asarray(still) - np.asarray(mean)).max() < 1e-12


VECTORS = {
    **dict.fromkeys(("dist0", "expmap0", "logmap0", "antipode"), 1),
    **dict.fromkeys(("mobius_add", "mobius_sub", "mobius_coadd", "mobius_cosub", "transp0", "transp0back"), 2),
    **dict.fromkeys(("dist2plane", "gyration"), 3),
}


def test_vectors_of_another_length_are_refused():
    """In each argument, and under jit: shapes are known there."""
    x = 0.2 * RNG.standard_normal((4, 7))
    t, m = np.full((4, 1), 0.3), RNG.standard_normal((7, 7))
    calls = {(name, i): (getattr(MINE, name), [x] * n, i) for name, n in VECTORS.items() for i in range(n)}
    calls |= {(name, i): (getattr(MINE, name), [t, x, x], i) for name in ("geodesic", "geodesic_unit") for i in (1, 2)}
    calls |= {("mobius_scalar_mul", 1): (MINE.mobius_scalar_mul, [t, x], 1), ("mobius_matvec", 1): (MINE.mobius_matvec, [m, x], 1)}
    calls["mobius_pointwise_mul", 1] = MINE.mobius_pointwise_mul, [x, x], 1
    calls["mobius_fn_apply", 0] = lambda x: MINE.mobius_fn_apply(jnp.sin, x), [x], 0
    calls["mobius_fn_apply_chain", 0] = lambda x: MINE.mobius_fn_apply_chain(x, jnp.sin), [x], 0
    calls["wrapped_normal", 0] = lambda mean: MINE.wrapped_normal(draws.key(0), 4, 7, mean=mean), [x], 0
    added = {n for n in vars(StereographicProductManifold) if not n.startswith("_") and n != "take_submanifold_matrix"}
    assert {name for name, _ in calls} == added
    for (name, _), (function, arguments, i) in calls.items():
        for length in (8, 6, 1):
            wrong = [np.resize(x, (4, length)) if j == i else a for j, a in enumerate(arguments)]
            for run in (function, jax.jit(function)):
                with pytest.raises(ValueError, match=rf"has shape \(4, {length}\); its last axis has to have 7 entries"):
                    run(*wrong)
        assert np.isfinite(np.asarray(function(*arguments))).all(), name
    for wrong in (np.ones((8, 8)), np.ones((7, 8)), np.ones((8, 7)), np.ones(7)):
        with pytest.raises(ValueError, match="its last axis has to have 7 entries"):
            MINE.mobius_matvec(wrong, x)
        with pytest.raises(ValueError, match="its last axis has to have 7 entries"):
            MINE.take_submanifold_matrix(wrong, 0)
    with pytest.raises(ValueError, match=r"\(4, 8\)"):
        MINE.mobius_pointwise_mul(np.ones((4, 8)), x)
    np.testing.assert_allclose(MINE.mobius_pointwise_mul(0.3, x), MINE.mobius_scalar_mul(0.3, x), rtol=1e-12)


@pytest.mark.slow  # as test_parity
def test_times_meet_the_points_of_a_stack():
    """A factor with the shape of a stack of points: each time or number belongs to an entry of the batch, not of the stack."""
    ball, stacks = PoincareBall(0.7), StereographicProductManifold((PoincareBall(0.7), (2, 3)), (Stereographic(0.6), 1))
    other = geoopt.StereographicProductManifold((geoopt.PoincareBall(), (2, 3)), (geoopt.PoincareBall(), 1))
    x, y = 0.2 * RNG.standard_normal((2, 2, 7))
    t = RNG.uniform(0.2, 0.9, (2, 1))
    for name, arguments in (("geodesic", (x, y)), ("geodesic_unit", (x, y)), ("mobius_scalar_mul", (x,))):
        have = stacks.take_submanifold_value(getattr(stacks, name)(t, *arguments), 0)
        for b in range(2):
            alone = getattr(ball, name)(t[b], *(stacks.take_submanifold_value(a[b], 0) for a in arguments))
            np.testing.assert_allclose(have[b], alone, rtol=1e-13)
    # In geoopt the second time is that of the second point of each stack.
    theirs = other.take_submanifold_value(other.mobius_scalar_mul(torch.tensor(t).float(), torch.tensor(x).float()), 0)
    assert torch.allclose(
        theirs[0, 1], geoopt.PoincareBall().mobius_scalar_mul(torch.tensor(t[1]).float(), torch.tensor(x[0, 3:6]).float())
    )


def test_scaled_factors():
    """As in geoopt, which takes a scaled model for the model."""
    factors = [(geoopt.Scaled(geoopt.PoincareBall(torch.tensor(0.7)), 2.5), 4), (geoopt.Stereographic(torch.tensor(0.6)), 3)]
    other = geoopt.StereographicProductManifold(*factors)
    mine = StereographicProductManifold((Scaled(PoincareBall(0.7), 2.5), 4), (Stereographic(0.6), 3))
    x, y, u = (0.2 * RNG.standard_normal((3, 4, 7))).astype(np.float32)
    calls = {"dist": (x, y), "dist0": (x,), "expmap0": (u,), "logmap0": (x,), "expmap": (x, u), "logmap": (x, y), "mobius_add": (x, y)}
    calls |= {"dist2plane": (x, y, u), "geodesic_unit": (np.full((4, 1), 0.3, np.float32), x, u), "transp0": (y, u), "inner": (x, u)}
    for name, arrays in calls.items():
        want = getattr(other, name)(*map(torch.tensor, arrays)).detach().numpy()
        np.testing.assert_allclose(getattr(mine, name)(*arrays), want, rtol=2e-4, atol=2e-6, err_msg=name)


def test_bad_input():
    with pytest.raises(TypeError, match="factor 1 is Euclidean; every factor has to be Stereographic"):
        StereographicProductManifold((PoincareBall(0.7), 2), (Euclidean(1), 2))
    product = StereographicProductManifold((PoincareBall(0.7), 2), (SphereProjection(0.5), 2))
    assert jax.tree.leaves(product) == [0.7, 0.5]
    assert jax.jit(lambda m, x: m.dist0(x))(product, jnp.zeros(4)) == 0
