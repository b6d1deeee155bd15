"""Logits by hyperplanes: against their originals, and as distances to hyperplanes at 50 digits."""

import numpy as np
import pytest
from mpmath import asinh, sqrt, workdps

from parity_tests import draws, slow
from parity_tests.layers.twins import CHECKS, RADIUS, Twin, check_values_and_gradients, named
from parity_tests.oracle import lorentz, stereographic
from parity_tests.oracle.networks import ambient_exp0, exactly
from parity_tests.tolerances import gate
from port_jax.layers import GaneaMLR, LorentzMLR, PoincareMLR
from port_jax.manifolds import Lorentz, PoincareBall
from port_jax.manifolds.isometries import ball_to_hyperboloid
from reference_torch.layers import hyperplanes as theirs

ROWS = ((5, 4),)
BOTH = {"points": "points", "normals": "normals"}
TWINS = (
    Twin("ganea", "ball", GaneaMLR(3), lambda m: theirs.GaneaMLR(m, 4, 3), ROWS, BOTH, ("points",)),
    Twin("ganea", "hyperboloid", GaneaMLR(3), lambda m: theirs.GaneaMLR(m, 4, 3), ROWS, BOTH, ("points",)),
    Twin("poincare", "ball", PoincareMLR(3), lambda _: theirs.PoincareMLR(4, 3), ROWS, {"kernel": "z", "bias": "bias"}),
    Twin("lorentz", "hyperboloid", LorentzMLR(3), lambda _: theirs.LorentzMLR(4, 3), ROWS, {"kernel": "z.T", "bias": "a"}),
)
TABLE = [(check, twin) for twin in TWINS for check in CHECKS]


@pytest.mark.parametrize(("check", "twin"), slow.all_but({(check_values_and_gradients, TWINS[1])}, TABLE), ids=named)
def test_the_original(check, twin):
    check(twin)


def at_distance(length, z, number, space: str):
    """The point at this distance from the origin along z, and the tangent vector z transported there, in ambient coordinates."""
    size = sqrt(stereographic.dot(z, z))
    if space == "ball":
        p = stereographic.expmap0(stereographic.times(length / size / 2, z), -number)
        return p, stereographic.transp0(p, z, -number)
    p = lorentz.expmap0(stereographic.times(length / size, z), number)
    return p, lorentz.transp0(p[1:], z, number)


def logit(x, p, a, number, space: str):
    """The length of a at p times the signed distance of x to the hyperplane through p with normal a."""
    if space == "ball":
        return stereographic.norm(p, a, -number) * stereographic.dist2plane(x, p, a, -number)
    size = sqrt(lorentz.inner(a, a))
    return size * sqrt(number) * asinh(lorentz.inner(x, a) / (sqrt(number) * size))


@pytest.mark.parametrize("twin", slow.all_but({TWINS[0], TWINS[3]}, TWINS), ids=named)
def test_distances_to_hyperplanes_at_50_digits(twin: Twin):
    with workdps(50):
        raw = twin.raw(5)
        have, raw = twin.value(raw), exactly(raw)
        number, params = raw["number"].item(), raw["params"]
        exp0 = ambient_exp0(twin.space, number)
        for i, u in enumerate(raw["points"][0][:2]):
            x = exp0(list(u))
            for j in range(3):
                if "points" in params:
                    p, z = exp0(list(params["points"][j])), list(params["normals"][j])
                    a = stereographic.transp0(p, z, -number) if twin.space == "ball" else lorentz.transp0(p[1:], z, number)
                else:
                    z = list(params["kernel"][:, j])
                    p, a = at_distance(params["bias"][j] * (2 if twin.space == "ball" else 1), z, number, twin.space)
                want = logit(x, p, a, number, twin.space)
                assert abs(have[i, j] - want) < gate(RADIUS, 0) * (1 + abs(want))


def test_both_models_have_the_same_hyperplanes():
    """The ball's logits at offsets r are those of the hyperboloid of k = 1/c at the distances 2r, twice as large."""
    rng = draws.rng(6)
    kernel, r, x = rng.normal(size=(4, 3)), 0.3 * rng.normal(size=3), 0.3 * rng.normal(size=(5, 4))
    ball = PoincareMLR(3).apply({"params": {"kernel": kernel, "bias": r}}, PoincareBall(0.7), x)
    hyperboloid = LorentzMLR(3).apply({"params": {"kernel": kernel, "bias": 2 * r}}, Lorentz(1 / 0.7), ball_to_hyperboloid(x, 0.7))
    np.testing.assert_allclose(ball, 2 * np.asarray(hyperboloid), rtol=1e-12, atol=1e-13)
