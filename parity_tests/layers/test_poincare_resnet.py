"""The layers of Poincaré ResNet against its formulas at 50 digits, the slips of its code among them, and beside layers without."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpmath import acosh, asinh, beta, cosh, mpf, sinh, sqrt, workdps

from parity_tests import draws, slow
from parity_tests.oracle import stereographic as oracle
from parity_tests.oracle.networks import exactly
from parity_tests.tolerances import gate, relative_error
from port_jax.layers import HBatchNorm, PoincareLinear
from port_jax.layers.poincare_resnet import (
    SLIPS,
    PoincareTangentConv2d,
    PoincareTangentLinear,
    TangentBatchNorm,
    WidthResidual,
    slipped_add,
)
from port_jax.manifolds import Lorentz, PoincareBall

C, GATE = 0.7, gate(0.9, 0)
BALL = PoincareBall(C)


def drawn(seed: int, *shape: int, scale: float = 0.4) -> np.ndarray:
    return scale * draws.rng(seed).normal(size=shape)


def applied(layer: Any, params: Any, *args: Any, ball: Any = BALL) -> np.ndarray:
    return np.asarray(jax.jit(lambda p, *rows: layer.apply({"params": p}, ball, *rows))(params, *args))


def connected(u: list, z: np.ndarray, r: np.ndarray, slip: bool) -> list:
    """The linear map of exp_0(u), by the code's formula: λ times 1 - c|x|² in the place of divided by it, if there is the slip."""
    c = mpf(C)
    x, root = oracle.expmap0(u, -c), sqrt(c)
    inner = 1 - c * oracle.dot(x, x)
    lam = 2 * inner if slip else 2 / inner
    w = []
    for column, offset in zip(z.T, r, strict=True):
        length = sqrt(oracle.dot(column, column))
        t = lam * root * oracle.dot(x, column) / length * cosh(2 * root * offset) - (lam - 1) * sinh(2 * root * offset)
        w.append(sinh(root * 2 * length / root * asinh(t)) / root)
    return oracle.logmap0(oracle.times(1 / (1 + sqrt(1 + c * oracle.dot(w, w))), w), -c)


def test_the_linear_layer_at_50_digits():
    """With the slip, and without it, which is `PoincareLinear`. The two differ."""
    u, params = drawn(0, 5, 3), {"kernel": drawn(1, 3, 4), "bias": drawn(2, 4, scale=0.2)}
    found = {}
    for exact in (False, True):
        found[exact] = applied(PoincareTangentLinear(4, exact), params, u)
        with workdps(50):
            want = [connected(list(row), exactly(params["kernel"]), exactly(params["bias"]), not exact) for row in exactly(u)]
        assert relative_error(found[exact], np.array(want, float)) < GATE
    plain = applied(PoincareLinear(4), params, np.asarray(BALL.expmap0(u)))
    assert relative_error(found[True], np.asarray(BALL.logmap0(plain))) < GATE
    assert relative_error(found[False], found[True]) > 0.05


def test_the_convolution_at_50_digits():
    """Zeros around the image, the factor B(nK/2, 1/2)/B(n/2, 1/2) on its tangent vectors, strides, and a window of 2 x 3."""
    u, params = drawn(3, 2, 4, 5, 2, scale=0.3), {"kernel": drawn(4, 2, 3, 2, 3), "bias": drawn(5, 3, scale=0.2)}
    found = applied(PoincareTangentConv2d(3, (2, 3), (2, 1), (1, 1)), params, u)
    framed = np.pad(u, [(0, 0), (1, 1), (1, 1), (0, 0)])
    assert found.shape == (2, 3, 5, 3)
    with workdps(50):
        factor = beta(mpf(6), mpf(1) / 2) / beta(mpf(1), mpf(1) / 2)
        for n, i, j in ((0, 0, 0), (1, 1, 2), (1, 2, 4)):
            window = exactly(framed[n, 2 * i : 2 * i + 2, j : j + 3].reshape(-1))
            want = connected([factor * a for a in window], exactly(params["kernel"].reshape(-1, 3)), exactly(params["bias"]), True)
            assert relative_error(found[n, i, j], np.array(want, float)) < GATE


@pytest.mark.parametrize("slip", slow.all_but({"all"}, SLIPS))
def test_batch_norm_at_50_digits(slip: str):
    """The midpoint Σ γ²x/(Σ γ² - n/2), halved by γ/(1 + γ), and one number for the variance of all points; values do not know the slip."""
    u, params = drawn(6, 2, 3, 3), {"weight": np.array(1.7), "bias": drawn(7, 3, scale=0.3)}
    found = applied(TangentBatchNorm(slip=slip), params, u)
    with workdps(50):
        c = mpf(C)
        xs = [oracle.expmap0(list(row), -c) for row in exactly(u.reshape(-1, 3))]
        gammas = [1 / (1 - c * oracle.dot(x, x)) for x in xs]
        total = [sum(g * x[i] for g, x in zip(gammas, xs, strict=True)) for i in range(3)]
        m = oracle.times(1 / (sum(gammas) - mpf(len(xs)) / 2), total)
        gamma = 1 / sqrt(1 - c * oracle.dot(m, m))
        m = oracle.times(gamma / (1 + gamma), m)
        # the distance by the hyperboloid's formula, which has no Moebius addition
        apart = [
            sum((a - b) ** 2 for a, b in zip(x, m, strict=True)) * g / (1 - c * oracle.dot(m, m)) for x, g in zip(xs, gammas, strict=True)
        ]
        var = sum(acosh(1 + 2 * c * t) ** 2 / c for t in apart) / len(xs)
        goal = oracle.expmap0(list(exactly(params["bias"])), -c)
        scale = sqrt(exactly(params["weight"]).item() / (var + mpf(1) / 10**6))
        want = []
        for x in xs:
            v = oracle.times(scale, oracle.transp(m, goal, oracle.logmap(m, x, -c), -c))
            want.append(oracle.logmap0(oracle.expmap(goal, v, -c), -c))
    assert relative_error(found.reshape(-1, 3), np.array(want, float)) < 10 * GATE  # seven maps after each other
    points = applied(HBatchNorm(True), params, np.asarray(BALL.expmap0(u)))
    assert relative_error(found, np.asarray(BALL.logmap0(points))) < 10 * GATE


def test_the_sum_runs_along_the_width_at_50_digits():
    """The points are the rows of one channel. Along the channels, as in HypLL, the sum is another one."""
    u, v = drawn(8, 2, 3, 4, 2, scale=0.2), drawn(9, 2, 3, 4, 2, scale=0.2)
    found = applied(WidthResidual(), {}, u, v)
    with workdps(50):
        for n, i, channel in ((0, 0, 0), (1, 2, 1)):
            x, y = (oracle.expmap0(list(exactly(image[n, i, :, channel])), -mpf(C)) for image in (u, v))
            want = oracle.logmap0(oracle.mobius_add(x, y, -mpf(C)), -mpf(C))
            assert relative_error(found[n, i, :, channel], np.array(want, float)) < GATE
    along_channels = np.asarray(BALL.logmap0(BALL.mobius_add(BALL.expmap0(jnp.asarray(u)), BALL.expmap0(jnp.asarray(v)))))
    assert relative_error(found, along_channels) > 0.01


def test_the_slip_in_the_derivative_by_the_curvature():
    """1/(D max(q, 1e-15)) for q/D, at points with q above 0 and below; the other derivatives are those of the Moebius sum."""
    x, y, g = (drawn(n, 6, 3) for n in (10, 11, 12))
    x, y = (a / np.maximum(1, C**0.5 * np.linalg.norm(a, axis=1, keepdims=True) / 0.85) for a in (x, y))  # in the ball
    value, back = jax.vjp(slipped_add, *map(jnp.asarray, (x, y, C)))
    right, back_right = jax.vjp(lambda x, y: PoincareBall(C).mobius_add(x, y, project=False), jnp.asarray(x), jnp.asarray(y))
    assert relative_error(value, right) < GATE
    *by_points, by_c = back(jnp.asarray(g))
    for have, want in zip(by_points, back_right(jnp.asarray(g)), strict=True):
        assert relative_error(have, want) < gate(0.9, 1)
    signs = set()
    with workdps(50):
        c, want = mpf(C), mpf(0)
        for a, b, t in zip(exactly(x), exactly(y), exactly(g), strict=True):
            ab, aa, bb, ta, tb = (oracle.dot(*pair) for pair in ((a, b), (a, a), (b, b), (t, a), (t, b)))
            below, q = 1 + 2 * c * ab + c**2 * aa * bb, (2 * ab + bb) * ta - aa * tb
            above = (1 + 2 * c * ab + c * bb) * ta + (1 - c * aa) * tb
            # the formula's own derivative, by a difference at 50 digits, has q/D here
            step = mpf(10) ** -20
            whole = (oracle.dot(oracle.mobius_add(list(a), list(b), -c - step), t)
                     - oracle.dot(oracle.mobius_add(list(a), list(b), -c + step), t)) / (2 * step)  # fmt: skip
            rest = -2 * (ab + c * aa * bb) * above / below**2
            assert abs(whole - q / below - rest) < mpf(10) ** -15
            want += 1 / (below * max(q, mpf(10) ** -15)) + rest
            signs.add(q > 0)
    assert signs == {True, False}
    assert abs(float(by_c) / float(want) - 1) < 1e-12


@pytest.mark.slow  # `slipped_add` has a test of its own
def test_batch_norms_other_derivatives_do_not_know_the_slip():
    """By points and parameters all three are the formula's; by the curvature two are the code's, and as far apart as they are from it."""
    u, params, g = jnp.asarray(drawn(13, 7, 3)), {"weight": jnp.array(1.7), "bias": jnp.asarray(drawn(14, 3))}, drawn(15, 7, 3)

    def slopes(slip: str) -> Any:
        def total(u: Any, params: Any, c: Any) -> Any:
            return (TangentBatchNorm(slip=slip).apply({"params": params}, PoincareBall(c), u) * g).sum()

        return jax.jit(jax.grad(total, (0, 1, 2)))(u, params, jnp.asarray(C))

    exact, *others = (slopes(slip) for slip in SLIPS)
    for other in others:
        for have, want in zip(jax.tree.leaves(other[:2]), jax.tree.leaves(exact[:2]), strict=True):
            assert relative_error(have, want) < 10 * gate(0.9, 1)
    assert abs(exact[2]) < 10
    assert min(abs(float(other[2])) for other in others) > 1e14


def test_what_is_refused():
    with pytest.raises(ValueError, match="PoincareTangentLinear: the manifold is Lorentz"):
        PoincareTangentLinear(2).apply({"params": {"kernel": np.ones((3, 2)), "bias": np.ones(2)}}, Lorentz(1.0), np.ones((1, 3)))
    with pytest.raises(ValueError, match="slip"):
        TangentBatchNorm(slip="some").apply({"params": {"weight": 1.0, "bias": np.ones(3)}}, BALL, np.ones((1, 3)))
