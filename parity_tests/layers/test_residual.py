"""Residual connections, pooling and embedding: against the originals, and the formulas at 50 digits."""

import jax
import numpy as np
import pytest
from mpmath import mpf, sqrt, workdps

from parity_tests import draws, slow
from parity_tests.layers.twins import CHECKS, NUMBER, RADIUS, Twin, check_steps, check_values_and_gradients, named
from parity_tests.oracle import lorentz, stereographic
from parity_tests.oracle.networks import ambient_exp0, exactly, mixed
from parity_tests.tolerances import gate, relative_error
from port_jax import layers
from port_jax.layers.pooling import windows
from port_jax.manifolds import Lorentz, PoincareBall
from reference_torch.layers import embedding, pooling, residual

PAIR, WEIGHT = ((5, 4), (5, 4)), {"w_y": "w_y"}
IMAGE, WEIGHTS = ((2, 4, 5, 3),), draws.fixed(0).uniform(0.2, 1, size=(5, 3))
INDICES = np.array([[0, 2], [2, 5], [1, 1], [3, 4]])
"""All rows: geoopt moves points of the hyperboloid without a gradient by 5e-9, as it bounds lengths by 1e-4 from below."""
TABLE_OF = {"embedding": "embedding"}
TWINS = (
    Twin("moebius residual", "ball", layers.MobiusResidual(), lambda _: residual.MobiusResidual(), PAIR),
    Twin("moebius residual", "hyperboloid", layers.MobiusResidual(), lambda _: residual.MobiusResidual(), PAIR),
    Twin("midpoint residual", "ball", layers.MidpointResidual(), lambda _: residual.MidpointResidual(), PAIR, WEIGHT, positive=("w_y",)),
    Twin(
        "midpoint residual",
        "hyperboloid",
        layers.MidpointResidual(2.5),
        lambda _: residual.MidpointResidual(2.5),
        PAIR,
        WEIGHT,
        positive=("w_y",),
    ),
    Twin("space residual", "hyperboloid", layers.SpaceResidual(), lambda _: residual.SpaceResidual(), PAIR),
    Twin("pool", "ball", layers.MidpointPool(), lambda _: pooling.MidpointPool(), ((5, 3, 4),), extra=(WEIGHTS,)),
    Twin("pool", "hyperboloid", layers.MidpointPool(), lambda _: pooling.MidpointPool(), ((5, 3, 4),), extra=(WEIGHTS,)),
    Twin("pool 2d", "ball", layers.MidpointPool2d((2, 3), (2, 1)), lambda _: pooling.MidpointPool2d((2, 3), (2, 1)), IMAGE),
    Twin("pool 2d", "hyperboloid", layers.MidpointPool2d((2, 2)), lambda _: pooling.MidpointPool2d((2, 2), (2, 2)), IMAGE),
    *(
        Twin(
            "embedding",
            space,
            layers.PointEmbedding(6, 4),
            lambda m: embedding.PointEmbedding(m, 6, 4),
            (),
            TABLE_OF,
            ("embedding",),
            extra=(INDICES,),
        )
        for space in ("ball", "hyperboloid")
    ),
)
TABLE = [(check, twin) for twin in TWINS for check in CHECKS if twin.names or check is not check_steps]


@pytest.mark.parametrize(("check", "twin"), slow.all_but({(check_values_and_gradients, TWINS[3])}, TABLE), ids=named)
def test_the_original(check, twin):
    check(twin)


def midpoint(rows, weights, number, space):
    if space == "ball":
        return stereographic.weighted_midpoint(rows, weights, -number)
    total = mixed(weights, rows)
    return [sqrt(number / -lorentz.inner(total, total)) * a for a in total]


def pair(twin, x, y, w, number):
    """What a residual connection makes of two points."""
    if twin.name.startswith("moebius"):
        if twin.space == "ball":
            return stereographic.mobius_add(x, y, -number)
        u = lorentz.logmap0(y[1:], number)
        return lorentz.expmap(x[1:], lorentz.transp0(x[1:], u[1:], number)[1:], number)
    if twin.name.startswith("space"):
        return lorentz.point(stereographic.plus(x[1:], y[1:]), number)
    middle = midpoint([x, y], [mpf(1), w], number, twin.space)
    return middle if twin.space == "ball" else lorentz.point(stereographic.times(mpf(5) / 2, middle[1:]), number)


@pytest.mark.parametrize("twin", slow.all_but({TWINS[3]}, TWINS[:7]), ids=named)
def test_formulas_at_50_digits(twin: Twin):
    with workdps(50):
        raw = twin.raw(5)
        have, raw = twin.value(raw)[:3], exactly(raw)
        number = raw["number"].item()
        exp0 = ambient_exp0(twin.space, number)
        points = [[[exp0(u) for u in row] if row.ndim == 2 else exp0(row) for row in a[:3]] for a in raw["points"]]
        if twin.name == "pool":
            want = [midpoint(rows, list(exactly(WEIGHTS)[i]), number, twin.space) for i, rows in enumerate(points[0])]
        else:
            w = raw["params"]["w_y"].item() if twin.names else mpf(1)
            want = [pair(twin, x, y, w, number) for x, y in zip(*points, strict=True)]
        assert relative_error(have, np.array(want, float)) < gate(RADIUS, 0)


def test_a_sum_as_it_was_trained():
    """√k a/√max(|⟨a, a⟩|, 1e-4) by all coordinates of a = x + w y: with a negative w the sum may be no direction in time, or short."""
    k, scale, rng = NUMBER["hyperboloid"], 2.5, draws.rng(3)
    m = Lorentz(k)
    x, y = (np.array(m.from_tangent0(rng.normal(size=(4, 3)))) for _ in range(2))
    y[3] = x[3]
    for w in (0.7, -0.6, -1 + 1e-4):
        a = x + w * y
        square = np.abs((a[:, 1:] ** 2).sum(1) - a[:, 0] ** 2)
        want = scale * (np.sqrt(k / np.maximum(square, 1e-4))[:, None] * a)[:, 1:]
        layer = layers.MidpointResidual(scale, as_trained=True)
        found = np.asarray(layer.apply({"params": {"w_y": np.asarray(w)}}, m, x, y))
        np.testing.assert_allclose(found[:, 1:], want, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(found[:, 0], np.sqrt(k + (want**2).sum(1)), rtol=1e-12)
    assert square[3] < 1e-4 < square[0]


def test_windows_are_those_that_fit():
    x = np.arange(20.0).reshape(4, 5, 1)
    np.testing.assert_array_equal(
        windows(x, (2, 3), (2, 2))[..., 0], [[[0, 1, 2, 5, 6, 7], [2, 3, 4, 7, 8, 9]], [[10, 11, 12, 15, 16, 17], [12, 13, 14, 17, 18, 19]]]
    )
    with pytest.raises(ValueError, match="a window of 5 x 2 does not fit an image of 4 x 5: choose a smaller one, or pad"):
        windows(x, (5, 2), (1, 1))


@pytest.mark.parametrize("manifold", [PoincareBall(0.7), Lorentz(NUMBER["hyperboloid"])], ids=["ball", "hyperboloid"])
def test_an_embedding_starts_on_its_manifold(manifold):
    table = layers.PointEmbedding(50, 3, 0.5).init(draws.key(0), manifold, INDICES)["params"]["embedding"]
    manifold.assert_check_point_on_manifold(table)
    distances = np.asarray(jax.vmap(manifold.dist, (0, None))(table, manifold.origin(3 + manifold.ambient, dtype=table.dtype)))
    assert 0.3 * manifold.unit < np.sqrt((distances**2).mean() / 3) < 0.7 * manifold.unit
    with pytest.raises(TypeError, match="indices is an array of type float"):
        layers.PointEmbedding(6, 4).init(draws.key(0), manifold, np.ones(2))
