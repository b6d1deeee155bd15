"""Upper half space and bounded domain: all five metrics against geoopt; closed forms and isometries where geoopt is off."""

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from geoopt.manifolds.siegel import csym_math
from geoopt.manifolds.siegel.vvd_metrics import SiegelMetricType as TheirMetric

from parity_tests import draws, slow
from parity_tests.manifolds.parity import Operation, compare
from port_jax import linalg
from port_jax.linalg import sym
from port_jax.manifolds import siegel
from port_jax.manifolds.bounded_domain import BoundedDomain
from port_jax.manifolds.siegel import SiegelMetricType
from port_jax.manifolds.upper_half import UpperHalf

RNG = draws.stream(17)
PAIRS = {"upper_half": (geoopt.UpperHalf, UpperHalf), "bounded_domain": (geoopt.BoundedDomain, BoundedDomain)}
N = 3
"""Their Takagi decomposition is that of a real matrix of size 2 N."""


def symmetric(g: np.ndarray) -> np.ndarray:
    return 0.5 * (g + np.swapaxes(g, -1, -2))


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape) + 1j * RNG.standard_normal(shape)


def points(kind: str, batch: int = 4) -> dict[str, np.ndarray]:
    raw = normal(4, batch, N, N)
    z = symmetric(raw[:2]).real + 1j * (raw[:2].imag @ np.swapaxes(raw[:2].imag, -1, -2) + 0.5 * np.eye(N))
    if kind == "bounded_domain":
        z = symmetric(np.asarray(siegel.inverse_cayley_transform(jnp.asarray(z))))
    return {"x": z[0], "y": z[1], "u": symmetric(raw[2]), "v": symmetric(raw[3]), "w": 2 * normal(batch, N, N)}


@pytest.mark.parametrize("kind", slow.all_but({"upper_half"}, PAIRS))
def test_parity(kind):
    their_class, my_class = PAIRS[kind]
    theirs, mine = their_class(), my_class()

    def op(name, *names, value=lambda out: out, orders=1, **kwargs):
        return Operation(
            lambda *a: value(getattr(theirs, name)(*a, **kwargs)),
            lambda *a: getattr(mine, name)(*a, **kwargs),
            names,
            orders=orders,
            tangent=dict.fromkeys("xyuv", symmetric),
            backward=2 * N,
        )

    operations = {
        "projx": op("projx", "w", orders=int(kind == "upper_half")),
        "projx inside": op("projx", "x"),
        "retr": op("retr", "x", "u", orders=int(kind == "upper_half")),
        "transp": op("transp", "x", "y", "v"),
    }
    if kind == "upper_half":
        # geoopt's inner is complex; the metric is its real part.
        operations |= {
            "inner": op("inner", "x", "u", "v", value=torch.real),
            "egrad2rgrad": op("egrad2rgrad", "x", "w"),
        }
    for metric in SiegelMetricType:
        rank = N if metric.value in ("fmin", "wsum") else None
        one, other = their_class(TheirMetric(metric.value), rank), my_class(metric, rank)
        # The Finsler ones come back with one axis more from geoopt.
        operations[f"dist {metric.value}"] = Operation(
            lambda x, y, one=one: one.dist(x, y).reshape(x.shape[0]),
            other.dist,
            ("x", "y"),
            tangent=dict.fromkeys("xy", symmetric),
            backward=2 * N,
        )
    compare(operations, points(kind), rtol=1e-9)


def test_pure_functions():
    a, b = points("upper_half"), points("bounded_domain")
    value = {"x": a["x"], "z": b["x"], "y": symmetric(RNG.standard_normal((4, N, N)))}
    both = {
        name: Operation(getattr(csym_math, name), getattr(siegel, name), (argument,), backward=2 * N)
        for name, argument in {
            "cayley_transform": "z",
            "inverse_cayley_transform": "x",
            "to_compound_symmetric": "z",
            "takagi_eigvals": "z",
        }.items()
    }
    both["positive_conjugate_projection"] = Operation(
        csym_math.positive_conjugate_projection, siegel.positive_conjugate_projection, ("y",), tangent={"y": symmetric}, backward=N
    )
    compare(both, value, rtol=1e-10)
    d, s = siegel.takagi_eig(jnp.asarray(b["x"]))
    np.testing.assert_allclose(jnp.conj(s) * d[..., None, :] @ np.conj(np.swapaxes(s, -1, -2)), b["x"], atol=1e-14)
    assert siegel.is_complex_symmetric(b["x"])
    assert not siegel.is_complex_symmetric(b["w"])


def test_public_names():
    """csym_math's functions are here; what is left are other names for jnp's, and i Z, which is 1j * z."""
    same_as_jnp = {
        "to_complex",
        "inverse",
        "eigh",
        "eigvalsh",
        "identity_like",
        "multiply_by_i",
        "block_matrix",
        "Tuple",
    }
    names = {name for name, value in vars(csym_math).items() if callable(value) and not name.startswith("_")}
    assert sorted(names - same_as_jnp - set(vars(siegel))) == []
    assert {metric.value for metric in SiegelMetricType} == {metric.value for metric in TheirMetric}


@pytest.mark.slow  # as the metric's invariance below
@pytest.mark.parametrize("metric", slow.all_but({SiegelMetricType.RIEMANNIAN, SiegelMetricType.WEIGHTED_SUM}, SiegelMetricType))
def test_isometries(metric):
    """Both models have one distance, and it is invariant under Z -> A Z Aᵀ: real A and shifts above, unitary A in the domain."""
    rank = N if metric.value in ("fmin", "wsum") else None
    half, domain = UpperHalf(metric, rank), BoundedDomain(metric, rank)
    z = points("upper_half")
    x, y = z["x"], z["y"]
    distance = half.dist(x, y)
    a, shift = RNG.standard_normal((N, N)), symmetric(RNG.standard_normal((N, N)))
    np.testing.assert_allclose(half.dist(a @ x @ a.T + shift, a @ y @ a.T + shift), distance, rtol=1e-9)
    x, y = siegel.inverse_cayley_transform(x), siegel.inverse_cayley_transform(y)
    np.testing.assert_allclose(domain.dist(x, y), distance, rtol=1e-9)
    q = np.linalg.qr(normal(N, N))[0]
    np.testing.assert_allclose(domain.dist(q @ x @ q.T, q @ y @ q.T), distance, rtol=1e-9)
    assert float(domain.dist(x, x).max()) == 0
    assert np.isfinite(jax.grad(lambda x: jnp.sum(domain.dist(x, y)))(y)).all()


def test_bounded_domain_metric_is_invariant_and_that_of_the_distance():
    """geoopt exchanges (I - ZZ̄)⁻¹ and its conjugate: its inner changes under Z -> AZAᵀ, and its gradient is not the gradient."""
    a, domain, theirs = points("bounded_domain"), BoundedDomain(), geoopt.BoundedDomain()
    x, u, v = a["x"], a["u"], a["v"]
    q = np.linalg.qr(normal(N, N))[0]
    xq, uq, vq = (q @ m @ q.T for m in (x, u, v))
    np.testing.assert_allclose(domain.inner(xq, uq, vq), domain.inner(x, u, v), rtol=1e-10)
    before, after = (theirs.inner(torch.tensor(m), torch.tensor(n)).real.numpy() for m, n in ((x, u), (xq, uq)))
    assert np.abs(after / before - 1).max() > 0.05
    # The Hessian of dist² at the diagonal is twice the metric, of which inner is a quarter; along the real axis both agree.
    second = jax.jit(jax.vmap(lambda x, u: jax.jvp(jax.grad(lambda t: domain.dist2(x, x + t * u)), (0.0,), (1.0,))[1]))(x, u)
    np.testing.assert_allclose(second, 8 * domain.inner(x, u), rtol=1e-9)
    second = jax.jit(jax.vmap(lambda x, u: jax.jvp(jax.grad(lambda t: UpperHalf().dist2(x, x + t * u)), (0.0,), (1.0,))[1]))
    z = points("upper_half")
    np.testing.assert_allclose(second(z["x"], z["u"]), 2 * UpperHalf().inner(z["x"], z["u"]), rtol=1e-9)
    np.testing.assert_allclose(theirs.inner(torch.tensor(x.real + 0j), torch.tensor(u)).real, domain.inner(x.real + 0j, u), rtol=1e-10)
    # <grad, v> is the derivative of f along v.
    np.testing.assert_allclose(domain.inner(x, domain.egrad2rgrad(x, u), v), np.real(np.sum(np.conj(u) * v, (-2, -1))), rtol=1e-9)
    wrong = domain.inner(x, theirs.egrad2rgrad(torch.tensor(x), torch.tensor(u)).numpy(), v)
    assert np.abs(wrong - np.real(np.sum(np.conj(u) * v, (-2, -1)))).max() > 0.05


@pytest.mark.parametrize("metric", SiegelMetricType)
@pytest.mark.parametrize("kind", slow.all_but({"upper_half"}, PAIRS))
def test_a_point_is_at_distance_0_from_itself(kind, metric):
    """geoopt: 2e-16 to 2e-14 (float32: 2e-7 to 8e-6), all of it rounding, with a gradient of size 1, in place of 0 and 0."""
    rank = N if metric.value in ("fmin", "wsum") else None
    their_class, my_class = PAIRS[kind]
    theirs, mine = their_class(TheirMetric(metric.value), rank), my_class(metric, rank)
    for dtype, most in ((np.complex128, 1e-12), (np.complex64, 1e-4)):
        x = points(kind, 20)["x"].astype(dtype)
        z = torch.tensor(x, requires_grad=True)
        distance = theirs.dist(z, z.detach()).reshape(-1)
        distance.sum().backward()
        assert 0 < distance.max() < most
        assert z.grad.abs().max() > 1e-3
        d, slope = jax.jit(jax.value_and_grad(lambda x, y: jnp.sum(mine.dist(x, y))))(x, x)
        assert d == 0
        np.testing.assert_array_equal(slope, 0)


@pytest.mark.parametrize(("dtype", "theirs_stop"), slow.all_but({(np.complex64, 6.3)}, [(np.complex128, 12.21), (np.complex64, 6.3)]))
def test_half_plane(dtype, theirs_stop):
    """n = 1 is the half plane: d = 2 arsinh(|z - w|/(2 √(Im z Im w))), close and far; geoopt stops at log(2/1e-5) = 12.2."""
    t = np.array([0, 1e-12, 1e-6, 0.3, 5, 20, 60.0])
    x = np.full((7, 1, 1), 1j, dtype)
    y = np.asarray(1j * np.exp(t), dtype)[:, None, None]
    rounded = np.log(y.imag.astype(np.float64)[:, 0, 0])
    eps = np.finfo(dtype).eps
    for metric in ("riem", "fone", "finf"):
        np.testing.assert_allclose(jax.jit(UpperHalf(metric).dist)(x, y), rounded, rtol=16 * eps)
    assert geoopt.UpperHalf().dist(torch.tensor(x), torch.tensor(y)).max() < theirs_stop
    # At 60 the 3/2nd power of Im y is beyond float32.
    gradient = jax.jit(jax.grad(lambda y: UpperHalf().dist(x, y)[-2]))(y)
    np.testing.assert_allclose(gradient[-2].imag * y[-2].imag, -1, rtol=1e-5)


@pytest.mark.parametrize("dtype", slow.all_but({jnp.complex64}, [jnp.complex64, jnp.complex128]))
@pytest.mark.parametrize("kind", PAIRS)
def test_projections_random_and_origin(kind, dtype):
    mine, a = PAIRS[kind][1](), points(kind)
    z = mine.random(draws.key(2), 5, N, N, dtype=dtype)
    assert z.dtype == dtype
    assert mine.check_point_on_manifold(z)
    tangent = mine.proju(z, jnp.asarray(a["w"][:1], dtype))
    np.testing.assert_array_equal(mine.proju(z, tangent), tangent)

    @jax.jit
    def twice(w):
        return mine.projx(w), mine.projx(mine.projx(w)), jax.grad(lambda w: jnp.sum(jnp.abs(mine.projx(w)) ** 2))(w)

    far, again, gradient = twice(jnp.asarray(a["w"], dtype))
    assert mine.check_point_on_manifold(far)
    np.testing.assert_allclose(again, far, atol=8 * jnp.finfo(dtype).eps * np.abs(far).max())
    assert np.isfinite(gradient).all()
    assert mine.check_point_on_manifold(mine.origin(2, N, N))
    if kind == "upper_half":
        np.testing.assert_array_equal(mine.origin(N, N), 1j * np.eye(N))


@pytest.mark.slow
def test_second_derivatives_where_singular_values_coincide():
    """d(iI, i exp S) is tr S in fone and |S| in riem for S > 0: at S = 0.7 I the Hessians are 0 and (1 - II/n)/(0.7 √n)."""
    size, at = 0.7, 0.7 * jnp.eye(N)
    s, t = (jnp.asarray(symmetric(RNG.standard_normal((N, N)))) for _ in range(2))
    for cls in (UpperHalf, BoundedDomain):
        place = siegel.inverse_cayley_transform if cls is BoundedDomain else lambda z: z

        def distance(metric, a, cls=cls, place=place):
            ends = (place(1j * linalg.sym_expm(b).astype(complex)) for b in (jnp.zeros((N, N)), sym(a)))
            return cls(metric).dist(*ends)

        for metric in ("fone", "riem")[: 1 + (cls is UpperHalf)]:
            gradient = jax.grad(lambda a, metric=metric, distance=distance: distance(metric, a))
            first, second = jax.jit(lambda a, gradient=gradient: jax.jvp(gradient, (a,), (s,)))(at)
            np.testing.assert_allclose(first, np.eye(N) / (1 if metric == "fone" else N**0.5), atol=1e-12)
            curved = (jnp.sum(s * t) - jnp.trace(s) * jnp.trace(t) / N) / (size * N**0.5)
            np.testing.assert_allclose(jnp.sum(second * t), 0 if metric == "fone" else curved, atol=1e-10)
        # finf has a kink: it falls and rises with the largest eigenvalue of the step, whatever its sign.
        steps = [distance("finf", at + h * jnp.diag(jnp.array([1.0, -1.0, 0.0]))) - size for h in (1e-3, -1e-3)]
        np.testing.assert_allclose(steps, 1e-3, rtol=1e-9)


def test_weights_are_a_leaf():
    x, y = (points("upper_half")[n] for n in "xy")
    v = jax.grad(lambda w: jnp.sum(UpperHalf("wsum", N, w).dist(x, y)))(jnp.ones(N))
    np.testing.assert_allclose(jnp.sum(v), jnp.sum(UpperHalf("fone").dist(x, y)), rtol=1e-12)
    assert np.all(np.diff(v) > 0)


def test_bad_input():
    with pytest.raises(ValueError, match="metric is 'best'; it has to be one of 'riem'"):
        UpperHalf("best")
    with pytest.raises(ValueError, match="rank is None; metric 'fmin' needs"):
        BoundedDomain("fmin")
    with pytest.raises(ValueError, match="weights are given, and metric 'riem' has none"):
        UpperHalf(weights=np.ones(2))
    with pytest.raises(ValueError, match="dtype is float32"):
        UpperHalf().origin(2, 2, dtype=jnp.float32)
    with pytest.raises(NotImplementedError, match="UpperHalf has no expmap; it has"):
        UpperHalf().expmap(jnp.eye(2), jnp.eye(2))
    assert "Im x has the eigenvalue -1" in UpperHalf().check_point_on_manifold(-1j * np.eye(2), explain=True)[1]
    assert "singular value 2" in BoundedDomain().check_point_on_manifold(2 * np.eye(2) + 0j, explain=True)[1]
    assert "have to be 3, its rank" in UpperHalf("fmin", 3).check_point(np.eye(2), explain=True)[1]
