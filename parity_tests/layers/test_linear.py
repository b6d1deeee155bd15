"""Linear maps from points to points: against their originals, and their formulas at 50 digits."""

import jax
import numpy as np
import pytest
from mpmath import asinh, mpf, sqrt, workdps

from parity_tests import draws, slow
from parity_tests.layers.twins import CHECKS, NUMBER, RADIUS, Twin, check_values_and_gradients, named
from parity_tests.oracle import lorentz, stereographic
from parity_tests.oracle.networks import Ball, Hyperboloid, dense, exactly
from parity_tests.tolerances import gate, relative_error
from port_jax.layers import LorentzFullyConnected, MobiusLinear, PoincareLinear
from port_jax.manifolds import Euclidean, Lorentz, PoincareBall
from reference_torch.layers import linear as theirs

ROWS = ((5, 4),)
MATRIX = {"kernel": "weight.T", "bias": "bias"}
INNER = {f"linear/{n}": there for n, there in MATRIX.items()}
TWINS = (
    Twin("moebius", "ball", MobiusLinear(3), lambda m: theirs.MobiusLinear(m, 4, 3), ROWS, MATRIX, ("bias",)),
    Twin("moebius", "hyperboloid", MobiusLinear(3), lambda m: theirs.MobiusLinear(m, 4, 3), ROWS, MATRIX, ("bias",)),
    Twin("poincare", "ball", PoincareLinear(3), lambda _: theirs.PoincareLinear(4, 3), ROWS, {"kernel": "z", "bias": "bias"}),
    Twin("fully connected", "hyperboloid", LorentzFullyConnected(3), lambda _: theirs.LorentzFullyConnected(5, 3), ROWS, INNER),
)
TABLE = [(check, twin) for twin in TWINS for check in CHECKS]


@pytest.mark.parametrize(("check", "twin"), slow.all_but({(check_values_and_gradients, TWINS[0])}, TABLE), ids=named)
def test_the_original(check, twin):
    check(twin)


def exact(twin: Twin) -> tuple:
    """Two rows of the layer's outputs, and the numbers that led to them: tangents, parameters and curvature as mpf."""
    raw = twin.raw(5)
    return twin.value(raw)[:2], exactly(raw)


@pytest.mark.parametrize("twin", slow.all_but({TWINS[1]}, TWINS[:2]), ids=named)
def test_moebius_linear_at_50_digits(twin: Twin):
    """exp_0(W log_0 x) moved by the translation that takes the origin to it, applied to b."""
    with workdps(50):
        have, raw = exact(twin)
        space = (Ball if twin.space == "ball" else Hyperboloid)(raw["number"].item())
        want = [
            space.ambient(space.shifted(space.exp0(dense(list(u), raw["params"]["kernel"])), list(raw["params"]["bias"])))
            for u in raw["points"][0][:2]
        ]
        assert relative_error(have, np.array(want, float)) < gate(RADIUS, 0)


def test_poincare_linear_at_50_digits():
    """The distance of y to {y_j = 0} is 2|z_j| times that of x to the hyperplane through exp_0(r_j z_j/|z_j|) with normal z_j."""
    with workdps(50):
        have, raw = exact(TWINS[2])
        k, kernel, bias = -raw["number"].item(), raw["params"]["kernel"], raw["params"]["bias"]
        for y, u in zip(exactly(have), raw["points"][0]):
            x, y = stereographic.expmap0(list(u), k), list(y)
            for j in range(3):
                z = list(kernel[:, j])
                length = sqrt(stereographic.dot(z, z))
                p = stereographic.expmap0(stereographic.times(bias[j] / length, z), k)
                want = 2 * length * stereographic.dist2plane(x, p, z, k)
                axis = [mpf(i == j) for i in range(3)]
                found = stereographic.dist2plane(y, [mpf(0)] * 3, axis, k)
                assert abs(found - asinh(2 * sqrt(-k) * y[j] / (1 + k * stereographic.dot(y, y))) / sqrt(-k)) < mpf(10) ** -40
                assert abs(found - want) < gate(RADIUS, 0) * (1 + abs(want))


def test_fully_connected_at_50_digits():
    with workdps(50):
        have, raw = exact(TWINS[3])
        k = raw["number"].item()
        want = [
            lorentz.point(dense(lorentz.expmap0(list(u), k), raw["params"]["linear/kernel"], raw["params"]["linear/bias"]), k)
            for u in raw["points"][0][:2]
        ]
        assert relative_error(have, np.array(want, float)) < gate(RADIUS, 0)


def test_poincare_linear_of_long_rows_stays_inside():
    """sinh of distances up to 200, whose square overflows float32, and the direction that float64 gives."""
    x = np.array([[0.9, 0.1], [-0.3, 0.9]])
    params = {"kernel": np.array([[40.0, 3.0], [-2.0, 39.0]]), "bias": np.array([0.1, -0.2])}
    run = jax.jit(jax.value_and_grad(lambda p, x: PoincareLinear(2).apply({"params": p}, PoincareBall(1.0), x).sum()))
    value, grads = run(*jax.tree.map(np.float32, (params, x)))
    assert all(np.isfinite(a).all() for a in jax.tree.leaves((value, grads)))
    np.testing.assert_allclose(value, run(params, x)[0], rtol=4e-2)  # the margins of the boundary


def test_a_manifold_of_another_model_is_refused():
    x = np.zeros((1, 3))
    with pytest.raises(ValueError, match=r"LorentzFullyConnected: the manifold is PoincareBall.*use MobiusLinear"):
        LorentzFullyConnected(2).init(draws.key(0), PoincareBall(0.7), x)
    for other in (Lorentz(NUMBER["hyperboloid"]), Euclidean()):
        with pytest.raises(ValueError, match=r"PoincareLinear: the manifold is .*pass PoincareBall"):
            PoincareLinear(2).init(draws.key(0), other, x)
