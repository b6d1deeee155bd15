"""The Siegel upper half space: complex symmetric matrices with positive definite imaginary part."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from port_jax.linalg import inv, sym, sym_expm, sym_inv_sqrtm1, trace
from port_jax.manifolds import siegel
from port_jax.manifolds.base import Verdict, pytree
from port_jax.manifolds.siegel import Matrix, SiegelManifold
from port_jax.manifolds.sizes import require_size

__all__ = ["UpperHalf"]

Number = Float[Array, "..."]


@pytree
class UpperHalf(SiegelManifold):
    """{Z = X + iY symmetric : Y > 0} with ⟨U, V⟩_Z = Re tr Y⁻¹U Y⁻¹V̄; for n = 1 the hyperbolic half plane of curvature -1.

    2 sinh(vᵢ/2) of the vector-valued distance are the singular values of Y₁^-½ (Z₂ - Z₁) Y₂^-½, which neither cancel for close
    points nor saturate for far ones.
    """

    def inner(self, x: Matrix, u: Matrix, v: Matrix | None = None, *, keepdim: bool = False) -> Number:
        """Re tr Y⁻¹U Y⁻¹V̄ at Z = X + iY."""
        inverse = inv(jnp.imag(x)).astype(x.dtype)
        inner = jnp.real(trace(inverse @ u @ inverse @ jnp.conj(u if v is None else v)))
        return inner[..., None, None] if keepdim else inner

    def egrad2rgrad(self, x: Matrix, u: Matrix) -> Matrix:
        """The symmetric part of Y u Y."""
        y = jnp.imag(x).astype(x.dtype)
        return sym(y @ u @ y)

    def projx(self, x: Matrix) -> Matrix:
        """The symmetric part, with the eigenvalues of Y raised to 1e-5 (single precision: 4e-3)."""
        x = sym(x)
        return jax.lax.complex(jnp.real(x), siegel.positive_conjugate_projection(jnp.imag(x)))

    def dist(self, x: Matrix, y: Matrix, *, keepdim: bool = False) -> Number:
        """The norm chosen by `metric` of the vector-valued distance v, see `SiegelManifold`."""
        return self._distance(_half_sinh(x, y), keepdim)

    def dist2(self, x: Matrix, y: Matrix, *, keepdim: bool = False) -> Number:
        """The square of `dist`; for the metric riem no root is taken."""
        return self._distance(_half_sinh(x, y), keepdim, squared=True)

    def random(self, key: PRNGKeyArray, *size: int, dtype: DTypeLike | None = None, **kwargs: Any) -> Matrix:
        """sym(A) + i exp(sym(B)) with complex normal A + iB of deviation 1/2.

        ValueError if it is not square, or not of the size `rank` where that is given.
        """
        require_size(self, "random", size)
        a = sym(0.5 * jax.random.normal(key, size, siegel.complex_dtype(dtype)))
        return jax.lax.complex(jnp.real(a), sym_expm(jnp.imag(a)))

    def origin(self, *size: int, dtype: DTypeLike | None = None) -> Matrix:
        """iI; ValueError as in `random`."""
        require_size(self, "origin", size)
        return jnp.broadcast_to(1j * jnp.eye(size[-1], dtype=siegel.complex_dtype(dtype)), size)

    def _check_point_on_manifold(self, x: Matrix, *, atol: float, rtol: float) -> Verdict:
        if not siegel.is_complex_symmetric(x, atol, rtol):
            return False, "x is not symmetric"
        lowest = float(np.linalg.eigvalsh(jnp.imag(x)).min())
        return (True, None) if lowest > 0 else (False, f"Im x has the eigenvalue {lowest:.3g}, which is not positive")


def _half_sinh(x: Matrix, y: Matrix) -> Matrix:
    left, right = (sym_inv_sqrtm1(jnp.imag(z)).astype(x.dtype) for z in (x, y))
    return 0.5 * left @ (y - x) @ right
