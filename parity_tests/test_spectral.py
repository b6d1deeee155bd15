"""Functions of a spectrum where eigenvalues coincide: three derivatives against values of 60 digits, in every mode and dtype.

Each operation is followed along a line t -> operation(x + t u, ...); where it starts, eigenvalues lie 0, one ulp, 1e-12, 1e-8, 1e-4 and
1e-2 apart, two of them and all three.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpmath import mp

from parity_tests import draws, slow
from parity_tests.oracle import matrices as exact
from port_jax import linalg
from port_jax.frechet import frechet_mean
from port_jax.manifolds import BoundedDomain, CanonicalStiefel, SymmetricPositiveDefinite, UpperHalf
from port_jax.manifolds.siegel import inverse_cayley_transform, takagi_funcm
from port_jax.spectral import spectral_function

RNG = draws.stream(71)
GAPS = (0.0, "ulp", 1e-12, 1e-8, 1e-4, 1e-2)
BOUND = {np.float64: 1e-10, np.float32: 1e-3}
"""Of the scale: a third derivative by quotients loses three times 1/gap at the gap of 0.1 where series take over, which makes 1e-12."""
N = 3


def symmetric(a: np.ndarray) -> np.ndarray:
    return 0.5 * (a + np.swapaxes(a, -1, -2))


def spectra(low: float, high: float, dtype: type) -> list[np.ndarray]:
    """Three numbers each: two of them, or all, the gaps apart."""
    rows = []
    for gap in GAPS:
        step = np.finfo(dtype).eps if gap == "ulp" else gap
        rows.append(np.array([low, low * (1 + step), high]))
        rows.append(np.array([high, high * (1 + step), high * (1 + 2 * step)]))
    return rows


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape)


def orthogonal(n: int, p: int | None = None) -> np.ndarray:
    return np.linalg.qr(normal(n, p or n))[0]


def rotated(values: np.ndarray) -> np.ndarray:
    q = orthogonal(N)
    return symmetric(q * values @ q.T)


FUNCTIONS = {
    "log": (jnp.log, mp.log),
    "exp": (jnp.exp, mp.exp),
    "sqrt": (jnp.sqrt, mp.sqrt),
    "rsqrt": (jax.lax.rsqrt, lambda t: 1 / mp.sqrt(t)),
    "tanh": (jnp.tanh, mp.tanh),
}
SLOW_FUNCTIONS = [pytest.param(name, marks=pytest.mark.slow) for name in ("exp", "sqrt", "rsqrt", "tanh")]


def thrice(f: Callable, x, u, v, w, ct):
    """D³f[u, v, w]: by three jvps, by the gradient of ⟨ct, f⟩ along v and w, and by three gradients, each against ct."""
    pair = lambda a, b: jnp.real(jnp.sum(jnp.conj(a) * b))  # noqa: E731
    push = lambda g, at, to: jax.jvp(g, (at,), (to,))[1]  # noqa: E731
    forward = push(lambda x: push(lambda x: push(f, x, u), x, v), x, w)
    pull = lambda g, to: lambda x: pair(jnp.conj(jax.grad(g)(x)), to)  # noqa: E731
    loss = lambda x: pair(ct, f(x))  # noqa: E731
    mixed = push(lambda x: push(jax.grad(loss), x, v), x, w)
    reverse = jax.grad(pull(pull(loss, u), v))(x)
    return forward, pair(jnp.conj(mixed), u), pair(jnp.conj(reverse), w), pair(ct, forward)


@pytest.mark.parametrize("dtype", slow.all_but({np.float64}, [np.float64, np.float32]))
@pytest.mark.parametrize("name", ["log", *SLOW_FUNCTIONS])
def test_mixed_derivatives(name: str, dtype: type):
    """Along three directions in general position, forward, forward over reverse, and reverse over reverse."""
    mine, theirs = FUNCTIONS[name]
    x = np.stack([rotated(s) for s in spectra(0.7, 2.1, dtype)] + [np.diag(s) for s in spectra(0.7, 2.1, dtype)]).astype(dtype)
    u, v, w, ct = (symmetric(normal(*x.shape)).astype(dtype) for _ in range(4))
    found = jax.jit(jax.vmap(partial(thrice, lambda a: spectral_function(a, mine))))(x, u, v, w, ct)
    for i, (whole, *paired) in enumerate(zip(*found)):
        truth = exact.mixed(lambda a: exact.funcm(a, theirs), x[i], (u[i], v[i], w[i]))
        scale = np.abs(truth).max()
        np.testing.assert_allclose(whole, truth, rtol=0, atol=BOUND[dtype] * scale)
        np.testing.assert_allclose(paired, np.sum(ct[i] * truth), rtol=0, atol=BOUND[dtype] * scale * np.abs(ct[i]).sum())


@pytest.mark.slow  # test_linalg.py::test_hermitian_and_batches is its like
def test_hermitian_and_eager():
    """Complex matrices, three coincident eigenvalues among them, without jit."""
    q = np.linalg.qr(normal(N, N) + 1j * normal(N, N))[0]
    hermitian = lambda a: 0.5 * (a + np.conj(a.T))  # noqa: E731
    x = hermitian(q * np.array([0.9, 0.9, 1.7]) @ np.conj(q.T))
    u, v, w, ct = (hermitian(normal(N, N) + 1j * normal(N, N)) for _ in range(4))
    for at in (x, np.eye(N) + 0j):
        whole, *paired = thrice(linalg.sym_logm, jnp.asarray(at), u, v, w, ct)
        truth = exact.mixed(lambda a: exact.funcm(a, mp.log), at, (u, v, w))
        np.testing.assert_allclose(whole, truth, rtol=0, atol=1e-10 * np.abs(truth).max())
        np.testing.assert_allclose(paired, np.real(np.sum(np.conj(ct) * truth)), rtol=0, atol=1e-10 * np.abs(truth).max() * N)


@dataclass(frozen=True)
class Line:
    """`jax_fn(*arrays)` and `exact_fn(*arrays)` with arrays from `start(spectrum)`, and directions in which the arrays move."""

    start: Callable[[np.ndarray], tuple[np.ndarray, ...]]
    jax_fn: Callable
    exact_fn: Callable
    spectrum: tuple[float, float] = (0.7, 2.1)


def positive(values: np.ndarray) -> tuple[np.ndarray, ...]:
    """x, y with x^-½ y x^-½ near a multiple of the identity, and a tangent."""
    x = rotated(values)
    return x, 1.6 * x + (values[1] - values[0]) * symmetric(normal(N, N)), symmetric(normal(N, N))


def half_space(values: np.ndarray) -> tuple[np.ndarray, ...]:
    """Points whose singular values of Y₁^-½ (Z₂ - Z₁) Y₂^-½ lie as the values do."""
    root, q = rotated(np.array([1.0, 1.0, 1.3])), orthogonal(N)
    shift = symmetric(normal(N, N))
    return shift + 1j * symmetric(root @ root), shift + 1j * symmetric(root @ (q * np.exp(values) @ q.T) @ root)


def domain(values: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(symmetric(np.asarray(inverse_cayley_transform(jnp.asarray(z)))) for z in half_space(values))


def frame(values: np.ndarray) -> tuple[np.ndarray, ...]:
    return (orthogonal(4, N) * values @ orthogonal(N).T,)


def takagi(values: np.ndarray) -> tuple[np.ndarray, ...]:
    s = np.linalg.qr(normal(N, N) + 1j * normal(N, N))[0]
    return (symmetric(s * values @ s.T),)


def quotient(x, y):
    half = exact.inverse_root(x)
    return half * y * half


def spd_exp(x, y, u):
    half, back = exact.root(x), exact.inverse_root(x)
    return half * exact.funcm(back * u * back, mp.exp) * half


def spd_log(x, y, u):
    half = exact.root(x)
    return half * exact.funcm(quotient(x, y), mp.log) * half


def spd_transp(x, y, u):
    e = exact.root(x) * exact.root(quotient(x, y)) * exact.inverse_root(x)
    return e * u * e.T


def spd_dist(x, y, u):
    return mp.sqrt(exact.trace(exact.funcm(quotient(x, y), lambda t: mp.log(t) ** 2)))


def spd_flat_dist(x, y, u):
    difference = exact.funcm(x, mp.log) - exact.funcm(y, mp.log)
    return mp.sqrt(exact.trace(difference * difference))


def spd_stein(x, y, u):
    return mp.log(mp.det((x + y) / 2)) - (mp.log(mp.det(x)) + mp.log(mp.det(y))) / 2


def spd_mean(x, y, u):
    half = exact.root(x)
    return half * exact.funcm(quotient(x, y), lambda t: t ** (mp.mpf(7) / 10)) * half


def cross_ratio(x, y):
    """The vᵢ in descending order: tanh²(vᵢ/2) are the eigenvalues of Siegel's cross-ratio of points of the half space."""
    r = (x - y) * mp.inverse(x - y.conjugate()) * (x.conjugate() - y.conjugate()) * mp.inverse(x.conjugate() - y)
    return sorted((2 * mp.atanh(mp.sqrt(mp.re(t))) for t in mp.eig(r, left=False, right=False)), reverse=True)


def raised(x, y):
    """The same of points of the bounded domain."""
    i, eye = mp.mpc(0, 1), exact.identity(N)
    return cross_ratio(*(i * (eye + z) * mp.inverse(eye - z) for z in (x, y)))


def takagi_sinh(z):
    """Z (Z̄Z)^-½ sinh (Z̄Z)^½, whose singular vectors are those of Z."""
    return z * exact.funcm(z.conjugate() * z, lambda t: mp.sinh(mp.sqrt(t)) / mp.sqrt(t))


def euclidean_length(v):
    return mp.sqrt(sum(t * t for t in v))


SPD = SymmetricPositiveDefinite
LINES = {
    "polar": Line(frame, CanonicalStiefel().projx, exact.polar),
    "upper finf": Line(half_space, UpperHalf("finf").dist, lambda *z: cross_ratio(*z)[0]),
}
LONG = {
    "spd dist": Line(positive, lambda x, y, u: SPD().dist(x, y), spd_dist),
    "spd transp": Line(positive, SPD().transp, spd_transp),
    "spd expmap": Line(positive, lambda x, y, u: SPD().expmap(x, u), spd_exp),
    "spd logmap": Line(positive, lambda x, y, u: SPD().logmap(x, y), spd_log),
    "spd stein": Line(positive, lambda x, y, u: SPD("SM").dist(x, y), spd_stein),
    "spd flat": Line(positive, lambda x, y, u: SPD("LEM").dist(x, y), spd_flat_dist),
    "spd mean": Line(positive, lambda x, y, u: frechet_mean(SPD(), jnp.stack([x, y]), jnp.array([0.3, 0.7], x.dtype)), spd_mean),
    "upper riem": Line(half_space, UpperHalf().dist, lambda *z: euclidean_length(cross_ratio(*z))),
    "upper fone": Line(half_space, UpperHalf("fone").dist, lambda *z: sum(cross_ratio(*z))),
    "upper wsum": Line(
        half_space,
        lambda x, y: UpperHalf("wsum", N, jnp.array([0.5, 0.5, 2.0], x.real.dtype)).dist(x, y),
        lambda *z: sum(w * v for w, v in zip((2, 0.5, 0.5), cross_ratio(*z))),
    ),
    "domain riem": Line(domain, BoundedDomain().dist, lambda *z: euclidean_length(raised(*z))),
    "domain fone": Line(domain, BoundedDomain("fone").dist, lambda *z: sum(raised(*z))),
    "takagi": Line(takagi, partial(takagi_funcm, func=jnp.sinh), takagi_sinh),
}
EVERY = LINES | LONG


def orders(f: Callable, ct, t, reverse: bool):
    """Three derivatives of f forward, and the third of ⟨ct, f⟩ forward over reverse and by three reverse modes, if so asked."""
    push = lambda g: lambda t: jax.jvp(g, (t,), (jnp.ones_like(t),))  # noqa: E731
    (_, (first, second)), (_, (_, third)) = push(push(push(f)))(t)
    forward = first, second, third
    if not reverse:
        return forward
    twice = jax.grad(jax.grad(lambda t: jnp.real(jnp.sum(jnp.conj(ct) * f(t)))))
    return *forward, jax.jacfwd(twice)(t), jax.grad(twice)(t)


@pytest.mark.parametrize(
    ("name", "dtype", "reverse"),
    slow.all_but({("polar", np.float64, False)}, [(name, np.float64, False) for name in LINES])
    + [pytest.param(name, dtype, True, marks=pytest.mark.slow) for name in EVERY for dtype in (np.float64, np.float32)],
)
def test_along_lines(name: str, dtype: type, reverse: bool):
    line = EVERY[name]
    # finf and wsum are smooth where the smaller two coincide; where the largest does there is a kink.
    spectra_ = spectra(*line.spectrum, dtype)[:: 2 if name in ("upper finf", "upper wsum") else 1]
    starts = [tuple(_cast(a, dtype) for a in line.start(s)) for s in spectra_]
    moves = [tuple(_cast(_direction(a), dtype) for a in start) for start in starts]
    ct = _cast(normal(len(starts), *jax.eval_shape(line.jax_fn, *starts[0]).shape), dtype)

    def one(start: Sequence, move: Sequence, ct):
        moved = lambda t: line.jax_fn(*(a + t * m for a, m in zip(start, move)))  # noqa: E731
        return orders(moved, ct, jnp.zeros((), dtype), reverse)

    stacked = [tuple(np.stack(arrays) for arrays in zip(*rows)) for rows in (starts, moves)]
    found = jax.jit(jax.vmap(one))(*stacked, ct)
    for i, (first, second, third, *paired) in enumerate(zip(*found)):
        at, to = ([exact.exactly(a) for a in arrays] for arrays in (starts[i], moves[i]))
        moved = lambda t, at=at, to=to: line.exact_fn(*(a + t * m for a, m in zip(at, to)))  # noqa: E731
        truth = [exact.along(moved, order) for order in (1, 2, 3)]
        # The third may vanish where the others do not.
        bound = BOUND[dtype] * max(np.abs(part).max() for part in truth)
        for mine, theirs in zip((first, second, third), truth):
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=bound)
        for mine in paired:
            np.testing.assert_allclose(mine, np.sum(np.real(np.conj(ct[i]) * truth[2])), rtol=0, atol=bound * np.abs(ct[i]).sum())


def _cast(a: np.ndarray, dtype: type) -> np.ndarray:
    return np.asarray(a, np.result_type(dtype, np.complex64) if np.iscomplexobj(a) else dtype)


def _direction(a: np.ndarray) -> np.ndarray:
    """General, and symmetric where the points are."""
    raw = normal(*a.shape) + (1j * normal(*a.shape) if np.iscomplexobj(a) else 0)
    return 0.3 * (symmetric(raw) if a.shape[0] == a.shape[1] else raw)


def test_kinks():
    """At |t|'s kink the value's own derivative, apart from it quotients of values, however close; no NaN where weights meet."""
    for low, high in ((-1e-9, 2e-9), (-0.3, 0.2), (-1e-4, 1.0)):
        x, u = jnp.diag(jnp.array([low, high])), jnp.array([[0.0, 1], [1, 0]])
        moved = jax.jvp(lambda x: spectral_function(x, jnp.abs), (x,), (u,))[1]
        np.testing.assert_allclose(moved[0, 1], (high + low) / (high - low), rtol=1e-12)
    # Here the kink lies between the interval's end and the first node, so that the derivative is 1 at all nodes.
    below, above = 1e-6, 1e-3
    x = jnp.diag(jnp.array([1 - below, 1 + above]))
    raised_ = lambda e: jnp.maximum(e, 1.0)  # noqa: E731
    moved = jax.jvp(lambda x: spectral_function(x, raised_), (x,), (jnp.ones((2, 2)),))[1]
    np.testing.assert_allclose(moved[0, 1], above / (above + below), rtol=1e-11)
    # Eigenvectors of unequal weights are not mixed.
    apart = jax.jvp(lambda x: spectral_function(x, jnp.exp, (1.0, 2.0)), (jnp.eye(2),), (jnp.ones((2, 2)),))[1]
    np.testing.assert_allclose(apart, np.e * np.diag([1, 2]), rtol=1e-14)
    top = lambda x: jnp.trace(spectral_function(x, jnp.exp, (0.0, 0.0, 1.0)))  # noqa: E731
    assert np.isfinite(jax.hessian(top)(jnp.eye(3))).all()
    np.testing.assert_allclose(jnp.trace(jax.grad(top)(jnp.eye(3))), np.e, rtol=1e-14)
