"""Maps of the hyperboloid by space parts and entailment cones: beside the original, 50 digits, the hyperboloid's own operations."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import torch
from mpmath import mpf

from parity_tests import draws
from parity_tests.tolerances import no_worse_bound
from port_jax.layers import lorentz_space as ours
from port_jax.manifolds import Lorentz
from reference_torch.layers import lorentz_space as theirs

C = 0.6
RNG = draws.rng(11)
X, Y = RNG.normal(size=(7, 4)) * RNG.uniform(0.3, 3, size=(7, 1)), RNG.normal(size=(7, 4))
PAIRS: dict[str, tuple[Any, ...]] = {
    "exp_map0": (Y,), "log_map0": (X,), "pairwise_inner": (X, Y), "pairwise_dist": (X, Y), "half_aperture": (X,), "oxy_angle": (X, Y),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_values_and_gradients_are_the_originals(name: str):
    """By random cotangents, into c too; in float32 no farther from float64 than the original."""
    given = [*map(torch.as_tensor, PAIRS[name]), torch.tensor(C, dtype=torch.float64)]
    given = [a.clone().requires_grad_() for a in given]
    want = getattr(theirs, name)(*given)
    cotangent = draws.rng(3).normal(size=tuple(want.shape))
    (want * torch.as_tensor(cotangent)).sum().backward()
    arrays = tuple(jnp.asarray(a.detach().numpy()) for a in given)
    have, back = jax.vjp(getattr(ours, name), *arrays)
    np.testing.assert_allclose(have, want.detach(), rtol=1e-12, atol=1e-13)
    for slope, a in zip(back(jnp.asarray(cotangent)), given, strict=True):
        assert a.grad is not None
        np.testing.assert_allclose(slope, a.grad, rtol=0, atol=1e-11 * float(a.grad.abs().max()))
    small = [a.detach().float() for a in given]
    low = getattr(theirs, name)(*small).numpy()
    exact = getattr(theirs, name)(*(a.double() for a in small)).numpy()
    found = getattr(ours, name)(*(jnp.asarray(a.numpy()) for a in small))
    assert found.dtype == jnp.float32
    assert np.abs(np.asarray(found) - exact).max() <= no_worse_bound(low, exact) + 1e-6 * np.abs(exact).max()


def test_the_hyperboloid_has_the_same_maps():
    space = Lorentz(1 / C)
    points = space.from_tangent0(jnp.asarray(Y))
    np.testing.assert_allclose(ours.exp_map0(Y, C), points[:, 1:], rtol=1e-13)
    np.testing.assert_allclose(ours.log_map0(points[:, 1:], C), Y, rtol=1e-12)
    others = space.from_tangent0(jnp.asarray(X))
    want = space.dist(others[:, None], points[None])
    np.testing.assert_allclose(ours.pairwise_dist(others[:, 1:], points[:, 1:], C), want, rtol=1e-11)


def angle(x: Any, y: Any, c: Any) -> Any:
    """π less the angle at x of the triangle O x y, by tangent vectors: u towards O and v towards y, cos = <u, v> / (|u| |v|)."""

    def lifted(p: Any) -> list:
        return [mpmath.sqrt(1 / c + sum(a * a for a in p)), *p]

    def inner(u: list, v: list) -> Any:
        return sum(a * b for a, b in zip(u[1:], v[1:], strict=True)) - u[0] * v[0]

    at, origin, point = lifted(x), lifted([mpf(0)] * len(x)), lifted(y)
    u, v = ([b + c * inner(at, q) * a for a, b in zip(at, q, strict=True)] for q in (origin, point))
    return mpmath.pi - mpmath.acos(inner(u, v) / mpmath.sqrt(inner(u, u) * inner(v, v)))


def test_angles_and_apertures_at_50_digits():
    """The angle from tangent vectors; the aperture from equation 5 of arXiv 2304.09172, with K = 0.1."""
    with mpmath.workdps(50):
        c = mpf(C)
        want = [angle([mpf(a) for a in x], [mpf(a) for a in y], c) for x, y in zip(X.tolist(), Y.tolist(), strict=True)]
        half = [mpmath.asin(mpf("0.2") / (mpmath.sqrt(c) * mpmath.sqrt(sum(mpf(a) ** 2 for a in x)))) for x in X.tolist()]
    # the original adds 1e-8 to its denominators: of |x| sqrt(w² - 1) and of |x| sqrt(c), both above 0.2 here
    np.testing.assert_allclose(ours.oxy_angle(X, Y, C), np.array(want, float), rtol=1e-7)
    np.testing.assert_allclose(ours.half_aperture(X, C), np.array(half, float), rtol=1e-7)


def test_a_point_beyond_another_lies_in_its_cone():
    x = jnp.array([[1.0, 0.5]])
    assert float(ours.oxy_angle(x, 2 * x, 0.7)[0]) == pytest.approx(0, abs=2e-4)  # the original keeps cosines below 1 - 1e-8
    assert float(ours.oxy_angle(2 * x, x, 0.7)[0]) == pytest.approx(np.pi, abs=2e-4)
    near = jnp.array([[0.01, 0.0]])
    assert float(ours.half_aperture(near, 0.7)[0]) == pytest.approx(np.pi / 2, abs=2e-4)


def test_the_bound_on_long_tangents():
    """sinh of at most arsinh(2^15), along the same ray; the original's clamp has the same derivative: the ray's, none along it."""
    v = np.array([[30.0, 40.0], [3e18, -4e18]])
    for dtype in (np.float64, np.float32):
        found = ours.exp_map0(jnp.asarray(v, dtype), dtype(C))
        want = theirs.exp_map0(torch.as_tensor(v.astype(dtype)), torch.tensor(C, dtype=torch.as_tensor(v.astype(dtype)).dtype))
        np.testing.assert_allclose(found, want, rtol=1e-5 if dtype is np.float32 else 1e-12)
    slope = jax.jvp(lambda v: ours.exp_map0(v, C), (jnp.asarray(v[:1]),), (jnp.asarray(v[:1]),))[1]
    assert float(jnp.abs(slope).max()) < 1e-6


def near_the_origin(call: Callable[..., Any], kind: Any) -> np.ndarray:
    return np.asarray(call(kind(np.array([[1e-6, -2e-6], [1e-9, 0.0]])), kind(np.array(C))))


def test_logarithms_near_the_origin_are_right_where_the_originals_are_not():
    """arcosh(sqrt(1 + r²)) has no digit of r where r² is below rounding: the original gives 1e-4, or 0 in float32."""
    right = near_the_origin(ours.log_map0, jnp.asarray)
    np.testing.assert_allclose(right, [[1e-6, -2e-6], [1e-9, 0.0]], rtol=1e-10)
    wrong = near_the_origin(theirs.log_map0, torch.as_tensor)
    assert np.abs(wrong / np.where(right, right, 1)).max() > 50
    assert not near_the_origin(theirs.log_map0, lambda a: torch.as_tensor(a).float()).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_derivatives_are_finite_at_coincident_points_and_at_the_origin(dtype: type):
    x = jnp.asarray([[0.3, -0.2, 0.5], [0.0, 0.0, 0.0], [1e-12, 0.0, 0.0]], dtype)
    c = jnp.asarray(C, dtype)
    for name in PAIRS:
        function = getattr(ours, name)
        given = (x, x, c) if len(PAIRS[name]) == 2 else (x, c)
        total = lambda *a, function=function: function(*a).sum()  # noqa: E731
        both = jax.jit(lambda *a, total=total: (jax.grad(total, tuple(range(len(a))))(*a), jax.jvp(jax.grad(total), a, a)[1]))
        assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(both(*given))), name
