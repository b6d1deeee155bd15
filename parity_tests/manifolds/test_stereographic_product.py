"""Products of stereographic manifolds: every gyrovector operation against geoopt, curvatures of both signs."""

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from parity_tests import draws, slow
from parity_tests.manifolds.parity import Operation, compare
from port_jax.manifolds import Euclidean, PoincareBall, SphereProjection, Stereographic
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


def test_bad_input():
    with pytest.raises(TypeError, match="factor 1 is Euclidean; every factor has to be Stereographic"):
        StereographicProductManifold((PoincareBall(0.7), 2), (Euclidean(1), 2))
    product = StereographicProductManifold((PoincareBall(0.7), 2), (SphereProjection(0.5), 2))
    assert jax.tree.leaves(product) == [0.7, 0.5]
    assert jax.jit(lambda m, x: m.dist0(x))(product, jnp.zeros(4)) == 0
