"""The unit sphere, or its intersection with a linear subspace."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from port_jax.linalg import extract_diag, transpose
from port_jax.manifolds import trig
from port_jax.manifolds.base import Manifold, Verdict, concrete, pytree
from port_jax.manifolds.row_products import bounded
from port_jax.manifolds.sizes import require_size

__all__ = ["Sphere", "SphereExact"]

Number = Float[Array, "..."]
Vector = Float[Array, "*batch d"]


@pytree
class Sphere(Manifold):
    """{x : ‖x‖ = 1, x ∈ S} with the metric of the surrounding space; S is a subspace of R^d, or R^d itself.

    The columns of `intersection` span S; those of `complement` span the orthogonal complement of S; both are `[..., d, K]`. Only the
    orthogonal `projector` onto S, `[..., d, d]`, is stored.

        exp_x(u) = cos(‖u‖) x + sin(‖u‖) u/‖u‖,   d(x, y) = arccos ⟨x, y⟩,   retr_x(u) = (x + u)/‖x + u‖

    The distance is computed from the chord ‖x - y‖, so that it does not lose half of the digits, as arccos does.
    """

    ndim: ClassVar[int] = 1
    any_origin: ClassVar[bool] = True

    projector: Float[Array, "*batch d d"] | None

    def __init__(
        self,
        intersection: Float[Array, "*batch d K"] | None = None,
        complement: Float[Array, "*batch d K"] | None = None,
        *,
        projector: Float[Array, "*batch d d"] | None = None,
    ) -> None:
        given = [name for name, span in (("intersection", intersection), ("complement", complement)) if span is not None]
        if len(given) == 2:
            raise ValueError(
                f"{self.name}: intersection and complement are both given; give one (the complement of a span "
                "is the intersection with its orthogonal complement)"
            )
        if intersection is not None:
            q = jnp.linalg.qr(jnp.asarray(intersection))[0]
            projector = q @ transpose(q)
        if complement is not None:
            q = jnp.linalg.qr(jnp.asarray(complement))[0]
            projector = jnp.eye(q.shape[-2], dtype=q.dtype) - q @ transpose(q)
        if given and (known := concrete(projector)) is not None:
            rank = np.linalg.matrix_rank(known)
            if (rank <= 1).any():
                raise ValueError(
                    f"{self.name}: {given[0]} leaves a subspace of dimension {int(rank.min())}, in which the sphere "
                    "is at most two points; it has to leave 2 dimensions or more"
                )
        object.__setattr__(self, "projector", projector)

    def inner(self, x: Vector, u: Vector, v: Vector | None = None, *, keepdim: bool = False) -> Number:
        """⟨u, v⟩ of the surrounding space."""
        inner = jnp.sum(u * (u if v is None else v), -1, keepdims=keepdim)
        batch = (*x.shape[:-1], 1) if keepdim else x.shape[:-1]
        return jnp.broadcast_to(inner, jnp.broadcast_shapes(batch, inner.shape))

    def projx(self, x: Vector) -> Vector:
        """Px/‖Px‖ with the projector P onto the subspace."""
        x = bounded(self._subspace(x))[0]
        return trig.over(x, jnp.linalg.norm(x, axis=-1, keepdims=True))

    def proju(self, x: Vector, u: Vector) -> Vector:
        """P(u - ⟨x, u⟩ x) with the projector P onto the subspace."""
        return self._subspace(u - jnp.sum(x * u, -1, keepdims=True) * x)

    def egrad2rgrad(self, x: Vector, u: Vector) -> Vector:
        """The projection of u onto the tangent space."""
        return self.proju(x, u)

    def expmap(self, x: Vector, u: Vector) -> Vector:
        """cos(‖u‖) x + sin(‖u‖) u/‖u‖."""
        u, square = bounded(u)
        return trig.cos_k(square) * x + trig.sin_ratio(square) * u

    def retr(self, x: Vector, u: Vector) -> Vector:
        """(x + u)/‖x + u‖."""
        return self.projx(x + u)

    def transp(self, x: Vector, y: Vector, v: Vector) -> Vector:
        """Projection of v onto the tangent space at y, as in geoopt: linear in v, and not an isometry."""
        return self.proju(y, v)

    def logmap(self, x: Vector, y: Vector) -> Vector:
        """u with exp_x(u) = y and ‖u‖ = d(x, y); at y = -x, which every direction reaches, it is 0."""
        u = self.proju(x, y - x)
        square = jnp.sum(u * u, -1, keepdims=True)
        near = (square < 0.02) & (jnp.sum(x * y, -1, keepdims=True) > 0)
        sine = jnp.sqrt(jnp.where(near | (square == 0), 1, square))
        return u * jnp.where(near, trig.arsin_ratio(jnp.where(near, square, 0)), self.dist(x, y, keepdim=True) / sine)

    def dist(self, x: Vector, y: Vector, *, keepdim: bool = False) -> Number:
        """2 arctan(‖x - y‖/‖x + y‖), the angle between x and y."""
        below, above = _versines(x, y, keepdim)
        return 2 * jnp.arctan2(trig.sqrt_or_zero(below), trig.sqrt_or_zero(above))

    def dist2(self, x: Vector, y: Vector, *, keepdim: bool = False) -> Number:
        """The square as a function of 1 - ⟨x, y⟩, which is analytic at x = y: 2q T(q/2)², with T = arcsin(√s)/√s."""
        below, _ = _versines(x, y, keepdim)
        near = below < 1
        half = jnp.where(near, 0.5 * below, 0)
        return jnp.where(near, 4 * half * trig.arsin_ratio(half) ** 2, self.dist(x, y, keepdim=keepdim) ** 2)

    def random_uniform(self, key: PRNGKeyArray, *size: int, dtype: DTypeLike | None = None) -> Vector:
        """Uniform on the sphere in the subspace; the projector's dtype where there is one.

        ValueError for vectors of one entry, not in the subspace's dimension, or of a batch to which the projector's cannot be broadcast.
        """
        require_size(self, "random_uniform", size, **self._batch())
        dtype = dtype if self.projector is None or dtype is not None else self.projector.dtype
        return self.projx(jax.random.normal(key, size, dtype or float))

    def random(self, key: PRNGKeyArray, *size: int, dtype: DTypeLike | None = None, **kwargs: Any) -> Vector:
        """`random_uniform`."""
        require_size(self, "random", size)
        return self.random_uniform(key, *size, dtype=dtype, **kwargs)

    def origin(self, *size: int, dtype: DTypeLike | None = None) -> Vector:
        """The last unit vector e_d; in a subspace Pe/‖Pe‖ of the last unit vector e that is not nearly orthogonal to it.

        On the sphere every point is as good as another. This is the pole that `SphereProjection(1.0).sproj` maps to its origin 0.
        geoopt, whose sphere has no origin of its own, draws a point for each entry of the batch from torch's generator, seeded with 42.
        "Not nearly orthogonal" means that ‖Pe‖² is at least half of its mean over the unit vectors, K/d. ValueError as in
        `random_uniform`.
        """
        require_size(self, "origin", size, **self._batch())
        dtype = dtype if self.projector is None or dtype is not None else self.projector.dtype
        projector = jnp.eye(size[-1], dtype=dtype) if self.projector is None else jnp.asarray(self.projector, dtype)
        squares = extract_diag(projector)  # ‖Pe‖² = ⟨e, Pe⟩
        ahead = squares >= 0.5 * jnp.mean(squares, -1, keepdims=True)
        last = size[-1] - 1 - jnp.argmax(jnp.flip(ahead, -1), -1)
        pole = jnp.take_along_axis(projector, last[..., None, None], -1)[..., 0]
        return jnp.broadcast_to(pole / jnp.linalg.norm(pole, axis=-1, keepdims=True), size)

    def _batch(self) -> dict[str, Any]:
        """What has to be broadcast to a size."""
        return {} if self.projector is None else {"the batch of projectors": self.projector[..., 0]}

    def _check_shape(self, x: Any, name: str) -> Verdict:
        ok, reason = super()._check_shape(x, name)
        if not ok:
            return ok, reason
        size, wanted = np.shape(x)[-1], None if self.projector is None else self.projector.shape[-1]
        if wanted is not None and size != wanted:
            return False, f"{name} has shape {np.shape(x)}; the subspace lies in {wanted} dimensions, not {size}"
        return (True, None) if size > 1 else (False, f"{name} has shape {np.shape(x)}; the sphere of R^1 is two points")

    def _check_point_on_manifold(self, x: Vector, *, atol: float, rtol: float) -> Verdict:
        norm = np.linalg.norm(x, axis=-1)
        if not np.allclose(norm, 1, atol=atol, rtol=rtol):
            return False, f"x has norm {norm.flat[np.abs(norm - 1).argmax()]:.8g}, not 1"
        away = np.abs(self._subspace(x) - x).max(initial=0)
        if not np.allclose(self._subspace(x), x, atol=atol, rtol=rtol):
            return False, f"x is {away:.3g} away from the subspace"
        return True, None

    def _check_vector_on_tangent(self, x: Vector, u: Vector, *, atol: float, rtol: float) -> Verdict:
        inner = np.asarray(self.inner(x, x, u))
        if not np.allclose(inner, 0, atol=atol, rtol=rtol):
            return False, f"<x, u> is {inner.flat[np.abs(inner).argmax()]:.3g}, not 0"
        return True, None

    def _subspace(self, x: Vector) -> Vector:
        if self.projector is None:
            return x
        return jnp.einsum("...ij,...j->...i", jnp.asarray(self.projector, x.dtype), x)


@pytree
class SphereExact(Sphere):
    """The sphere whose retraction is the exponential map."""

    __init__ = Sphere.__init__

    def retr(self, x: Vector, u: Vector) -> Vector:
        """`expmap`."""
        return self.expmap(x, u)


def _versines(x: Vector, y: Vector, keepdim: bool) -> tuple[Number, Number]:
    """1 - ⟨x, y⟩ and 1 + ⟨x, y⟩ for unit vectors, from the chords: (‖x ∓ y‖² + 2 - ‖x‖² - ‖y‖²)/2.

    The value of the last three terms is nothing but rounding error, so they are left out of the value and kept in the derivative, which
    then is that of ⟨x, y⟩, as in geoopt. It is normal to the sphere except for a part as long as the chord. Where it would lose half of
    the digits, near x = y and antipodes, the derivative is the chord's, which differs along the normal only (the rows
    `unit_sphere dist d/dx` of accuracy/table.csv).
    """
    below = 0.5 * jnp.sum((x - y) ** 2, -1, keepdims=keepdim)
    above = 0.5 * jnp.sum((x + y) ** 2, -1, keepdims=keepdim)
    excess = 1 - 0.5 * (jnp.sum(x * x, -1, keepdims=keepdim) + jnp.sum(y * y, -1, keepdims=keepdim))
    excess = jnp.where(jnp.minimum(below, above) > jnp.finfo(below.dtype).eps ** 0.5, excess, 0)
    excess = excess - jax.lax.stop_gradient(excess)
    return below + excess, above + excess
