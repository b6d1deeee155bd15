"""Stiefel manifolds: n x p matrices with orthonormal columns."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from port_jax.linalg import block_matrix, expm, extract_diag, identity, polar, qr, solve, sym, transpose
from port_jax.manifolds.base import Manifold, Verdict, pytree
from port_jax.manifolds.sizes import require_size

__all__ = ["CanonicalStiefel", "EuclideanStiefel", "EuclideanStiefelExact", "Stiefel"]

Number = Float[Array, "..."]
Frame = Float[Array, "*batch n p"]


def Stiefel(canonical: bool = True) -> CanonicalStiefel | EuclideanStiefel:
    """The Stiefel manifold with the canonical metric, or with the Euclidean one."""
    return CanonicalStiefel() if canonical else EuclideanStiefel()


class _Stiefel(Manifold):
    ndim: ClassVar[int] = 2

    def proju(self, x: Frame, u: Frame) -> Frame:
        """U - X sym(XᵀU)."""
        return u - x @ sym(transpose(x) @ u)

    def projx(self, x: Frame) -> Frame:
        """The nearest frame: the orthogonal factor of the polar decomposition, see `port_jax.linalg.polar`."""
        return polar(x)

    def random_naive(self, key: PRNGKeyArray, *size: int, dtype: DTypeLike | None = None) -> Frame:
        """The orthogonal factor of a Gaussian matrix; not uniform, because its signs are those of the decomposition.

        ValueError for more columns than rows.
        """
        require_size(self, "random_naive", size)
        return jnp.linalg.qr(jax.random.normal(key, size, dtype or float))[0]

    def random(self, key: PRNGKeyArray, *size: int, dtype: DTypeLike | None = None, **kwargs: Any) -> Frame:
        """`random_naive`."""
        require_size(self, "random", size)
        return self.random_naive(key, *size, dtype=dtype, **kwargs)

    def origin(self, *size: int, dtype: DTypeLike | None = None) -> Frame:
        """The first p columns of the identity; ValueError for more columns than rows."""
        require_size(self, "origin", size)
        return jnp.broadcast_to(jnp.eye(*size[-2:], dtype=dtype), size)

    def _check_shape(self, x: Any, name: str) -> Verdict:
        ok, reason = super()._check_shape(x, name)
        if ok and np.shape(x)[-1] > np.shape(x)[-2]:
            return False, f"{name} has shape {np.shape(x)}; a frame has at least as many rows as columns"
        return ok, reason

    def _check_point_on_manifold(self, x: Frame, *, atol: float, rtol: float) -> Verdict:
        off = np.abs(transpose(x) @ x - np.eye(x.shape[-1])).max(initial=0)
        return (True, None) if off <= atol else (False, f"XᵀX differs from I by {off:.3g}")

    def _check_vector_on_tangent(self, x: Frame, u: Frame, *, atol: float, rtol: float) -> Verdict:
        off = np.abs(2 * sym(transpose(u) @ x)).max(initial=0)
        return (True, None) if off <= atol else (False, f"UᵀX + XᵀU is {off:.3g}, not 0")


@pytree
class CanonicalStiefel(_Stiefel):
    """{X : XᵀX = I} with the canonical metric ⟨U, V⟩_X = tr Uᵀ(I - XXᵀ/2)V.

    The retraction is geoopt's Cayley transform (Wen and Yin 2013), with A = UXᵀ - XUᵀ:

        retr_X(U) = (I - A/2)⁻¹ (I + A/2) X

    and transport along it is the same rotation applied to V, an isometry. Its derivative at U = 0 is A X = U + XXᵀU, which
    doubles the part of a tangent vector in the span of X. It is kept because geoopt's trajectories depend on it.
    The exponential is exact (Edelman, Arias and Smith 1998): exp_X(U) = e^W X with W = (I - XXᵀ/2)UXᵀ - XUᵀ(I - XXᵀ/2).
    """

    reversible: ClassVar[bool] = True

    def inner(self, x: Frame, u: Frame, v: Frame | None = None, *, keepdim: bool = False) -> Number:
        """tr Uᵀ(I - XXᵀ/2)V."""
        v = u if v is None else v
        xtu, xtv = transpose(x) @ u, transpose(x) @ v
        whole = jnp.sum(u * v, (-2, -1), keepdims=keepdim)
        return whole - 0.5 * jnp.sum(xtu * xtv, (-2, -1), keepdims=keepdim)

    def egrad2rgrad(self, x: Frame, u: Frame) -> Frame:
        """U - X Uᵀ X."""
        return u - x @ transpose(u) @ x

    def retr(self, x: Frame, u: Frame) -> Frame:
        """(I - A/2)⁻¹ (I + A/2) X with A = UXᵀ - XUᵀ."""
        return self.transp_follow_retr(x, u, x)

    def transp_follow_retr(self, x: Frame, u: Frame, v: Frame) -> Frame:
        """(I - A/2)⁻¹ (I + A/2) v, by a system of size min(n, 2p), since A = [U, -X] [X, U]ᵀ has rank 2p at most."""
        x, u = jnp.broadcast_arrays(x, u)
        n, p = x.shape[-2:]
        left, right = jnp.concatenate([u, -x], -1), jnp.concatenate([x, u], -1)
        if 2 * p < n:
            small = identity(2 * p, x) - 0.5 * transpose(right) @ left
            return v + left @ _solve(small, transpose(right) @ v)
        a = left @ transpose(right)
        return _solve(identity(n, x) - 0.5 * a, v + 0.5 * a @ v)

    def retr_transp(self, x: Frame, u: Frame, v: Frame) -> tuple[Frame, Frame]:
        """`retr` and `transp_follow_retr` by one linear system."""
        return _together(self.transp_follow_retr, x, u, v)

    def expmap(self, x: Frame, u: Frame) -> Frame:
        """e^W X with W = (I - XXᵀ/2)UXᵀ - XUᵀ(I - XXᵀ/2)."""
        return self.transp_follow_expmap(x, u, x)

    def sqrt_cometric(self, x: Frame, noise: Frame) -> Frame:
        """The square root of A = egrad2rgrad, whose eigenvalues are 0, 1, 2, as the polynomial in A that interpolates their roots."""
        once = self.egrad2rgrad(x, noise)
        return (4 - math.sqrt(2)) / 2 * once + (math.sqrt(2) - 2) / 2 * self.egrad2rgrad(x, once)

    def transp_follow_expmap(self, x: Frame, u: Frame, v: Frame) -> Frame:
        """e^W v: the rotation that carries x along its geodesic, applied to v; an isometry, but not parallel."""
        half = u - 0.5 * x @ (transpose(x) @ u)
        return expm(half @ transpose(x) - x @ transpose(half)) @ v

    def expmap_transp(self, x: Frame, u: Frame, v: Frame) -> tuple[Frame, Frame]:
        """`expmap` and `transp_follow_expmap` by one matrix exponential."""
        return _together(self.transp_follow_expmap, x, u, v)


@pytree
class EuclideanStiefel(_Stiefel):
    """{X : XᵀX = I} with the metric of the surrounding space, ⟨U, V⟩ = tr UᵀV.

    retr_X(U) is the orthogonal factor of X + U, with the signs that make the triangular factor's diagonal positive. The
    exponential (Edelman, Arias and Smith 1998) is, with A = XᵀU and S = UᵀU,

        exp_X(U) = [X, U] exp([[A, -S], [I, A]]) [e^(-A); 0]
    """

    def inner(self, x: Frame, u: Frame, v: Frame | None = None, *, keepdim: bool = False) -> Number:
        """tr UᵀV."""
        inner = jnp.sum(u * (u if v is None else v), (-2, -1), keepdims=keepdim)
        batch = (*x.shape[:-2], 1, 1) if keepdim else x.shape[:-2]
        return jnp.broadcast_to(inner, jnp.broadcast_shapes(batch, inner.shape))

    def egrad2rgrad(self, x: Frame, u: Frame) -> Frame:
        """The projection of U onto the tangent space."""
        return self.proju(x, u)

    def transp(self, x: Frame, y: Frame, v: Frame) -> Frame:
        """Projection of v onto the tangent space at y."""
        return self.proju(y, v)

    def retr(self, x: Frame, u: Frame) -> Frame:
        """The orthogonal factor Q of X + U = QR, with a nonnegative diagonal of R."""
        q, r = qr(x + u)
        return q * jnp.where(extract_diag(r) < 0, -1, 1).astype(q.dtype)[..., None, :]

    def expmap(self, x: Frame, u: Frame) -> Frame:
        """[X, U] exp([[A, -S], [I, A]]) [e^(-A); 0] with A = XᵀU and S = UᵀU."""
        x, u = jnp.broadcast_arrays(x, u)
        a, s = transpose(x) @ u, transpose(u) @ u
        eye = jnp.broadcast_to(jnp.eye(a.shape[-1], dtype=a.dtype), a.shape)
        w = expm(block_matrix([[a, -s], [eye, a]]))
        return jnp.concatenate([x, u], -1) @ w[..., : a.shape[-1]] @ expm(-a)


@pytree
class EuclideanStiefelExact(EuclideanStiefel):
    """The Euclidean Stiefel manifold whose retraction is the exponential map."""

    def retr(self, x: Frame, u: Frame) -> Frame:
        """`expmap`."""
        return self.expmap(x, u)


def _solve(a: Float[Array, "*batch n n"], b: Float[Array, "*batch n m"]) -> Float[Array, "*batch n m"]:
    batch = jnp.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    return solve(jnp.broadcast_to(a, batch + a.shape[-2:]), jnp.broadcast_to(b, batch + b.shape[-2:]))


def _together(rotate: Any, x: Frame, u: Frame, v: Frame) -> tuple[Frame, Frame]:
    """The rotation along u applied to x and to v in one call."""
    batch = jnp.broadcast_shapes(x.shape, u.shape, v.shape)
    both = rotate(x, u, jnp.concatenate([jnp.broadcast_to(x, batch), jnp.broadcast_to(v, batch)], -1))
    return both[..., : x.shape[-1]], both[..., x.shape[-1] :]
