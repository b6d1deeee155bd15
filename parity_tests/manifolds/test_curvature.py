"""Each manifold's `inner` alone, in a chart: its sectional curvature, its geodesics and its parallel transport, against what it claims.

The chart around a point x is q → x + Σ qᵢeᵢ over a basis of the tangent space, put back on the manifold by projx where that is curved.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parity_tests import slow
from parity_tests.manifolds import laws
from parity_tests.manifolds.law_exceptions import EXCEPTIONS
from parity_tests.manifolds.subjects import SUBJECTS, Subject, arguments
from port_jax.riemannian_geometry import geodesic, metric_of, parallel_transport, riemann

EXPONENTS = [-1.0, -0.2, 0.3, 1.0]
INTEGRATED = 1e-7
"""What Dormand and Prince's method at tolerance 1e-9 may be off by."""
TENSOR = 1e-9
"""Of third derivatives of the chart, with a basis and a metric whose condition is below 10²."""
DISTANCES = ("fone", "finf", "fmin", "wsum", " SM", " LEM", "Exact")
NAMES = [name for name in SUBJECTS if not name.endswith(DISTANCES) and "Exact" not in name and SUBJECTS[name].dimension > 1]
"""All but those that differ from another in their distance or retraction only."""


def chart_at(s: Subject, m, x):
    """The chart, and the coordinates of a tangent vector at x."""
    basis = laws.basis(s, m, x)

    def chart(q):
        p = x + jnp.tensordot(q.astype(x.dtype), basis, 1)
        return m.projx(p) if s.curved else p

    rows = jax.vmap(laws.flat)(basis)
    return chart, lambda u: rows @ laws.flat(u)


def curvature(s: Subject, parameter, *draw):
    """⟨R(u, v)v, u⟩ from the metric in the chart, in closed form, and the plane's squared area."""
    m = s.build(parameter)
    c = laws.Case(s, m, *draw)
    chart, coordinates = chart_at(s, m, c.x)
    origin, u, v = jnp.zeros(s.dimension), coordinates(c.u), coordinates(c.v)
    metric = jax.tree_util.Partial(lambda q: metric_of(m, q, chart))
    found = jnp.einsum("ml,lijk,m,i,j,k->", metric(origin), riemann(metric, origin), u, v, u, v)
    return found, s.curvature(m, c.x, c.u, c.v), m.inner(c.x, c.u) * m.inner(c.x, c.v) / c.radius**2


SECTIONS = {
    *("PoincareBall", "Lorentz", "Sphere", "Scaled Sphere", "SymmetricPositiveDefinite AIM", "Euclidean"),
}
INTEGRALS = {"PoincareBall", "Sphere", "UpperHalf riem", "Euclidean"}


@pytest.mark.parametrize("name", slow.all_but(SECTIONS, NAMES))
def test_sectional_curvature(name: str):
    subject = SUBJECTS[name]
    found, claimed, size = jax.jit(jax.vmap(partial(curvature, subject)))(*arguments(subject, 1, EXPONENTS, 0.7, 1.0))
    np.testing.assert_array_less(np.abs(found - claimed), TENSOR * np.maximum(np.abs(claimed), np.asarray(size)) + 1e-300)


def integrated(s: Subject, parallel: bool, factor: float, parameter, *draw):
    """Pairs that agree: where the geodesic of u ends and what it carries, by integration and by expmap and transport, or its length."""
    m = s.build(parameter)
    c = laws.Case(s, m, *draw)
    chart, coordinates = chart_at(s, m, c.x)
    metric = lambda q: metric_of(m, q, chart)  # noqa: E731
    start = jnp.zeros(s.dimension), coordinates(c.u) / c.unit
    point = geodesic(metric, *start)[0]
    pairs = []
    if laws.has(m, "expmap"):
        pairs.append((chart(point), c.end, c.coordinates))
    elif laws.has(m, "dist"):
        pairs.append((m.dist(c.x, chart(point)), factor * m.norm(c.x, c.u), c.radius))
    if parallel:
        vector = parallel_transport(metric, *start, coordinates(c.v))
        there = m.transp_follow_expmap(c.x, c.u, c.v)
        pairs.append((jax.jvp(chart, (point,), (vector,))[1], there, jnp.max(jnp.abs(jnp.stack([c.v, there])))))
    return [jnp.stack([jnp.max(jnp.abs(a - b)), size]) for a, b, size in pairs]


@pytest.mark.parametrize("name", slow.all_but(INTEGRALS, [name for name in NAMES if name != "BirkhoffPolytope"]))
def test_integrated_geodesics_and_transport(name: str):
    """The domain's inner is a quarter of the metric that its distance belongs to, as in geoopt."""
    subject, known = SUBJECTS[name], EXCEPTIONS.get(name, {})
    # The canonical frames' transport is the rotation along the geodesic, an isometry that is not parallel.
    parallel = name != "CanonicalStiefel" and "transport" not in known
    run = jax.jit(jax.vmap(partial(integrated, subject, parallel, 2.0 if "Bounded" in name else 1.0)))
    found = run(*arguments(subject, 2, EXPONENTS[:2], 0.5, 0.5))
    assert len(found) == 1 + parallel
    for error, size in np.asarray(found).transpose(0, 2, 1):
        np.testing.assert_array_less(error, INTEGRATED * size)
