"""Functions of symmetric and Hermitian matrices, with derivatives of every order that are correct where eigenvalues coincide.

The eigenvectors of a matrix with a repeated eigenvalue have no derivative, but f(A) has all derivatives. With A = V Λ Vᴴ and Û = VᴴUV the
k-th derivative along U₁, …, Uₖ is (Daleckii and Krein 1965; Higham, Functions of Matrices, 2008, chapter 3)

    Dᵏf(A)[U₁, …, Uₖ] = V M Vᴴ,   M_{i₀iₖ} = Σ_π Σ_{i₁…iₖ₋₁} f[λ_{i₀}, …, λ_{iₖ}] Û_{π1, i₀i₁} ⋯ Û_{πk, iₖ₋₁iₖ}

over the permutations π, with the divided differences f[…] of `divided_differences`. One primitive covers all orders: its derivative
at order k is the primitive at order k + 1, and no eigenvector is ever differentiated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import permutations
from math import factorial
from string import ascii_letters
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float, Inexact

__all__ = ["divided_differences", "spectral_function"]

Matrix = Inexact[Array, "*batch n n"]
Elementwise = Callable[[Array], Array]
Weights = tuple[float, ...]

_DEGREE = 10
"""Nodes on an interval. They resolve derivatives of log to 1e-13 on [λ, 1.15 λ]; on wider ones quotients lose a factor of 7 per order."""
_DOUBT = 64.0
"""The error of function values, in units of eps, above which their difference is taken for a kink: libraries stay below 16."""


def spectral_function(x: Matrix, func: Elementwise, weights: Weights | None = None) -> Matrix:
    """f(A) = V f(Λ) Vᴴ of a symmetric (or Hermitian) matrix A = V Λ Vᴴ.

    `func` works element by element, closes over no traced value, and is the same object from call to call, because compiled code is
    cached under it. Derivatives of every order are taken among symmetric (Hermitian) matrices: the gradient of a loss is symmetric.
    They are finite and correct at repeated eigenvalues wherever func is smooth; at a kink they follow func's own derivative in JAX.

    `weights`, a tuple of n numbers, multiply f(λᵢ) in the order of the ascending spectrum: with (0, …, 0, 1) the trace is f of the
    largest eigenvalue. Where eigenvalues of unequal weights coincide, the result has no derivative, and the subgradient that does
    not mix their eigenvectors is used.
    """
    return _spectral_p.bind(x, func=func, weights=weights)


def divided_differences(func: Elementwise, e: Float[Array, "*batch n"], order: int, weights: Weights | None = None) -> Array:
    """f[λ_{i₀}, …, λ_{iₖ}] for all index tuples of an ascending e: [*batch, n, …, n] with k + 1 = order + 1 axes.

    The recursion f[a, …, b] = (f[…, b] − f[a, …]) / (b − a) over sorted arguments cancels where they are close. There the mean of
    f's derivative over the simplex (Hermite and Genocchi),

        f[x₀, …, xₖ] = ∫ f⁽ᵏ⁾(Σ τᵢxᵢ) dτ,   τᵢ ≥ 0, Σ τᵢ = 1,

    is used instead, with f⁽ᵏ⁾ expanded in Legendre polynomials on [a, b]. Each comes with an estimate of its error, from rounding or
    from the last coefficients of the expansion, and the one with the smaller error is used. An expansion that contradicts the
    function's values, such as one over a kink between two nodes, is discarded.
    """
    n = e.shape[-1]
    weight = np.ones(n) if weights is None else np.array(weights, float)
    eps = jnp.finfo(e.dtype).eps
    table = func(e) if weights is None else _weighted(func(e), weight)
    error = eps * jnp.abs(table)
    for level in range(1, order + 1):
        tuples, _ = _sorted_tuples(n, level)
        head, tail = (_rank(part) for part in (tuples[:, :-1], tuples[:, 1:]))
        gap = e[..., tuples[:, -1]] - e[..., tuples[:, 0]]
        apart = gap > 0
        width = jnp.where(apart, gap, 1)
        quotient = (table[..., tail] - table[..., head]) / width
        its_error = (error[..., tail] + error[..., head]) / width + eps * jnp.abs(quotient)
        mean, mean_error = _mean_derivative(func, e, level, tuples)
        first = weight[tuples[:, 0]]
        if weights is not None:
            mean, mean_error = _weighted(mean, first), _weighted(mean_error, np.abs(first))
        # Between unequal weights the function jumps from one argument to the next and has no derivative.
        smooth = (weight[tuples] == first[:, None]).all(-1)
        near = (mean_error <= its_error) & (jnp.abs(mean - quotient) <= _DOUBT * (mean_error + its_error))
        near = (near | ~apart) & smooth
        table = jnp.where(near, mean, jnp.where(apart, quotient, 0))
        error = jnp.where(near, mean_error, its_error)
    return table[..., _sorted_tuples(n, order)[1]]


def _mean_derivative(func: Elementwise, e: Array, order: int, tuples: np.ndarray) -> tuple[Array, Array]:
    """∫ f⁽ᵏ⁾(Σ τᵢxᵢ) dτ for each tuple of positions in the ascending e, and an estimate of its error."""
    pairs, _ = _sorted_tuples(e.shape[-1], 1)
    nodes, transform, legendre = _expansion(order)
    low, high = e[..., pairs[:, 0], None], e[..., pairs[:, 1], None]
    at = low + (high - low) * jnp.asarray(0.5 + 0.5 * nodes, e.dtype)
    slopes = _nth_derivative(func, order)(at)
    coefficients = slopes @ jnp.asarray(transform, e.dtype)
    rest = jnp.abs(coefficients[..., -1]) + jnp.abs(coefficients[..., -2])
    noise = jnp.finfo(e.dtype).eps * jnp.max(jnp.abs(slopes), -1)
    if order == 1:
        return coefficients[..., 0], rest + noise
    ends = _rank(tuples[:, [0, -1]])
    x = e[..., tuples]
    width = x[..., -1:] - x[..., :1]
    wide = width > 0
    eta = jnp.where(wide, (2 * x - x[..., -1:] - x[..., :1]) / jnp.where(wide, width, 1), 0)
    means = _complete_homogeneous(eta) @ jnp.asarray(legendre, e.dtype)
    mean = jnp.sum(coefficients[..., ends, :] * means, -1)
    return mean, (rest + noise)[..., ends] / factorial(order)


def _weighted(values: Array, weight: np.ndarray) -> Array:
    """weight · values, and 0 where the weight is 0, whatever the value."""
    return jnp.where(weight == 0, 0, values) * jnp.asarray(weight, values.dtype)


def _complete_homogeneous(x: Array) -> Array:
    """h₀, …, h_{d-1} of the entries along the last axis: the sums of all their monomials of each degree."""
    one = jnp.ones_like(x[..., 0])
    sums = [one] + [jnp.zeros_like(one)] * (_DEGREE - 1)
    for i in range(x.shape[-1]):
        for degree in range(1, _DEGREE):
            sums[degree] = sums[degree] + x[..., i] * sums[degree - 1]
    return jnp.stack(sums, -1)


@lru_cache
def _expansion(order: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gauss nodes in [-1, 1], and matrices from values there to Legendre coefficients and from h_m to means over the simplex.

    The mean of sᵐ, s = Σ τᵢηᵢ, over the simplex of k + 1 corners has the integral m!/(m + k)! h_m(η).
    """
    nodes, weights = np.polynomial.legendre.leggauss(_DEGREE)
    degrees = np.arange(_DEGREE)
    transform = weights[:, None] * np.polynomial.legendre.legvander(nodes, _DEGREE - 1) * (degrees + 0.5)
    moments = np.array([factorial(m) / factorial(m + order) for m in degrees])
    monomials = np.zeros((_DEGREE, _DEGREE))
    for m in degrees:
        monomials[: m + 1, m] = np.polynomial.legendre.leg2poly(np.eye(_DEGREE)[m][: m + 1])
    return nodes, transform, moments[:, None] * monomials


@lru_cache
def _sorted_tuples(n: int, order: int) -> tuple[np.ndarray, np.ndarray]:
    """The nondecreasing tuples of order + 1 places, [tuples, order + 1], and the position among them of each tuple's sorted form."""
    every = np.indices((n,) * (order + 1)).reshape(order + 1, -1)
    ascending = every[:, (np.diff(every, axis=0) >= 0).all(0)].T
    return ascending, _rank(np.sort(every, axis=0).T).reshape((n,) * (order + 1))


def _rank(tuples: np.ndarray) -> np.ndarray:
    """The number of each nondecreasing tuple in lexicographic order; all tuples of that length have to be present."""
    return np.unique(tuples, axis=0, return_inverse=True)[1].reshape(-1)


def _nth_derivative(func: Elementwise, order: int) -> Elementwise:
    for _ in range(order):
        func = _derivative(func)
    return func


def _derivative(func: Elementwise) -> Elementwise:
    return lambda t: jax.jvp(func, (t,), (jnp.ones_like(t),))[1]


_spectral_p = Primitive("spectral_function")
"""Dᵏf(x)[u₁, …, uₖ] on the operands x, u₁, …, uₖ; linear in each u, and symmetric in them."""


def _impl(x: Matrix, *us: Matrix, func: Elementwise, weights: Weights | None) -> Matrix:
    e, v = jnp.linalg.eigh(x)
    adjoint = _adjoint(v)
    if not us:
        return (v * divided_differences(func, e, 0, weights)[..., None, :]) @ adjoint
    order = len(us)
    difference = divided_differences(func, e, order, weights).astype(x.dtype)
    us = tuple(adjoint @ (0.5 * (u + _adjoint(u))) @ v for u in us)
    letters = ascii_letters[: order + 1]
    factors = ",".join("..." + letters[i : i + 2] for i in range(order))
    product = f"...{letters},{factors}->...{letters[0]}{letters[-1]}"
    total = sum(jnp.einsum(product, difference, *chosen) for chosen in permutations(us))
    return v @ total @ adjoint


def _jvp(primals: Sequence[Matrix], tangents: Sequence[Any], **kind: Any) -> tuple[Any, Any]:
    x, *us = primals
    dx, *dus = tangents
    terms = [] if isinstance(dx, ad.Zero) else [_spectral_p.bind(x, *us, dx, **kind)]
    for i, du in enumerate(dus):
        if not isinstance(du, ad.Zero):
            terms.append(_spectral_p.bind(x, *us[:i], du, *us[i + 1 :], **kind))
    return _spectral_p.bind(x, *us, **kind), sum(terms[1:], terms[0])


def _transpose(ct: Any, x: Matrix, *us: Any, **kind: Any) -> list[Any]:
    # JAX transposes without conjugation: u -> D[u] transposes to ct -> conj(D[conj(ct)]).
    linear = [ad.is_undefined_primal(u) for u in us]
    if isinstance(ct, ad.Zero):
        return [None, *(ct if here else None for here in linear)]
    operands = [jnp.conj(ct) if here else u for here, u in zip(linear, us)]
    back = jnp.conj(_spectral_p.bind(x, *operands, **kind))
    return [None, *(back if here else None for here in linear)]


def _batch(args: Sequence[Array], axes: Sequence[int | None], **kind: Any) -> tuple[Array, int]:
    size = next(arg.shape[axis] for arg, axis in zip(args, axes) if axis is not None)
    moved = (jnp.broadcast_to(arg, (size, *arg.shape)) if axis is None else jnp.moveaxis(arg, axis, 0) for arg, axis in zip(args, axes))
    return _spectral_p.bind(*moved, **kind), 0


_spectral_p.def_impl(jax.jit(_impl, static_argnames=("func", "weights")))
_spectral_p.def_abstract_eval(lambda x, *us, func, weights: x)
ad.primitive_jvps[_spectral_p] = _jvp
ad.primitive_transposes[_spectral_p] = _transpose
batching.primitive_batchers[_spectral_p] = _batch
mlir.register_lowering(_spectral_p, mlir.lower_fun(_impl, multiple_results=False))


def _adjoint(x: Matrix) -> Matrix:
    return jnp.conj(jnp.swapaxes(x, -1, -2))
