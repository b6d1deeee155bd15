"""Every manifold of the port as a subject of the laws: points in general position, an isometry, its curvature in closed form.

A subject is built from one positive number (a curvature, a squared radius, a scale), so that one compiled function serves all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import port_jax.manifolds as pm
from parity_tests import draws
from parity_tests.manifolds import closed_forms as closed
from port_jax.linalg import sym, sym_expm, transpose
from port_jax.manifolds.siegel import cayley_transform, inverse_cayley_transform

Array = Any
SPAN = draws.rng(5).standard_normal((5, 3))


@dataclass(frozen=True)
class Subject:
    """`point(m, noise)` is a point from normal numbers, `isometry(m, noise, matrix)` a map, `curvature` gives ⟨R(u, v)v, u⟩."""

    build: Callable[[Array], Any]
    shape: tuple[int, ...]
    dimension: int
    point: Callable[[Any, Array], Array]
    isometry: Callable[[Any, Array, Array], Callable[[Array], Array]]
    curvature: Callable[..., Array]
    radius: Callable[[Any], Array] = lambda m: 1.0
    """The length that others are measured in."""
    cut: Callable[[Any], Array] = lambda m: jnp.inf
    """The distance up to which geodesics are shortest."""
    reach: float = 1.0
    """Length of the longest tangents, in radii."""
    unit: Callable[[Any], Array] = lambda m: 1.0
    """Tangent vector of a curve, over its velocity in coordinates."""
    curved: bool = False
    """Whether points lie on a surface, so that a chart has to project."""
    dtype: Any = float
    signs: tuple[int, ...] = (1, 1, 1, 1)
    laws: tuple[str, ...] = field(default=())
    """The laws that a variant is subject to; () for all."""


def _rotation(matrix: Array, n: int) -> Array:
    return jnp.linalg.qr(matrix[:n, :n])[0]


def _ball_point(m: Any, noise: Array) -> Array:
    # A third of a radian a coordinate: on the sphere a quarter turn from the origin is rare.
    return m.expmap0(noise / 3 * _radius(m))


def _radius(m: Any) -> Array:
    k = jnp.abs(jnp.asarray(m.k, float))
    return jnp.where(k > 0, 1 / jnp.sqrt(jnp.where(k > 0, k, 1)), 1)


def _translation(m: Any, noise: Array, matrix: Array) -> Callable[[Array], Array]:
    a, q = _ball_point(m, noise), _rotation(matrix, noise.shape[-1])
    return lambda z: m.mobius_add(a, q @ z, project=False)


def _boost(m: Any, noise: Array, matrix: Array) -> Callable[[Array], Array]:
    a = _lorentz_point(m, noise) / jnp.sqrt(m.k)
    time, space = a[:1], a[1:]
    corner = jnp.eye(len(space)) + jnp.outer(space, space) / (1 + time)
    boost = jnp.block([[time[None], space[None]], [space[:, None], corner]])
    return lambda z: boost @ jnp.concatenate([z[:1], _rotation(matrix, len(space)) @ z[1:]])


def _lorentz_point(m: Any, noise: Array) -> Array:
    return m.expmap0((noise * jnp.sqrt(m.k)).at[0].set(0))


def _reflections(m: Any, noise: Array, matrix: Array) -> Callable[[Array], Array]:
    first, second = m.projx(noise), m.projx(matrix[0, : len(noise)])
    once = lambda w, z: z - 2 * w * jnp.sum(w * z)  # noqa: E731
    return lambda z: once(first, once(second, z))


def _stretch(matrix: Array, n: int) -> Array:
    """A matrix of determinant not 1, whose condition number stays small."""
    return _rotation(matrix, n) * jnp.exp(jnp.tanh(matrix[-1, :n]) / 2)


def _congruence(m: Any, noise: Array, matrix: Array) -> Callable[[Array], Array]:
    a = _stretch(matrix, noise.shape[-1])
    return lambda z: a @ z @ a.T


def _symplectic(m: Any, noise: Array, matrix: Array) -> Callable[[Array], Array]:
    """Z → -(A Z Aᵀ + S)⁻¹."""
    a = _stretch(matrix, noise.shape[-1])
    return lambda z: -jnp.linalg.inv(a @ z @ a.T + sym(noise.real))


def _half_point(m: Any, noise: Array) -> Array:
    half = sym(noise) / 2
    return jax.lax.complex(half.real, sym_expm(half.imag))


def _conjugated(m: Any, noise: Array, matrix: Array) -> Callable[[Array], Array]:
    inner = _symplectic(m, noise, matrix)
    return lambda z: inverse_cayley_transform(inner(cayley_transform(z)))


def product(build: Callable[[Array], Any], dimension: int, parts: tuple[Subject, ...]) -> Subject:
    """A product of subjects, in their shapes."""

    def split(m: Any, x: Array) -> list:
        return list(zip(parts, m.manifolds, m.unpack_tensor(x)))

    def point(m: Any, noise: Array) -> Array:
        return m.pack_point(*(s.point(f, z) for s, f, z in split(m, noise)))

    def isometry(m: Any, noise: Array, matrix: Array) -> Callable[[Array], Array]:
        maps = [s.isometry(f, z, matrix) for s, f, z in split(m, noise)]
        return lambda x: m.pack_point(*(g(z) for g, z in zip(maps, m.unpack_tensor(x))))

    def curvature(m: Any, x: Array, u: Array, v: Array) -> Array:
        each = zip(parts, m.manifolds, *(m.unpack_tensor(a) for a in (x, u, v)))
        return sum(s.curvature(f, *a) for s, f, *a in each)

    def smallest(what: str) -> Callable[[Any], Array]:
        return lambda m: jnp.min(jnp.stack([jnp.asarray(getattr(s, what)(f), float) for s, f in zip(parts, m.manifolds)]))

    size = sum(int(np.prod(s.shape)) for s in parts)
    return Subject(build, (size,), dimension, point, isometry, curvature, smallest("radius"), smallest("cut"), curved=True)


def _flat(shape: tuple[int, ...], ndim: int) -> Subject:
    def isometry(m: Any, noise: Array, matrix: Array) -> Callable[[Array], Array]:
        return lambda z: (_rotation(matrix, 3) @ z if ndim else z) + noise

    size = int(np.prod(shape))
    return Subject(lambda p: pm.Euclidean(ndim), shape, size, lambda m, z: z, isometry, lambda m, x, u, v: 0.0)


def _constant(build: Callable[[Array], Any], signs: tuple[int, ...] = (1, 1, 1, 1)) -> Subject:
    return Subject(
        build,
        (3,),
        3,
        _ball_point,
        _translation,
        closed.constant(lambda m: m.k),
        _radius,
        lambda m: jnp.where(jnp.asarray(m.k) > 0, jnp.pi * _radius(m), jnp.inf),
        1.5,
        signs=signs,
    )


def _sphere(build: Callable[[], Any], n: int, dimension: int) -> Subject:
    whole = closed.constant(lambda m: 1.0)
    return Subject(
        lambda p: build(), (n,), dimension, lambda m, z: m.projx(z), _reflections, whole, cut=lambda m: jnp.pi, reach=2.5, curved=True
    )


def _stiefel(build: Callable[[], Any], curvature: Callable[..., Array]) -> Subject:
    def isometry(m: Any, noise: Array, matrix: Array) -> Callable[[Array], Array]:
        return lambda z: _rotation(matrix, 4) @ z @ _rotation(matrix[4:, 4:], 2)

    return Subject(lambda p: build(), (4, 2), 5, lambda m, z: m.projx(z), isometry, curvature, curved=True)


def _spd(metric: str, n: int = 3, laws: tuple[str, ...] = ()) -> Subject:
    def orthogonal(m: Any, noise: Array, matrix: Array) -> Callable[[Array], Array]:
        return lambda z: _rotation(matrix, n) @ z @ _rotation(matrix, n).T

    moves = orthogonal if metric == "LEM" else _congruence
    return Subject(
        lambda p: pm.SymmetricPositiveDefinite(metric),
        (n, n),
        n * (n + 1) // 2,
        lambda m, z: sym_expm(sym(z) / 2),
        moves,
        closed.positive_definite,
        laws=laws,
    )


def _permutation(m: Any, noise: Array, matrix: Array) -> Callable[[Array], Array]:
    return lambda z: transpose(z[jnp.array([1, 2, 0])])


def _siegel(cls: type, metric: str) -> Subject:
    rank = 2 if metric in ("fmin", "wsum") else None
    # Weights that grow with the distances: others give no metric.
    weights = jnp.array([0.5, 1.7]) if metric == "wsum" else None
    upper = cls is pm.UpperHalf
    return Subject(
        lambda p: cls(metric, rank, weights),
        (2, 2),
        6,
        _half_point if upper else lambda m, z: inverse_cayley_transform(_half_point(m, z)),
        _symplectic if upper else _conjugated,
        closed.upper_half if upper else closed.bounded_domain,
        reach=0.2,  # of a step x + u inside the domain
        dtype=complex,
        laws=() if metric == "riem" else ("distance", "symmetry"),
    )


_HYPERBOLOID = Subject(
    pm.Lorentz, (4,), 3, _lorentz_point, _boost, closed.constant(lambda m: -1 / m.k), lambda m: jnp.sqrt(m.k), reach=1.5, curved=True
)
_BALL, _PROJECTED = _constant(pm.PoincareBall), _constant(pm.SphereProjection)
_SMALL = replace(_HYPERBOLOID, shape=(3,), dimension=2)
_SIGNS = (-1, 1, 0, -1)


def _exact(subject: Subject) -> Subject:
    """An exact form: all but the retraction is inherited."""
    return replace(subject, laws=("projection", "retraction", "exact"))


def _scaled(base: Subject) -> Subject:
    """Over a base of fixed curvature, the scale being the parameter."""
    below = lambda f: lambda m, *a: f(m.base, *a)  # noqa: E731
    return replace(
        base,
        build=lambda p: pm.Scaled(base.build(jnp.asarray(0.7)), p),
        point=below(base.point),
        isometry=below(base.isometry),
        curvature=below(base.curvature),
        radius=lambda m: m.scale * base.radius(m.base),
        cut=lambda m: m.scale * base.cut(m.base),
        unit=lambda m: m.scale,
    )


SUBJECTS = {
    "Euclidean": _flat((3,), 1),
    "Euclidean of numbers": _flat((), 0),
    "Stereographic": _constant(pm.Stereographic, _SIGNS),
    "StereographicExact": _exact(_constant(pm.StereographicExact, _SIGNS)),
    "PoincareBall": _BALL,
    "PoincareBallExact": _exact(_constant(pm.PoincareBallExact)),
    "SphereProjection": _PROJECTED,
    "SphereProjectionExact": _exact(_constant(pm.SphereProjectionExact)),
    "Lorentz": _HYPERBOLOID,
    "Sphere": _sphere(pm.Sphere, 4, 3),
    "Sphere, intersection": _sphere(lambda: pm.Sphere(intersection=SPAN), 5, 2),
    "SphereExact, complement": _exact(_sphere(lambda: pm.SphereExact(complement=SPAN[:, :2]), 5, 2)),
    "CanonicalStiefel": _stiefel(pm.CanonicalStiefel, closed.canonical_stiefel),
    "EuclideanStiefel": _stiefel(pm.EuclideanStiefel, closed.euclidean_stiefel),
    "EuclideanStiefelExact": _exact(_stiefel(pm.EuclideanStiefelExact, closed.euclidean_stiefel)),
    "SymmetricPositiveDefinite AIM": _spd("AIM"),
    "SymmetricPositiveDefinite SM": _spd("SM", laws=("distance", "symmetry")),
    "SymmetricPositiveDefinite LEM": _spd("LEM", laws=("distance", "symmetry")),
    "BirkhoffPolytope": Subject(
        # geoopt's tolerance of 1e-5 would be the accuracy of every point.
        lambda p: pm.BirkhoffPolytope(max_iter=200, tol=1e-15, eps=0.0),
        (3, 3),
        4,
        lambda m, z: m.projx(jnp.exp(z / 2)),
        _permutation,
        closed.birkhoff,
        reach=0.1,
    ),
    **{f"UpperHalf {metric.value}": _siegel(pm.UpperHalf, metric.value) for metric in pm.SiegelMetricType},
    **{f"BoundedDomain {metric.value}": _siegel(pm.BoundedDomain, metric.value) for metric in pm.SiegelMetricType},
    "ProductManifold": product(
        lambda p: pm.ProductManifold((pm.Lorentz(p), 3), (pm.SymmetricPositiveDefinite(), (2, 2))), 5, (_SMALL, _spd("AIM", 2))
    ),
    "StereographicProductManifold": product(
        lambda p: pm.StereographicProductManifold((pm.PoincareBall(p), 3), (pm.Stereographic(1.3 * p), 3)), 6, (_BALL, _PROJECTED)
    ),
    "Scaled PoincareBall": _scaled(_BALL),
    "Scaled Sphere": _scaled(_sphere(pm.Sphere, 4, 3)),
}


def arguments(subject: Subject, seed: int, exponents: list[float], spread: float, length: float) -> tuple:
    """Lanes of one draw: a curvature each, and normal numbers."""
    rng = draws.rng(seed)
    lanes = len(exponents)
    noise = rng.standard_normal((2, lanes, 7, *subject.shape))
    noise = noise[0] + 1j * noise[1] if subject.dtype is complex else noise[0]
    parameters = np.asarray(subject.signs[:lanes]) * 10.0 ** np.asarray(exponents)
    return parameters, noise, rng.standard_normal((lanes, 6, 6)), np.full(lanes, float(spread)), np.full(lanes, float(length))
