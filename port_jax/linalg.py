"""Batched matrix functions: geoopt's `linalg`, with derivatives that are finite and correct where eigenvalues coincide."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from port_jax.primitives import for_each_matrix
from port_jax.spectral import spectral_function

__all__ = [
    "Elementwise",
    "block_matrix",
    "dilation",
    "expm",
    "extract_diag",
    "identity",
    "inv",
    "matrix_rank",
    "polar",
    "qr",
    "solve",
    "svd",
    "sym",
    "sym_expm",
    "sym_funcm",
    "sym_inv_sqrtm1",
    "sym_inv_sqrtm2",
    "sym_invm",
    "sym_logm",
    "sym_sqrtm",
    "trace",
    "transpose",
]

AnyNumber = Inexact[Array, "..."]

Matrix = Inexact[Array, "*batch n n"]
Elementwise = Callable[[Array], Array]

expm = for_each_matrix(jax.scipy.linalg.expm)
inv = for_each_matrix(jnp.linalg.inv)
matrix_rank = jnp.linalg.matrix_rank
qr = for_each_matrix(jnp.linalg.qr)
solve = for_each_matrix(jnp.linalg.solve)
svd = for_each_matrix(jnp.linalg.svd)


def transpose(x: Inexact[Array, "*batch n m"]) -> Inexact[Array, "*batch m n"]:
    """Transpose of the last two axes."""
    return jnp.swapaxes(x, -1, -2)


def sym(x: Matrix) -> Matrix:
    """Symmetric part (x + xᵀ) / 2."""
    return 0.5 * (transpose(x) + x)


def extract_diag(x: Inexact[Array, "*batch n m"]) -> Inexact[Array, "*batch k"]:
    """Diagonal of the last two axes."""
    return jnp.diagonal(x, axis1=-2, axis2=-1)


def trace(x: Inexact[Array, "*batch n m"], keepdim: bool = False) -> AnyNumber:
    """Trace over the last two axes; `keepdim` keeps one axis of length 1, as geoopt does."""
    return jnp.sum(extract_diag(x), -1, keepdims=keepdim)


def identity(n: int, like: Array) -> Array:
    """The identity [1, ..., 1, n, n] in the type of `like`, with as many axes."""
    return jnp.eye(n, dtype=like.dtype).reshape(*[1] * (like.ndim - 2), n, n)


def block_matrix(blocks: Sequence[Sequence[Array]], dim0: int = -2, dim1: int = -1) -> Array:
    """[[A, B], [C, D]] as one matrix: rows of blocks are joined along `dim1`, then along `dim0`."""
    widths, parts = [len(row) for row in blocks], [block for row in blocks for block in row]

    def joined(*parts: Array) -> Array:
        rest = iter(parts)
        return jnp.concatenate([jnp.concatenate(list(itertools.islice(rest, width)), axis=dim1) for width in widths], axis=dim0)

    return for_each_matrix(joined)(*parts)


def sym_funcm(x: Matrix, func: Elementwise) -> Matrix:
    """f(A) = V f(Λ) Vᴴ of a symmetric (or Hermitian) matrix A = V Λ Vᴴ; see `port_jax.spectral.spectral_function`.

    `func` works element by element and closes over no traced value. Derivatives of every order are finite and correct at repeated
    eigenvalues. They are taken among symmetric matrices: the gradient of a loss is symmetric.
    """
    return spectral_function(x, func)


@jax.custom_jvp
def polar(x: Inexact[Array, "*batch n p"]) -> Inexact[Array, "*batch n p"]:
    """The factor U with orthonormal columns of the polar decomposition x = U H, n ≥ p: the nearest such matrix to x.

    The value is computed from singular vectors, U = W Vᴴ of x = W Σ Vᴴ. Where singular values coincide these have no derivative,
    but U does: derivatives of every order come from x = Q R and from

        sign [[0, R], [Rᴴ, 0]] = [[0, P], [Pᴴ, 0]],   U = Q P   (Higham 2008, section 8.1),

    without squaring a singular value. Where x does not have full rank, neither U nor its derivative is determined: the value is one
    of the nearest matrices, and derivatives are not finite.
    """
    w, _, vh = svd(x, full_matrices=False)
    return w @ vh


@polar.defjvp
def _polar_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return polar(*primals), jax.jvp(_polar_by_sign, primals, tangents)[1]


def _polar_by_sign(x: Inexact[Array, "*batch n p"]) -> Inexact[Array, "*batch n p"]:
    q, r = qr(x)
    return q @ spectral_function(dilation(r), jnp.sign)[..., : r.shape[-1], r.shape[-1] :]


def dilation(x: Inexact[Array, "*batch n m"]) -> Inexact[Array, "*batch n+m n+m"]:
    """[[0, x], [xᴴ, 0]]: Hermitian, with the singular values of x and their negatives as eigenvalues."""
    n, m = x.shape[-2:]
    zeros = partial(jnp.zeros, dtype=x.dtype)
    return block_matrix([[zeros((*x.shape[:-2], n, n)), x], [_adjoint(x), zeros((*x.shape[:-2], m, m))]])


def sym_expm(x: Matrix) -> Matrix:
    """Exponential of a symmetric matrix."""
    return sym_funcm(x, jnp.exp)


def sym_logm(x: Matrix) -> Matrix:
    """Logarithm of a symmetric positive definite matrix."""
    return sym_funcm(x, jnp.log)


def sym_sqrtm(x: Matrix) -> Matrix:
    """Square root of a symmetric positive definite matrix."""
    return sym_funcm(x, jnp.sqrt)


def sym_invm(x: Matrix) -> Matrix:
    """Inverse of a symmetric matrix."""
    return inv(x)


def sym_inv_sqrtm1(x: Matrix) -> Matrix:
    """Inverse square root x^(-1/2) of a symmetric positive definite matrix."""
    return sym_funcm(x, jax.lax.rsqrt)


def sym_inv_sqrtm2(x: Matrix) -> tuple[Matrix, Matrix]:
    """Inverse square root and square root (x^(-1/2), x^(1/2)) of a symmetric positive definite matrix."""
    return sym_inv_sqrtm1(x), sym_sqrtm(x)


def _adjoint(x: Matrix) -> Matrix:
    return jnp.conj(transpose(x))
