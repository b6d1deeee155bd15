"""The bounded Siegel domain: complex symmetric matrices whose singular values are below 1."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from port_jax.linalg import identity, inv, sym, sym_funcm, sym_inv_sqrtm1, trace
from port_jax.manifolds import siegel
from port_jax.manifolds.base import Verdict, pytree
from port_jax.manifolds.siegel import Matrix, SiegelManifold
from port_jax.manifolds.sizes import require_size
from port_jax.manifolds.upper_half import UpperHalf

__all__ = ["BoundedDomain"]

Number = Float[Array, "..."]


@pytree
class BoundedDomain(SiegelManifold):
    """{Z symmetric : I - Z̄Z > 0}, the image of the upper half space under (Z - iI)(Z + iI)⁻¹; for n = 1 the disk.

        ⟨U, V⟩_Z = Re tr P U P̄ V̄,   P = (I - ZZ̄)⁻¹,   grad f = P⁻¹ (∂f/∂Re + i ∂f/∂Im) P̄⁻¹

    As in geoopt, this is a quarter of the metric to which `dist` belongs. geoopt exchanges P and P̄, which is not invariant under
    Z -> AZAᵀ with unitary A. sinh(vᵢ/2) of the vector-valued distance are the singular values of (I - Z₁Z̄₁)^-½ (Z₂ - Z₁) (I - Z̄₂Z₂)^-½.
    """

    def inner(self, x: Matrix, u: Matrix, v: Matrix | None = None, *, keepdim: bool = False) -> Number:
        """Re tr P U P̄ V̄ with P = (I - ZZ̄)⁻¹."""
        p = inv(_gap(x))
        inner = jnp.real(trace(p @ u @ jnp.conj(p) @ jnp.conj(u if v is None else v)))
        return inner[..., None, None] if keepdim else inner

    def egrad2rgrad(self, x: Matrix, u: Matrix) -> Matrix:
        """The symmetric part of P⁻¹ u P̄⁻¹, with P⁻¹ = I - ZZ̄."""
        gap = _gap(x)
        return sym(gap @ u @ jnp.conj(gap))

    def projx(self, x: Matrix) -> Matrix:
        """The symmetric part, with singular values lowered to 1 - 1e-5 (single precision: 1 - 4e-3).

        At a singular value that equals the limit there is a kink; the subgradient is that of a smaller value.
        """
        x = sym(x)
        gram = jnp.conj(x) @ x
        double = siegel.boundary_margin(x.real.dtype) == 1e-5
        limit = 1 - (1e-5 if double else 4e-3)
        inside = jnp.all(jnp.linalg.eigvalsh(gram) < limit**2, -1)[..., None, None]
        return jnp.where(inside, x, sym(x @ sym_funcm(gram, _lowered_double if double else _lowered_single)))

    def dist(self, x: Matrix, y: Matrix, *, keepdim: bool = False) -> Number:
        """The norm chosen by `metric` of the vector-valued distance v, see `SiegelManifold`."""
        return self._distance(_half_sinh(x, y), keepdim)

    def dist2(self, x: Matrix, y: Matrix, *, keepdim: bool = False) -> Number:
        """The square of `dist`; for the metric riem no root is taken."""
        return self._distance(_half_sinh(x, y), keepdim, squared=True)

    def random(self, key: PRNGKeyArray, *size: int, dtype: DTypeLike | None = None, **kwargs: Any) -> Matrix:
        """The image of a random point of the upper half space; ValueError if it is not square, or not of the size `rank`."""
        require_size(self, "random", size)
        return siegel.inverse_cayley_transform(UpperHalf().random(key, *size, dtype=dtype))

    def origin(self, *size: int, dtype: DTypeLike | None = None) -> Matrix:
        """0; ValueError as in `random`."""
        require_size(self, "origin", size)
        return jnp.zeros(size, siegel.complex_dtype(dtype))

    def _check_point_on_manifold(self, x: Matrix, *, atol: float, rtol: float) -> Verdict:
        if not siegel.is_complex_symmetric(x, atol, rtol):
            return False, "x is not symmetric"
        largest = float(np.linalg.svd(x, compute_uv=False).max())
        return (True, None) if largest < 1 else (False, f"x has the singular value {largest:.8g}, which is not below 1")


def _gap(z: Matrix) -> Matrix:
    return identity(z.shape[-1], z) - z @ jnp.conj(z)


def _half_sinh(x: Matrix, y: Matrix) -> Matrix:
    return sym_inv_sqrtm1(_gap(x)) @ (y - x) @ sym_inv_sqrtm1(jnp.conj(_gap(y)))


def _lowered(s: Number, limit: float) -> Number:
    """The factor min(σ, limit)/σ at s = σ²."""
    over = s > limit**2
    return jnp.where(over, limit / jnp.sqrt(jnp.where(over, s, 1)), 1)


def _lowered_double(s: Number) -> Number:
    return _lowered(s, 1 - 1e-5)


def _lowered_single(s: Number) -> Number:
    return _lowered(s, 1 - 4e-3)
