"""Activations, dropout and layer norm: against the originals, and the formulas at 50 digits."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from mpmath import mpf, sqrt, tanh, workdps

from parity_tests import draws, slow
from parity_tests.layers.twins import CHECKS, RADIUS, Twin, check_steps, check_values_and_gradients, named
from parity_tests.oracle import lorentz
from parity_tests.oracle.networks import ambient_exp0, exactly
from parity_tests.tolerances import DEVIATIONS, gate, relative_error
from port_jax import layers
from port_jax.layers.activations import ACTIVATIONS
from port_jax.manifolds import Lorentz, PoincareBall
from reference_torch.layers import pointwise as theirs

ROWS, NORM = ((5, 4),), {"norm/scale": "norm.weight", "norm/bias": "norm.bias"}
MASK = (draws.fixed(0).uniform(size=(5, 4)) < 0.7) / 0.7


def masked(layer, params, m, points):
    return layer.apply({"params": params}, m, points[0], mask=points[1])


TWINS = (
    Twin("activation in tangent space", "ball", layers.TangentActivation(jnp.tanh), lambda _: theirs.TangentActivation(torch.tanh), ROWS),
    Twin("activation in tangent space", "hyperboloid", layers.TangentActivation(), lambda _: theirs.TangentActivation(), ROWS),
    Twin("activation in space", "hyperboloid", layers.SpaceActivation(jnp.tanh), lambda _: theirs.SpaceActivation(torch.tanh), ROWS),
    Twin(
        "dropout in tangent space", "ball", layers.TangentDropout(0.3), lambda _: theirs.TangentDropout(), ROWS, ours=masked, extra=(MASK,)
    ),
    Twin("dropout in space", "hyperboloid", layers.SpaceDropout(0.3), lambda _: theirs.SpaceDropout(), ROWS, ours=masked, extra=(MASK,)),
    Twin("layer norm in tangent space", "ball", layers.TangentLayerNorm(), lambda _: theirs.TangentLayerNorm(4), ROWS, NORM),
    Twin("layer norm in tangent space", "hyperboloid", layers.TangentLayerNorm(), lambda _: theirs.TangentLayerNorm(4), ROWS, NORM),
    Twin("layer norm in space", "hyperboloid", layers.SpaceLayerNorm(), lambda _: theirs.SpaceLayerNorm(4), ROWS, NORM),
    Twin("rms norm in space", "hyperboloid", layers.SpaceRMSNorm(), lambda _: theirs.SpaceRMSNorm(4), ROWS, {"norm/scale": "norm.weight"}),
)
TABLE = [(check, twin) for twin in TWINS for check in CHECKS if twin.names or check is not check_steps]


@pytest.mark.parametrize(("check", "twin"), slow.all_but({(check_values_and_gradients, TWINS[2])}, TABLE), ids=named)
def test_the_original(check, twin):
    check(twin)


def layer_norm(u, scale, bias):
    mean = sum(u) / len(u)
    var = sum((a - mean) ** 2 for a in u) / len(u)
    return [(a - mean) / sqrt(var + mpf(1) / 10**5) * s + b for a, s, b in zip(u, scale, bias, strict=True)]


@pytest.mark.parametrize("twin", slow.all_but({TWINS[2], TWINS[-1]}, TWINS), ids=named)
def test_formulas_at_50_digits(twin: Twin):
    """f of the tangent coordinates, from which points are drawn, or of the space coordinates."""
    with workdps(50):
        raw = twin.raw(5)
        have, raw = twin.value(raw), exactly(raw)
        number, params = raw["number"].item(), raw["params"]
        exp0 = ambient_exp0(twin.space, number)

        def f(u, i):
            if twin.name.startswith("rms"):
                root = sqrt(sum(a * a for a in u) / len(u) + mpf(1) / 10**8)
                return [a / root * s for a, s in zip(u, params["norm/scale"], strict=True)]
            if "norm" in twin.name:
                return layer_norm(u, params["norm/scale"], params["norm/bias"])
            if "dropout" in twin.name:
                return [a * m for a, m in zip(u, exactly(MASK)[i], strict=True)]
            return [tanh(a) if twin is not TWINS[1] else max(a, mpf(0)) for a in u]

        rows = [list(u) for u in raw["points"][0]]
        if twin.name.endswith("in space"):
            want = [lorentz.point(f(exp0(u)[1:], i), number) for i, u in enumerate(rows)]
        else:
            want = [exp0(f(u, i)) for i, u in enumerate(rows)]
        assert relative_error(have, np.array(want, float)) < gate(RADIUS, 0)


def test_dropout_keeps_the_rate_and_the_mean():
    space = np.ones((4000, 3))
    for layer, m in ((layers.TangentDropout(0.3), PoincareBall(0.01)), (layers.SpaceDropout(0.3), Lorentz(1.0))):
        x = m.from_tangent0(0.1 * space) if m.ambient == 0 else m.projx(m.from_coordinates0(0.1 * space))
        y = layer.apply({}, m, x, False, rngs={"dropout": draws.key(0)})
        kept = np.asarray(y[..., m.ambient :]) != 0
        assert abs(kept.mean() - 0.7) < DEVIATIONS * (0.21 / kept.size) ** 0.5
        coordinates = np.asarray(m.to_tangent0(y) if m.ambient == 0 else y[..., 1:])
        np.testing.assert_allclose(coordinates[kept], 0.1 / 0.7, rtol=1e-6)
        np.testing.assert_array_equal(
            np.asarray(layer.apply({}, m, x))[..., m.ambient :].round(12), np.asarray(x)[..., m.ambient :].round(12)
        )


def test_a_ball_has_no_space_coordinates():
    with pytest.raises(ValueError, match=r"SpaceActivation: the manifold is PoincareBall.*use TangentActivation"):
        layers.SpaceActivation(ACTIVATIONS["elu"]).apply({}, PoincareBall(0.7), np.zeros((1, 3)))
