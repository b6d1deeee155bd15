"""The manifolds of the optimizers' table: geoopt's, the port's, and points in general position on them.

`SPACES` are for optimizers that a person makes. Where geoopt's manifold is wrong and the port is not (docs/differences.md lists each case
with its test), geoopt's operation is repaired here, so that a trajectory shows the optimizer and not the manifold. A comparison on these
proves that the port's optimizer is geoopt's on a right manifold; it proves nothing about a run of geoopt's own classes.

`ORIGINALS` are for runs that geoopt has begun: its classes as they are. A translated optimizer has to take their steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import geoopt
import jax.numpy as jnp
import numpy as np
import torch

from parity_tests import draws
from port_jax import manifolds as port

RNG = draws.stream(0)
POINTS = 5


@dataclass(frozen=True)
class Space:
    """`theirs` and `ours` make the manifold from its curvatures in the dtype of a run; `start` are points in float64.

    curvatures: one for each entry of the first axis of `start`, or None. rows: whether the points are vectors, as the sparse
    optimizers take them. decays: whether the manifold has what decoupled decay needs: an origin unlike other points, logarithm,
    exponential and transport between two points. stacks: whether geoopt treats the points of a batch one by one. refused: options that
    geoopt cannot run here.
    """

    theirs: Callable[[Any], Any]
    ours: Callable[[Any], port.Manifold]
    start: np.ndarray
    curvatures: np.ndarray | None = None
    rows: bool = True
    decays: bool = True
    stacks: bool = True
    refused: tuple[str, ...] = ()

    def of_geoopt(self, dtype: Any) -> Any:
        """A new manifold, since geoopt keeps the curvature as a parameter; None stands for a plain torch parameter."""
        manifold = self.theirs(None if self.curvatures is None else torch.tensor(self.curvatures.astype(dtype)))
        return manifold if manifold is None else manifold.to(torch.tensor(np.zeros(0, dtype)).dtype)

    def of_port(self, dtype: Any) -> port.Manifold:
        return self.ours(None if self.curvatures is None else jnp.asarray(self.curvatures, dtype))

    def table(self) -> Space:
        """The same geometry with one curvature and a matrix of points."""
        if self.curvatures is None or self.curvatures.ndim == 0:
            return self
        return Space(self.theirs, self.ours, self.start[-1], self.curvatures[-1].reshape(()))


def inside(curvatures: list[float], d: int = 4) -> np.ndarray:
    """Points `[curvatures, POINTS, d]` from the origin's neighbourhood to 0.95 of the radius."""
    direction = RNG.standard_normal((len(curvatures), POINTS, d))
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    k = np.abs(curvatures).reshape(-1, 1, 1)
    return direction * np.linspace(0.02, 0.95, POINTS)[:, None] / np.sqrt(np.where(k == 0, 1, k))


def curved(theirs: Any, ours: Any, *curvatures: float) -> Space:
    """A model of constant curvature with one array of points for each curvature."""
    return Space(theirs, ours, inside(list(curvatures)), np.array(curvatures).reshape(-1, 1, 1))


def hyperboloid(k: float) -> Space:
    """geoopt's takes no batch of curvatures."""
    space = RNG.standard_normal((POINTS, 6))
    space *= np.linspace(0.1, 2, POINTS)[:, None] * np.sqrt(k) / np.linalg.norm(space, axis=-1, keepdims=True)
    points = np.concatenate([np.sqrt(k + (space**2).sum(-1, keepdims=True)), space], -1)
    return Space(geoopt.Lorentz, port.Lorentz, points, np.array(k))


def unit(*shape: int) -> np.ndarray:
    x = RNG.standard_normal(shape)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def frames(*shape: int) -> np.ndarray:
    return np.linalg.qr(RNG.standard_normal(shape))[0]


def definite(n: int, batch: int = 3) -> np.ndarray:
    q = frames(batch, n, n)
    return (q * np.exp(RNG.uniform(-1, 1, (batch, 1, n)))) @ q.swapaxes(-1, -2)


def doubly_stochastic(n: int, batch: int = 3) -> np.ndarray:
    x = np.exp(RNG.uniform(-1, 1, (batch, n, n)))
    for _ in range(500):
        x /= x.sum(-1, keepdims=True)
        x /= x.sum(-2, keepdims=True)
    return x


def symmetric(n: int, batch: int = 3) -> np.ndarray:
    x = RNG.standard_normal((batch, n, n))
    return (x + x.swapaxes(-1, -2)) / 2


def bounded(n: int) -> np.ndarray:
    z = symmetric(n) + 1j * symmetric(n)
    return 0.6 * z / np.linalg.norm(z, 2, axis=(-2, -1), keepdims=True)


class CanonicalStiefel(geoopt.CanonicalStiefel):
    """geoopt's proju is its egrad2rgrad and doubles the part of a tangent vector inside the span of x."""

    def proju(self, x: Any, u: Any) -> Any:
        inside = x.mT @ u
        return u - x @ (inside + inside.mT) / 2


class BirkhoffPolytope(geoopt.BirkhoffPolytope):
    """geoopt's proju(x, u), and with it its transport, projects x * u."""

    def egrad2rgrad(self, x: Any, u: Any) -> Any:
        return super().proju(x, u)

    def proju(self, x: Any, u: Any) -> Any:
        return super().proju(x, u / x)


class UpperHalf(geoopt.UpperHalf):
    """geoopt's inner(keepdim=True) has one axis too few for a batch, and its proju is its egrad2rgrad."""

    def proju(self, x: Any, u: Any) -> Any:
        return (u + u.mT) / 2

    def inner(self, z: Any, u: Any, v: Any = None, *, keepdim: bool = False) -> Any:
        full = super().inner(z, u, v, keepdim=True)
        return full[..., None] if keepdim else full[..., 0]


class BoundedDomain(geoopt.BoundedDomain):
    """As UpperHalf; and geoopt exchanges I - Z conj(Z) and its conjugate in egrad2rgrad and in inner."""

    proju = UpperHalf.proju

    def egrad2rgrad(self, z: Any, u: Any) -> Any:
        gap = torch.eye(z.shape[-1], dtype=z.dtype) - z @ z.conj()
        moved = gap @ u @ gap.conj()
        return (moved + moved.mT) / 2

    def inner(self, z: Any, u: Any, v: Any = None, *, keepdim: bool = False) -> Any:
        p = torch.linalg.inv(torch.eye(z.shape[-1], dtype=z.dtype) - z @ z.conj())
        full = (p @ u @ p.conj() @ (u if v is None else v).conj()).diagonal(dim1=-2, dim2=-1).sum(-1).real.type_as(z)
        return full[..., None, None] if keepdim else full


SPAN = np.linalg.qr(RNG.standard_normal((5, 3)))[0]


def ball(module: Any, k: float = -0.7) -> Any:
    """Stereographic with one curvature, as a part of other manifolds."""
    return module.Stereographic(torch.tensor(k, dtype=torch.float64) if module is geoopt else k)


def mixed(module: Any) -> Any:
    flat, stiefel = (geoopt.Euclidean(1), CanonicalStiefel()) if module is geoopt else (port.Euclidean(1), port.CanonicalStiefel())
    return module.ProductManifold((module.Sphere(), 3), (ball(module), (2, 3)), (stiefel, (4, 2)), (flat, 2))


def mixed_points() -> np.ndarray:
    parts = unit(3, 3), 0.3 * RNG.standard_normal((3, 6)), frames(3, 4, 2).reshape(3, 8), RNG.standard_normal((3, 2))
    return np.concatenate(parts, -1)


def stereographic(module: Any) -> Any:
    return module.StereographicProductManifold((ball(module), 3), (ball(module, 0.4), 2), (ball(module, -2.0), 2))


def made(theirs: Callable[[], Any], ours: Callable[[], Any], start: np.ndarray, **settings: Any) -> Space:
    """A manifold without curvatures of its own."""
    return Space(lambda _: theirs(), lambda _: ours(), start, **settings)


MATRICES: dict[str, Any] = {"rows": False, "decays": False}
COMPLEX: dict[str, Any] = {**MATRICES, "refused": ("amsgrad",)}  # torch.max takes no complex numbers

SPACES = {
    "Euclidean": made(lambda: None, port.Euclidean, RNG.standard_normal((POINTS, 4))),
    "PoincareBall": curved(geoopt.PoincareBall, lambda c: port.PoincareBall(_rounded(c)), 0.1, 1.0, 10.0, 0.7),
    "PoincareBallExact": curved(geoopt.PoincareBallExact, lambda c: port.PoincareBallExact(_rounded(c)), 0.3, 1.6),
    "Stereographic": curved(geoopt.Stereographic, port.Stereographic, 0.0, 0.6, -5.0, -0.4),
    "StereographicExact": curved(geoopt.StereographicExact, port.StereographicExact, 0.5, -0.7),
    "SphereProjection": curved(geoopt.SphereProjection, lambda c: port.SphereProjection(_rounded(c)), 0.3, 1.9),
    "SphereProjectionExact": curved(geoopt.SphereProjectionExact, lambda c: port.SphereProjectionExact(_rounded(c)), 0.3, 1.9),
    "Lorentz(0.3)": hyperboloid(0.3),
    "Lorentz(5)": hyperboloid(5.0),
    "Sphere": made(geoopt.Sphere, port.Sphere, unit(POINTS, 4), decays=False),
    "Sphere(intersection)": made(
        lambda: geoopt.Sphere(torch.tensor(SPAN)),
        lambda: port.Sphere(jnp.asarray(SPAN)),
        unit(POINTS, 3) @ SPAN.T,
        decays=False,
    ),
    "SphereExact": made(geoopt.SphereExact, port.SphereExact, unit(POINTS, 4), decays=False),
    "CanonicalStiefel": made(CanonicalStiefel, port.CanonicalStiefel, frames(3, 5, 2), **MATRICES),
    "EuclideanStiefel": made(geoopt.EuclideanStiefel, port.EuclideanStiefel, frames(3, 5, 2), **MATRICES),
    "EuclideanStiefelExact": made(geoopt.EuclideanStiefelExact, port.EuclideanStiefelExact, frames(3, 5, 2), **MATRICES),
    "SymmetricPositiveDefinite": made(geoopt.SymmetricPositiveDefinite, port.SymmetricPositiveDefinite, definite(3), rows=False),
    "BirkhoffPolytope": made(BirkhoffPolytope, port.BirkhoffPolytope, doubly_stochastic(4), stacks=False, **MATRICES),
    "UpperHalf": made(UpperHalf, port.UpperHalf, symmetric(2) + 1j * definite(2), **COMPLEX),
    "BoundedDomain": made(BoundedDomain, port.BoundedDomain, bounded(2), **COMPLEX),
    "ProductManifold": made(lambda: mixed(geoopt), lambda: mixed(port), mixed_points(), decays=False),
    "StereographicProductManifold": made(lambda: stereographic(geoopt), lambda: stereographic(port), 0.15 * RNG.standard_normal((3, 7))),
    # Scales that float32 holds: geoopt keeps them in torch's default type.
    "Scaled(Stereographic)": made(lambda: geoopt.Scaled(ball(geoopt), 1.75), lambda: port.Scaled(ball(port), 1.75), inside([-0.7])[0]),
    "Scaled(Sphere)": made(
        lambda: geoopt.Scaled(geoopt.Sphere(), 0.625),
        lambda: port.Scaled(port.Sphere(), 0.625),
        unit(POINTS, 4),
        decays=False,
    ),
}

MENDED = ("CanonicalStiefel", "BirkhoffPolytope", "UpperHalf", "BoundedDomain", "ProductManifold")


def with_defects(module: Any) -> Any:
    """A product of factors that geoopt has wrong, one of them scaled."""
    parts: Any = module.Scaled(module.CanonicalStiefel(), 1.75), module.Lorentz(0.25), module.BirkhoffPolytope(), module.Sphere()
    parts = [part.double() for part in parts] if module is geoopt else parts
    return module.ProductManifold(*zip(parts, ((4, 2), 4, (3, 3), 3)))


def points_with_defects() -> np.ndarray:
    space = 0.3 * RNG.standard_normal((3, 3))
    lorentz = np.concatenate([np.sqrt(0.25 + (space**2).sum(-1, keepdims=True)), space], -1)
    return np.concatenate([frames(3, 4, 2).reshape(3, 8), lorentz, doubly_stochastic(3).reshape(3, 9), unit(3, 3)], -1)


ORIGINALS = {
    **{name: space for name, space in SPACES.items() if name not in MENDED},
    "CanonicalStiefel": made(geoopt.CanonicalStiefel, port.CanonicalStiefel, frames(3, 5, 2), **MATRICES),
    "BirkhoffPolytope": made(geoopt.BirkhoffPolytope, port.BirkhoffPolytope, doubly_stochastic(4), **MATRICES),
    "UpperHalf": made(geoopt.UpperHalf, port.UpperHalf, symmetric(2)[0] + 0.5j * definite(2)[0], **COMPLEX),
    # As many matrices as they have rows: geoopt's RiemannianAdam raises on any other batch of more than one.
    "UpperHalf of n": made(geoopt.UpperHalf, port.UpperHalf, symmetric(3) + 0.5j * definite(3), **COMPLEX),
    "BoundedDomain": made(geoopt.BoundedDomain, port.BoundedDomain, bounded(2)[0], **COMPLEX),
    "BoundedDomain of n": made(geoopt.BoundedDomain, port.BoundedDomain, bounded(3), **COMPLEX),
    "ProductManifold": made(lambda: with_defects(geoopt), lambda: with_defects(port), points_with_defects(), decays=False),
    "Scaled(Lorentz)": Space(
        lambda k: geoopt.Scaled(geoopt.Lorentz(k), 1.75),
        lambda k: port.Scaled(port.Lorentz(k), 1.75),
        hyperboloid(0.3).start,
        np.array(0.3),
    ),
}


def _rounded(c: Any) -> Any:
    """The curvature that geoopt has after softplus(isp_c), its own raw form, in the same dtype."""
    raw = torch.tensor(np.asarray(c))
    return jnp.asarray(geoopt.PoincareBall(raw).to(raw.dtype).c.detach().numpy())
