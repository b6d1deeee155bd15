"""Points of the hyperboloid where squares of coordinates overflow, 45 and more from the origin in float32, against many digits."""

from __future__ import annotations

from typing import Any

import geoopt
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import torch
from mpmath import mpf

from parity_tests import cases as cases_of
from parity_tests import draws, slow
from parity_tests.oracle import lorentz as oracle
from parity_tests.oracle import sides
from parity_tests.oracle import truth as truth_of
from parity_tests.oracle.formulas import SPACES
from port_jax.manifolds import Lorentz
from port_jax.optim import riemannian_adam

CURVATURES = (0.01, 0.7, 30.0)
DIGITS = {np.float32: 320, np.float64: 1600}
"""Twice those of the square of the largest coordinate, and 50 more."""
KINDS = ("apart", "one nearer", "opposite", "near the origin", "from the origin", "close", "same", "small angle", "line", "line, opposite")
WITH_Y = ("dist", "dist2", "logmap", "transp")
QUICK = {("dist", np.float32), ("logmap", np.float32), ("dist0", np.float32)}
ALL = [(n, t) for t in (np.float32, np.float64) for n in (*WITH_Y, "dist0", "logmap0", "logmap0back", "norm", "transp0", "transp0back")]
SPARE = 1e4
"""How far below the largest number coordinates are where derivatives of vectors are compared: their terms are longer than they."""


def top(dtype: Any, k: float) -> float:
    """The distance, in units of sqrt(k), of the last points that the dtype holds."""
    return float(np.log(float(np.finfo(dtype).max)) - 0.5 * np.log(k) + np.log(2) - 0.1)


def space(distance: float, direction: Any, k: float, dtype: Any) -> np.ndarray:
    with mpmath.workdps(60):
        length = mpmath.sqrt(mpf(k)) * mpmath.sinh(mpf(float(distance)))
        return np.array([dtype(length * mpf(float(c))) for c in direction], dtype)


def pair(kind: str, far: float, k: float, dtype: Any, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The space parts of x at the distance `far`, and of y."""
    e, g, t = (v / np.linalg.norm(v) for v in rng.standard_normal((3, 3)))
    t = t - (t @ e) * e
    e = np.eye(3)[1] if kind.startswith("line") else e
    x = space(far, e, k, dtype)
    if kind in ("near the origin", "from the origin"):
        near = space(0.7, g, k, dtype)
        return (x, near) if kind == "near the origin" else (near, x)
    y = {
        "apart": (0.97 * far, g),
        "one nearer": (0.6 * far, g),
        "opposite": (0.99 * far, -e - 1e-3 * t),
        "small angle": (0.95 * far, (e + 1e-3 * t) / np.linalg.norm(e + 1e-3 * t)),
        "line": (0.9 * far, e),
        "line, opposite": (0.9 * far, -e),
    }.get(kind)
    if y is not None:
        return x, space(*y, k, dtype)
    return x, x if kind == "same" else (x * dtype(0.9)).astype(dtype)


def cases(name: str, dtype: Any) -> list[dict[str, Any]]:
    rng, found = draws.rng(0), []
    kinds = KINDS if name in WITH_Y else ("apart", "line")
    for i, kind in enumerate(kinds):
        for j, part in enumerate((0.55, 0.8, 1.0)):
            k = float(dtype(CURVATURES[(i + j) % 3]))
            x, y = pair(kind, part * top(dtype, k), k, dtype, rng)
            u = x * dtype(1e-3) if kind.startswith("line") else (rng.standard_normal(3) * k**0.5).astype(dtype)
            case = {"x": x, "y": y, "u": u, "u0": rng.standard_normal(3).astype(dtype), "c": rng.standard_normal(4).astype(dtype)}
            found.append(case | {"k": dtype(k), "part": part, "kind": kind})
    return found


def worst(have: Any, want: np.ndarray, condition: float, least: float = 0.0, factor: float = 1.0) -> float:
    """The error in eps over one plus the condition number; numbers below the smallest normal one are 0 to XLA, before any `factor`."""
    info = np.finfo(have.dtype)
    # numpy's float64 has no room for a truth beyond the largest float64
    if not np.abs(want).max() < float(info.max) / 4:
        return 0.0
    error = np.abs(np.asarray(have, np.float64).ravel() / 2 - want / 2).max() * 2 - 4 * factor * float(info.tiny)
    return error / (max(np.abs(want).max(), least, float(info.tiny)) * float(info.eps) * (1 + condition))


@pytest.mark.parametrize(("name", "dtype"), slow.all_but(QUICK, ALL))
def test_values_and_derivatives(name, dtype, monkeypatch):
    """To the conditioning, up to the last points that the dtype holds; derivatives in space parts and in k."""
    monkeypatch.setitem(truth_of.DIGITS, "lorentz", DIGITS[dtype])
    formula, some = SPACES["lorentz"][name], cases(name, dtype)
    exact = truth_of.truths(formula, [{n: a for n, a in c.items() if n not in ("part", "kind")} for c in some], "lorentz")
    k = np.array([c["k"] for c in some])[:, None]
    arrays = [np.stack([c[kind] for c in some]) for kind in formula.kinds]
    value, gradients = sides.port_jax("lorentz", name, formula, k, arrays, np.stack([c["c"] for c in some]))
    wrong = []
    for i, (case, t) in enumerate(zip(some, exact)):
        line, most = case["kind"].startswith("line"), top(dtype, case["k"])
        # transported to a point r times nearer to the origin, a radial vector is r times shorter, with the error of its old length
        length = float(np.abs(case["u"]).max()) if name == "transp" else 0.0
        found = {"value": worst(value[i], t.value, t.condition, length) / (8 if line and length else 1)}
        # in reverse derivatives of vectors pass through coordinates times coordinates; the truth of a logarithm of 0 has none, and
        # in float64 its steps are longer than a derivative across a line
        vector = len(t.value) > 1
        compared = not (vector and case["part"] * most > most - np.log(SPARE / case["k"])) and t.value.any()
        if compared and not (line and dtype == np.float64) and not (name == "transp" and case["kind"] in UNDERIVED):
            # 1/|x|, which may be 0 to XLA, is multiplied by the vectors
            longest = max(1.0, *(float(np.abs(case[a]).max()) for a in ("c", *formula.kinds) if a not in ("x", "y")))
            for n, want in t.gradients.items():
                terms = max(float(np.abs(t.gradients[a] * case[a].astype(np.float64)).max()) for a in formula.kinds) / float(case["k"])
                if n == "k":
                    # by homogeneity a sum of points times the derivatives by them, which are known to their own conditioning
                    condition = max(t.gradient_conditions[a] for a in ("k", *formula.kinds) if a in t.gradient_conditions)
                    found[n] = worst(gradients[n][i], want, condition, terms) if terms < float(np.finfo(dtype).max) / 256 else 0.0
                else:
                    found[n] = worst(gradients[n][i], want, t.gradient_conditions[n], factor=longest)
        allowed = {"k": 256 * ULP}  # a sum of terms that cancel
        wrong += [
            f"{case['kind']}, {case['part']}, k={case['k']:.3g}: {n} {e:.3g}" for n, e in found.items() if not e <= allowed.get(n, ULP)
        ]
    assert not wrong, "\n".join(wrong)


@jax.jit
def _second(k, x, y):
    """The distance, its gradient, and its second derivative along (k, x, y) itself, from space parts."""
    lifted = lambda k, a: Lorentz(k).projx(jnp.concatenate([jnp.zeros(1, a.dtype), a]))  # noqa: E731
    f = lambda k, x, y: Lorentz(k).dist(lifted(k, x), lifted(k, y))  # noqa: E731
    gradient = jax.grad(f, (0, 1, 2))
    return f(k, x, y), *jax.jvp(gradient, (k, x, y), (k, x, y))


@pytest.mark.parametrize("kind", slow.all_but({"opposite"}, KINDS[:5]))
def test_second_derivatives(kind):
    """float32 against float64, where the same points are not far: no square overflows."""
    for k, part in zip(CURVATURES, (0.6, 0.8, 0.9)):
        x, y = pair(kind, part * top(np.float32, k), k, np.float32, draws.rng(5))
        found, exact = (_second(*(jnp.asarray(a, dtype) for a in (np.float32(k), x, y))) for dtype in (np.float32, np.float64))
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=float(4e-38 + 1e-4 * np.abs(b).max()))


@jax.jit
def _last(m, x, y):
    return m.dist(x, y), m.dist0(x), m.projx(x), m.dist(x, x), jax.grad(m.dist, (0, 1))(x, y)


@pytest.mark.parametrize(("k", "dtype"), slow.all_but({(CURVATURES[0], np.float32)}, [(k, t) for k in CURVATURES for t in DIGITS]))
def test_the_last_points(k, dtype):
    """Opposite points at the largest number: their distance is the logarithm of 4 x0²/k, and half of it from the origin."""
    far = dtype(0.97) * np.finfo(dtype).max
    manifold = Lorentz(jnp.asarray(dtype(k)))
    x, y = (np.array([far, 0, s * dtype(0.6) * far, dtype(0.8) * s * far], dtype) for s in (1, -1))
    want = float(mpmath.sqrt(mpf(float(dtype(k)))) * (2 * (mpmath.log(2 * mpf(float(far))) - mpmath.log(mpf(float(dtype(k)))) / 2)))
    distance, from_origin, projected, zero, gradients = _last(manifold, x, y)
    for found, truth in ((distance, want), (manifold.dist(x, y), want), (from_origin, want / 2), (projected, x)):
        np.testing.assert_allclose(found, truth, rtol=4 * np.finfo(dtype).eps)
    assert zero == 0
    assert all(np.isfinite(g).all() for g in gradients)


def test_one_dimension():
    """On a line the distance is the difference of the distances from the origin, however far out."""
    m = Lorentz(np.float32(0.7))
    for near in (5.0, 20.0, 60.0, 80.0):
        x, y = (m.projx(np.array([0, space(r, [1.0], 0.7, np.float32)[0]], np.float32)) for r in (near, near + 3))
        want = float(
            mpmath.sqrt(mpf("0.7"))
            * (mpmath.asinh(mpf(float(y[1])) / mpmath.sqrt(0.7)) - mpmath.asinh(mpf(float(x[1])) / mpmath.sqrt(0.7)))
        )
        np.testing.assert_allclose(m.dist(x, y), want, rtol=2e-6)
        u = m.logmap(x, y)
        np.testing.assert_allclose(m.norm(x, u), want, rtol=2e-6)
        np.testing.assert_allclose(m.norm(m.origin(2), m.transp0back(x, u)), want, rtol=2e-6)


@jax.jit
def _logarithm(k, x, y, c):
    """<c, log_x y> and its gradient, from space parts."""
    lifted = lambda k, a: Lorentz(k).projx(jnp.concatenate([jnp.zeros(1, a.dtype), a]))  # noqa: E731
    return jax.value_and_grad(lambda k, x, y: c @ Lorentz(k).logmap(lifted(k, x), lifted(k, y)), (0, 1, 2))(k, x, y)


def test_the_logarithm_towards_the_other_side_of_the_origin():
    """From 70 radii: with an angle above 90° the derivative by the near point has a factor of the far one, and overflowed."""
    rng = draws.rng(9)
    e, g = (v / np.linalg.norm(v) for v in rng.standard_normal((2, 3)))
    k, c = np.float32(0.7), np.float32([1.0, -0.3, 0.8, 0.4])
    x, y = space(0.8 * top(np.float32, 0.7), e, 0.7, np.float32), space(0.7, -e - 0.5 * g, 0.7, np.float32)
    found, exact = (_logarithm(*(jnp.asarray(a, dtype) for a in (k, x, y, c))) for dtype in (np.float32, np.float64))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=float(1e-4 * np.abs(b).max()))


@jax.jit
def _step(manifold, x, grad):
    square, move = manifold.descend_along(x, grad, jnp.zeros_like(x), 0.9)
    return square, *move(jnp.full((len(x), 1), -0.3, x.dtype))


@pytest.mark.parametrize("dtype", slow.all_but({np.float32}, [np.float32, np.float64]))
def test_the_first_step_of_adam(dtype):
    """A fused step from rest: <r, r>, the point, its change and the momentum, of which none was right from 16 on in float32."""
    digits, rows = DIGITS[dtype], []
    for k, part in zip(CURVATURES, (0.2, 0.6, 0.9)):
        rng = draws.rng(int(100 * part))
        xs = space(part * top(dtype, k), rng.standard_normal(3) / 2, k, dtype)
        # <x, grad>/k of order one, for a short step: one that leads back to the origin makes coordinates of the last digits of far ones
        rows.append((dtype(k), xs, (k * rng.standard_normal(4) / np.abs(xs).max()).astype(dtype)))
    for k, xs, grad in rows:
        x = Lorentz(k).projx(jnp.concatenate([jnp.zeros(1, dtype), xs]))[None]
        found = [np.asarray(a)[0] for a in _step(Lorentz(k), x, grad[None])]
        with mpmath.workdps(digits):
            kk, p, g = mpf(float(k)), [mpf(float(a)) for a in xs], [mpf(float(a)) for a in grad]
            r = oracle.egrad2rgrad(p, g, kk)
            u = [mpf(float(dtype(-0.3))) * (1 - mpf(float(dtype(0.9)))) * a for a in r]
            y, point = oracle.expmap(p, u[1:], kk), oracle.point(p, kk)
            m = oracle.transp(p, y[1:], [a / mpf(float(dtype(-0.3))) for a in u[1:]], kk)
            wants = [[oracle.inner(r, r)], y, [a - b for a, b in zip(y, point)], m]
        for name, have, want in zip(("square", "point", "change", "momentum"), found, wants, strict=True):
            size = max(abs(a) for a in want)
            least = max(abs(a) for a in point) if name == "change" else 0  # a difference of rounded points
            error = max(abs(mpf(float(a)) - b) for a, b in zip(have, want)) / max(size, least)
            assert error < 32 * np.finfo(dtype).eps, (name, k, float(error))


def test_where_geoopt_has_no_digits():
    """Its distance 46 from the origin, and the square of a gradient that moves a point by about 1, in float32."""
    for far, call in ((46.0, "dist"), (60.0, "dist"), (16.0, "square"), (20.0, "square"), (46.0, "square")):
        rng = draws.rng(11)
        xs, ys = (space(far, e, 1.0, np.float32) for e in cases_of.directions(rng, 2, 3))
        m, mine = geoopt.Lorentz(torch.tensor(1.0)), Lorentz(np.float32(1))
        x, y = (torch.tensor(np.asarray(mine.projx(np.float32([0, *a])))) for a in (xs, ys))
        grad = torch.tensor((rng.standard_normal(4) / np.abs(xs).max()).astype(np.float32))
        theirs = m.dist(x, y) if call == "dist" else m.component_inner(x, m.egrad2rgrad(x, grad.clone())).max()
        if call == "dist":
            right = mine.dist(x.numpy(), y.numpy())
        else:
            right = mine.descend_along(x.numpy()[None], grad.numpy()[None], np.zeros((1, 4), np.float32), 0.9)[0][0, 0]
        assert not abs(float(theirs) / float(right) - 1) < 0.5, (far, call, theirs, right)


def test_training_pulls_far_points_in():
    """Points 50 to 80 from the origin in float32, one on an axis, by RiemannianAdam on the distance to it."""
    m = Lorentz(np.float32(1.3))
    directions = np.concatenate([np.eye(3)[:1], cases_of.directions(draws.rng(9), 2, 3)])
    x = jnp.stack([m.projx(np.float32([0, *space(r, e, 1.3, np.float32)])) for r, e in zip((50.0, 65.0, 80.0), directions)])
    optimizer = riemannian_adam(0.5, manifolds=m)

    def step(carry, _):
        x, state = carry
        loss, grad = jax.value_and_grad(lambda x: m.dist0(x).sum())(x)
        updates, state = optimizer.update(grad, state, x)
        return (x + updates, state), loss

    losses = jax.jit(lambda x: jax.lax.scan(step, (x, optimizer.init(x)), None, length=100)[1])(x)
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0] - 100


def test_what_projx_makes_is_on_the_manifold():
    """Up to the last points; what is off by 1e-3 of its time coordinate is not, and its message says what x0 has to be."""
    for dtype in (np.float32, np.float64):
        rough = 64 * np.finfo(dtype).eps
        for k in CURVATURES:
            m, rng = Lorentz(dtype(k)), draws.rng(7)
            for distance in (0.1, 1.0, 5.0, 20.0, 0.6 * top(dtype, k), top(dtype, k) - 1):
                directions = rng.standard_normal((8, 6))
                directions /= np.linalg.norm(directions, axis=1, keepdims=True)
                x = m.projx(np.concatenate([np.zeros((8, 1), dtype), [space(distance, e, k, dtype) for e in directions]], 1))
                for rounded in (x, x.at[:, 0].multiply(1 + np.finfo(dtype).eps)):
                    assert m.check_point_on_manifold(rounded), (dtype, k, distance)
                v = np.asarray(m.proju(x, rng.standard_normal(x.shape).astype(dtype) * dtype(0.1 * k / np.abs(x).max())))
                assert m.check_vector_on_tangent(x, v), (dtype, k, distance)
                if distance >= 20:
                    ok, reason = m.check_point_on_manifold(x.at[3, 0].multiply(1 + rough), explain=True)
                    assert not ok
                    assert f"should be {x[3, 0]:.8g}" in reason
                    assert not m.check_vector_on_tangent(x, x.at[:, 0].multiply(1 + rough))


ULP = 64
UNDERIVED = ("same", "from the origin", "line", "line, opposite")
"""Pairs between which the derivative of a transport is infinite or NaN from some distance on: see `oracle/exceptions.py`."""
