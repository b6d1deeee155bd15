"""Batched matrix functions: geoopt's `linalg`, with derivatives that stay finite where eigenvalues coincide.

The eigenvectors of a matrix with a repeated eigenvalue have no derivative, f(A) has one. `sym_funcm` therefore carries the
derivative of Daleckii and Krein (1965),

    Df(A)[E] = V (f[λᵢ, λⱼ] ∘ VᴴEV) Vᴴ,   f[a, b] = (f(a) − f(b)) / (a − b),   f[a, a] = f'(a),

and for the second derivative the same with f[λᵢ, λₖ, λⱼ].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float, Inexact

Number = Float[Array, "..."]
AnyNumber = Inexact[Array, "..."]

Matrix = Inexact[Array, "*batch n n"]
Elementwise = Callable[[Array], Array]

_COARSE = np.polynomial.legendre.leggauss(5)
_FINE = np.polynomial.legendre.leggauss(8)

expm = jax.scipy.linalg.expm
matrix_rank = jnp.linalg.matrix_rank
qr = jnp.linalg.qr
svd = jnp.linalg.svd


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


def block_matrix(blocks: Sequence[Sequence[Array]], dim0: int = -2, dim1: int = -1) -> Array:
    """[[A, B], [C, D]] as one matrix: rows of blocks are joined along `dim1`, then along `dim0`."""
    return jnp.concatenate([jnp.concatenate(list(row), axis=dim1) for row in blocks], axis=dim0)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def sym_funcm(x: Matrix, func: Elementwise) -> Matrix:
    """f(A) = V f(Λ) Vᴴ of a symmetric (or Hermitian) matrix A = V Λ Vᴴ.

    `func` works element by element and closes over no traced value. First and second derivatives are finite and right at
    repeated eigenvalues. They are taken among symmetric matrices: the gradient of a loss is symmetric.
    """
    e, v = jnp.linalg.eigh(x)
    return (v * func(e)[..., None, :]) @ _adjoint(v)


@sym_funcm.defjvp
def _sym_funcm_jvp(func: Elementwise, primals: tuple[Matrix], tangents: tuple[Matrix]) -> tuple[Matrix, Matrix]:
    (x,), (dx,) = primals, tangents
    return sym_funcm(x, func), _frechet(x, dx, func)


# The derivative is a primitive of its own: a nested custom_jvp loses its rule when JAX linearises the outer one, and
# the second derivative would then go through the eigenvectors.
_frechet_p = Primitive("sym_funcm_derivative")


def _frechet(x: Matrix, u: Matrix, func: Elementwise) -> Matrix:
    """Df(x)[u], linear and self-adjoint in u."""
    return _frechet_p.bind(x, u, func=func)


def _frechet_impl(x: Matrix, u: Matrix, *, func: Elementwise) -> Matrix:
    e, v = jnp.linalg.eigh(x)
    difference = divided_difference(func, e[..., :, None], e[..., None, :])
    return v @ (difference * (_adjoint(v) @ _hermitian(u) @ v)) @ _adjoint(v)


def _frechet_jvp(primals: tuple[Matrix, Matrix], tangents: tuple[Any, Any], *, func: Elementwise) -> tuple[Any, Any]:
    (x, u), (dx, du) = primals, tangents
    du = jnp.zeros_like(u) if isinstance(du, ad.Zero) else du
    tangent = _frechet(x, du, func)
    if not isinstance(dx, ad.Zero):
        tangent = tangent + _second_derivative(x, u, dx, func)
    return _frechet(x, u, func), tangent


def _second_derivative(x: Matrix, u: Matrix, w: Matrix, func: Elementwise) -> Matrix:
    """D²f(x)[u, w] = V (Σₖ f[λᵢ, λₖ, λⱼ] (ûᵢₖ ŵₖⱼ + ŵᵢₖ ûₖⱼ)) Vᴴ."""
    e, v = jnp.linalg.eigh(x)
    u, w = (_adjoint(v) @ _hermitian(m) @ v for m in (u, w))
    first, middle, last = e[..., :, None, None], e[..., None, :, None], e[..., None, None, :]
    difference = divided_difference(lambda t: divided_difference(func, t, middle), first, last)
    both = jnp.einsum("...ikj,...ik,...kj->...ij", difference, u, w)
    both = both + jnp.einsum("...ikj,...ik,...kj->...ij", difference, w, u)
    return v @ both @ _adjoint(v)


def _frechet_transpose(ct: Any, x: Any, u: Any, *, func: Elementwise) -> tuple[None, Any]:
    # JAX transposes without conjugation: u -> D[u] transposes to ct -> conj(D[conj(ct)]).
    return None, ct if isinstance(ct, ad.Zero) else jnp.conj(_frechet(x, jnp.conj(ct), func))


def _frechet_batch(args: Sequence[Array], axes: Sequence[int | None], *, func: Elementwise) -> tuple[Array, int]:
    size = next(arg.shape[axis] for arg, axis in zip(args, axes) if axis is not None)
    x, u = (
        jnp.broadcast_to(arg, (size, *arg.shape)) if axis is None else jnp.moveaxis(arg, axis, 0)
        for arg, axis in zip(args, axes)
    )
    return _frechet(x, u, func), 0


_frechet_p.def_impl(jax.jit(_frechet_impl, static_argnames="func"))
_frechet_p.def_abstract_eval(lambda x, u, *, func: u)
ad.primitive_jvps[_frechet_p] = _frechet_jvp
ad.primitive_transposes[_frechet_p] = _frechet_transpose
batching.primitive_batchers[_frechet_p] = _frechet_batch
mlir.register_lowering(_frechet_p, mlir.lower_fun(_frechet_impl, multiple_results=False))


def divided_difference(func: Elementwise, a: Number, b: Number) -> Number:
    """f[a, b] = (f(a) − f(b)) / (a − b), which is f'(a) at a = b.

    Where the subtraction cancels, the equal mean of f' over [b, a] takes its place: Gauss's rule with 8 points, trusted
    where the one with 5 points agrees to eps^(5/8), which leaves an error of the order of eps.
    """
    a, b = jnp.broadcast_arrays(a, b)
    gap = a - b
    fa, fb = func(a), func(b)
    fine, coarse = _mean_slopes(func, a, b)
    agree = jnp.abs(fine - coarse) <= jnp.finfo(gap.dtype).eps ** 0.625 * jnp.abs(fine)
    # Close arguments count also where f is 0 and its values do not cancel: the quotient's own derivative does.
    close = jnp.abs(gap) <= 0.01 * jnp.maximum(jnp.abs(a), jnp.abs(b))
    cancels = close | (jnp.abs(fa - fb) <= 0.01 * jnp.maximum(jnp.abs(fa), jnp.abs(fb)))
    near = (gap == 0) | (cancels & agree)
    return jnp.where(near, fine, (fa - fb) / jnp.where(near, 1, gap))


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
    return jnp.linalg.inv(x)


def sym_inv_sqrtm1(x: Matrix) -> Matrix:
    """Inverse square root x^(-1/2) of a symmetric positive definite matrix."""
    return sym_funcm(x, jax.lax.rsqrt)


def sym_inv_sqrtm2(x: Matrix) -> tuple[Matrix, Matrix]:
    """Inverse square root and square root (x^(-1/2), x^(1/2)) of a symmetric positive definite matrix."""
    return sym_inv_sqrtm1(x), sym_sqrtm(x)


def _adjoint(x: Matrix) -> Matrix:
    return jnp.conj(transpose(x))


def _hermitian(x: Matrix) -> Matrix:
    return 0.5 * (x + _adjoint(x))


def _mean_slopes(func: Elementwise, a: Array, b: Array) -> tuple[Array, Array]:
    """∫₀¹ f'(b + t (a − b)) dt by Gauss's rules with 8 and with 5 points, on a new leading axis for the points."""
    nodes, weights = (np.concatenate(pair) for pair in zip(_FINE, _COARSE))
    column = (-1,) + (1,) * a.ndim
    t = 0.5 * (a + b) + 0.5 * jnp.asarray(nodes, a.dtype).reshape(column) * (a - b)
    slopes = 0.5 * jnp.asarray(weights, a.dtype).reshape(column) * jax.jvp(func, (t,), (jnp.ones_like(t),))[1]
    return jnp.sum(slopes[:8], 0), jnp.sum(slopes[8:], 0)
