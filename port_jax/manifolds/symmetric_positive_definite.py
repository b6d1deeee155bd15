"""Symmetric positive definite matrices with the affine-invariant metric, and two further distances."""

from __future__ import annotations

import enum
import math
from dataclasses import field
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from port_jax.linalg import extract_diag, identity, sym, sym_expm, sym_funcm, sym_inv_sqrtm2, sym_invm, sym_logm, trace, transpose
from port_jax.manifolds.base import Manifold, Verdict, pytree
from port_jax.manifolds.sizes import require_size

__all__ = ["SPDMetric", "SymmetricPositiveDefinite"]

Number = Float[Array, "..."]
Matrix = Float[Array, "*batch n n"]

_NEAR = 0.02
_TERMS = 9


class SPDMetric(enum.Enum):
    """What `dist` measures: affine-invariant, Stein, log-Euclidean."""

    AIM = "AIM"
    SM = "SM"
    LEM = "LEM"


@pytree
class SymmetricPositiveDefinite(Manifold):
    """{X = Xᵀ, X > 0} with ⟨U, V⟩_X = tr X⁻¹U X⁻¹V (Pennec, Fillard and Ayache 2006).

        exp_X(U) = X^½ exp(X^-½ U X^-½) X^½,   retr_X(U) = X + U + U X⁻¹ U / 2

    `default_metric` selects `dist` only, as in geoopt; everything else belongs to the affine-invariant metric:

        AIM  ‖log X^-½ Y X^-½‖      SM  log det (X + Y)/2 - log(det X det Y)/2      LEM  ‖log X - log Y‖

    SM is the Stein divergence (Sra 2012), whose square root is a metric.
    """

    ndim: ClassVar[int] = 2
    default_metric: SPDMetric | str = field(default=SPDMetric.AIM, metadata={"static": True})

    def __post_init__(self) -> None:
        if self.default_metric not in [*SPDMetric, *(metric.value for metric in SPDMetric)]:
            raise ValueError(
                f"{self.name}: default_metric is {self.default_metric!r}; it has to be one of "
                f"{', '.join(repr(metric.value) for metric in SPDMetric)}"
            )
        object.__setattr__(self, "default_metric", SPDMetric(self.default_metric))

    def inner(self, x: Matrix, u: Matrix, v: Matrix | None = None, keepdim: bool = False) -> Number:
        """tr X⁻¹U X⁻¹V."""
        inv_x = sym_invm(x)
        inner = trace(inv_x @ u @ inv_x @ (u if v is None else v))
        return inner[..., None, None] if keepdim else inner

    def projx(self, x: Matrix) -> Matrix:
        """The symmetric part with its eigenvalues replaced by their absolute values.

        At an eigenvalue 0 there is a kink; the subgradient is that of a positive eigenvalue.
        """
        return sym_funcm(sym(x), jnp.abs)

    def proju(self, x: Matrix, u: Matrix) -> Matrix:
        """The symmetric part of u."""
        return jnp.broadcast_to(sym(u), jnp.broadcast_shapes(x.shape, u.shape))

    def egrad2rgrad(self, x: Matrix, u: Matrix) -> Matrix:
        """X sym(u) X."""
        return x @ sym(u) @ transpose(x)

    def retr(self, x: Matrix, u: Matrix) -> Matrix:
        """X + U + U X⁻¹ U / 2."""
        return sym(x + u + 0.5 * u @ sym_invm(x) @ u)

    def expmap(self, x: Matrix, u: Matrix) -> Matrix:
        """X^½ exp(X^-½ U X^-½) X^½."""
        inv_sqrt_x, sqrt_x = sym_inv_sqrtm2(x)
        return sqrt_x @ sym_expm(inv_sqrt_x @ u @ inv_sqrt_x) @ sqrt_x

    def logmap(self, x: Matrix, y: Matrix) -> Matrix:
        """X^½ log(X^-½ Y X^-½) X^½."""
        inv_sqrt_x, sqrt_x = sym_inv_sqrtm2(x)
        return sqrt_x @ _log_quotient(inv_sqrt_x, x, y) @ sqrt_x

    def transp(self, x: Matrix, y: Matrix, v: Matrix) -> Matrix:
        """Parallel transport along the geodesic: E v Eᵀ with E = X^½ (X^-½ Y X^-½)^½ X^-½."""
        inv_sqrt_x, sqrt_x = sym_inv_sqrtm2(x)
        half = sym_expm(0.5 * _log_quotient(inv_sqrt_x, x, y))
        return sqrt_x @ half @ sym(inv_sqrt_x @ v @ inv_sqrt_x) @ half @ sqrt_x

    def dist(self, x: Matrix, y: Matrix, keepdim: bool = False) -> Number:
        """The distance that `default_metric` names; its gradient at x = y is 0."""
        if self.default_metric is SPDMetric.SM:
            return self._stein(x, y, keepdim)
        square = self.dist2(x, y, keepdim=keepdim)
        return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)

    def dist2(self, x: Matrix, y: Matrix, *, keepdim: bool = False) -> Number:
        """The square of `dist`."""
        if self.default_metric is SPDMetric.SM:
            return self._stein(x, y, keepdim) ** 2
        flat = self.default_metric is SPDMetric.LEM
        difference = sym_logm(x) - sym_logm(y) if flat else _log_quotient(sym_inv_sqrtm2(x)[0], x, y)
        return jnp.sum(difference**2, (-2, -1), keepdims=keepdim)

    def random(self, key: PRNGKeyArray, *size: int, dtype: DTypeLike | None = None, **kwargs: Any) -> Matrix:
        """exp of the symmetric part of a Gaussian matrix with deviation 1/2; ValueError if it is not square."""
        require_size(self, "random", size)
        return sym_expm(sym(0.5 * jax.random.normal(key, size, dtype or float)))

    def origin(self, *size: int, dtype: DTypeLike | None = None) -> Matrix:
        """The identity; ValueError if it is not square."""
        require_size(self, "origin", size)
        return jnp.broadcast_to(jnp.eye(size[-1], dtype=dtype), size)

    def _check_shape(self, x: Any, name: str) -> Verdict:
        ok, reason = super()._check_shape(x, name)
        if ok and np.shape(x)[-1] != np.shape(x)[-2]:
            return False, f"{name} has shape {np.shape(x)}; its last two axes have to be equal"
        return ok, reason

    def _check_point_on_manifold(self, x: Matrix, *, atol: float, rtol: float) -> Verdict:
        if not self._check_vector_on_tangent(x, x, atol=atol, rtol=rtol)[0]:
            return False, "x is not symmetric"
        lowest = float(np.linalg.eigvalsh(x).min())
        return (True, None) if lowest > 0 else (False, f"x has the eigenvalue {lowest:.3g}, which is not positive")

    def _check_vector_on_tangent(self, x: Matrix, u: Matrix, *, atol: float, rtol: float) -> Verdict:
        ok = np.allclose(u, transpose(u), atol=atol, rtol=rtol)
        return (True, None) if ok else (False, "u is not symmetric")

    def _stein(self, x: Matrix, y: Matrix, keepdim: bool) -> Number:
        """-½ Σ log(1 - εᵢ²) over the eigenvalues ε of M^-½ (Y - X)/2 M^-½, M = (X + Y)/2, which is 0 at x = y.

        For distant points 1 - ε² cancels; there it is Σ log mᵢ²/(xᵢyᵢ) with the diagonals of the Cholesky factors.
        """
        middle = jnp.linalg.cholesky(sym(0.5 * (x + y)))
        half = _whiten(middle, sym(0.5 * (y - x)))
        near = jnp.sum(half * half, (-2, -1), keepdims=True) < 0.5
        close = jnp.sum(extract_diag(sym_funcm(jnp.where(near, half, 0), _half_log_gap)), -1)
        ends = (extract_diag(jnp.linalg.cholesky(sym(end))) for end in (x, y))
        far = jnp.sum(jnp.log(extract_diag(middle) ** 2 / math.prod(ends)), -1)
        stein = jnp.where(near[..., 0, 0], close, far)
        return stein[..., None, None] if keepdim else stein


def _half_log_gap(e: Number) -> Number:
    return -0.5 * jnp.log1p(-e * e)


def _whiten(factor: Matrix, a: Matrix) -> Matrix:
    """L⁻¹ A L⁻ᵀ of the lower triangular L and the symmetric A."""
    for _ in range(2):
        a = transpose(jax.lax.linalg.triangular_solve(factor, a, left_side=True, lower=True))
    return a


def _log_quotient(inv_sqrt_x: Matrix, x: Matrix, y: Matrix) -> Matrix:
    """log(X^-½ Y X^-½): from Y - X by the series of log(1 + D) where D is small, so that it is exactly 0 at x = y."""
    d = sym(inv_sqrt_x @ (y - x) @ inv_sqrt_x)
    near = jnp.sum(d * d, (-2, -1), keepdims=True) < _NEAR**2
    eye = identity(x.shape[-1], d)
    small = jnp.where(near, d, 0)
    series = jnp.zeros_like(d)
    for n in range(_TERMS, 0, -1):
        series = small @ ((1 - 2 * (n % 2 == 0)) / n * eye + series)
    return jnp.where(near, series, sym_logm(jnp.where(near, eye, inv_sqrt_x @ y @ inv_sqrt_x)))
