"""Siegel spaces: what the upper half space and the bounded domain of complex symmetric matrices have in common."""

from __future__ import annotations

import enum
from dataclasses import field
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Complex, Float

from port_jax.linalg import Elementwise, block_matrix, dilation, extract_diag, identity, solve, sym, sym_funcm, transpose
from port_jax.manifolds import trig
from port_jax.manifolds.base import Manifold, Verdict, pytree
from port_jax.spectral import spectral_function

__all__ = [
    "Matrix",
    "SiegelManifold",
    "SiegelMetricType",
    "boundary_margin",
    "cayley_transform",
    "complex_dtype",
    "inverse_cayley_transform",
    "is_complex_symmetric",
    "positive_conjugate_projection",
    "takagi_eig",
    "takagi_eigvals",
    "takagi_funcm",
    "to_compound_symmetric",
]

Number = Float[Array, "..."]
Matrix = Complex[Array, "*batch n n"]
Real = Float[Array, "*batch n n"]


class SiegelMetricType(enum.Enum):
    """How a number is made from the vector-valued distance v₁ ≤ … ≤ vₙ; see `SiegelManifold`."""

    RIEMANNIAN = "riem"
    FINSLER_ONE = "fone"
    FINSLER_INFINITY = "finf"
    FINSLER_MINIMUM = "fmin"
    WEIGHTED_SUM = "wsum"


@pytree
class SiegelManifold(Manifold):
    """Complex symmetric matrices under the symplectic group (Siegel 1943; López et al. 2021).

    Two points have a vector-valued distance v₁ ≤ … ≤ vₙ, from which `metric` makes a number:

        riem  √Σ vᵢ²     fone  Σ vᵢ     finf  vₙ     fmin  Σ 2 (i - 1) vᵢ     wsum  Σ max(wᵢ, 0) vᵢ

    All are smooth where vᵢ of equal weights coincide, with correct derivatives. Where vᵢ of unequal weights coincide (the two largest
    in finf, any two in fmin) there is a kink: the gradient is the subgradient for one order of the two, and second derivatives leave
    out the part in which their eigenvectors mix, which has no limit. Where a vᵢ vanishes, and at coincident points, its part of the
    gradient is 0; riem and fone are smooth in the others.

    fmin and wsum need `rank` n ≥ 2; wsum's `weights` are a leaf, all 1 at first. fmin has geoopt's weights 0, 2, …, 2n - 2.
    There is no exponential and no logarithm, and transport is the identity, as in geoopt.

    Gradients `u` of `egrad2rgrad` are ∂f/∂Re + i ∂f/∂Im, as torch gives them: the conjugate of what `jax.grad` returns.
    """

    ndim: ClassVar[int] = 2

    metric: SiegelMetricType | str = field(default=SiegelMetricType.RIEMANNIAN, metadata={"static": True})
    rank: int | None = field(default=None, metadata={"static": True})
    weights: Float[Array, " n"] | None = None

    def __post_init__(self) -> None:
        if self.metric not in [*SiegelMetricType, *(metric.value for metric in SiegelMetricType)]:
            choices = ", ".join(repr(metric.value) for metric in SiegelMetricType)
            raise ValueError(f"{self.name}: metric is {self.metric!r}; it has to be one of {choices}")
        metric = SiegelMetricType(self.metric)
        object.__setattr__(self, "metric", metric)
        needs_rank = metric in (SiegelMetricType.FINSLER_MINIMUM, SiegelMetricType.WEIGHTED_SUM)
        if needs_rank and (self.rank is None or self.rank < 2):
            raise ValueError(f"{self.name}: rank is {self.rank}; metric {metric.value!r} needs the matrices' size, 2 or more")
        if self.weights is not None and metric is not SiegelMetricType.WEIGHTED_SUM:
            raise ValueError(f"{self.name}: weights are given, and metric {metric.value!r} has none; use metric='wsum'")
        if metric is SiegelMetricType.WEIGHTED_SUM:
            weights = np.ones(self.rank or 0) if self.weights is None else self.weights
            if np.shape(weights) != (self.rank,):
                raise ValueError(f"{self.name}: weights have shape {np.shape(weights)}; rank={self.rank} needs ({self.rank},)")
            object.__setattr__(self, "weights", jnp.asarray(weights))

    def proju(self, x: Matrix, u: Matrix) -> Matrix:
        """The symmetric part: tangent vectors are the complex symmetric matrices."""
        return jnp.broadcast_to(sym(u), jnp.broadcast_shapes(x.shape, u.shape))

    def retr(self, x: Matrix, u: Matrix) -> Matrix:
        """projx(x + u)."""
        return self.projx(x + u)

    def transp(self, x: Matrix, y: Matrix, v: Matrix) -> Matrix:
        """v."""
        return v

    def _distance(self, half_sinh: Matrix, keepdim: bool, squared: bool = False) -> Number:
        """The metric of vᵢ = 2 arsinh σᵢ, where σ are the singular values of `half_sinh`."""
        if self.metric is SiegelMetricType.RIEMANNIAN:
            # A function of the matrix, differentiable where singular values coincide or vanish, too.
            gram = jnp.conj(transpose(half_sinh)) @ half_sinh
            result = jnp.sum(jnp.real(extract_diag(sym_funcm(gram, _four_arsinh_squared))), -1)
            result = result if squared else trig.sqrt_or_zero(result)
        elif self.metric is SiegelMetricType.FINSLER_ONE:
            # A function of [[0, A], [Aᴴ, 0]], whose eigenvalues are ±σ: differentiable where σ coincide, without squaring them.
            result = jnp.sum(jnp.real(extract_diag(sym_funcm(dilation(half_sinh), _arsinh_of_size))), -1)
            result = result**2 if squared else result
        else:
            result = self._ordered_sum(half_sinh)
            result = result**2 if squared else result
        return result[..., None, None] if keepdim else result

    def _ordered_sum(self, half_sinh: Matrix) -> Number:
        """Σ wᵢvᵢ over the ascending vᵢ = 2 arsinh σᵢ with the weights of finf, fmin, wsum: smooth where vᵢ of equal weights coincide."""
        n = half_sinh.shape[-1]
        hermitian = dilation(half_sinh)

        def weighted(*weights: float) -> Number:
            function = spectral_function(hermitian, _arsinh_of_size, (0.0,) * n + weights)
            return 2 * jnp.sum(jnp.real(extract_diag(function)), -1)

        if self.metric is SiegelMetricType.FINSLER_INFINITY:
            return weighted(*(0.0,) * (n - 1), 1.0)
        if self.metric is SiegelMetricType.FINSLER_MINIMUM:
            return weighted(*(2.0 * i for i in range(n)))
        # The weights are traced: Σ wᵢvᵢ is a sum of differences of neighbouring weights times sums of the largest vᵢ.
        w = jax.nn.relu(jnp.asarray(self.weights, half_sinh.real.dtype))
        steps = jnp.diff(w, prepend=0)
        return jnp.sum(jnp.stack([steps[i] * weighted(*(0.0,) * i, *(1.0,) * (n - i)) for i in range(n)]), 0)

    def _check_shape(self, x: Any, name: str) -> Verdict:
        ok, reason = super()._check_shape(x, name)
        shape = np.shape(x)
        if ok and (shape[-1] != shape[-2] or self.rank not in (None, shape[-1])):
            size = "equal" if self.rank is None else f"{self.rank}, its rank"
            return False, f"{name} has shape {shape}; the last two axes of a point of {self.name} have to be {size}"
        return ok, reason

    def _check_vector_on_tangent(self, x: Matrix, u: Matrix, *, atol: float, rtol: float) -> Verdict:
        ok = np.allclose(u, transpose(u), atol=atol, rtol=rtol)
        return (True, None) if ok else (False, "u is not symmetric")


def boundary_margin(dtype: DTypeLike) -> float:
    """geoopt's distance of projected points from the boundary: 1e-5 in double precision, else 4e-3."""
    return 1e-5 if jnp.finfo(dtype).bits == 64 else 4e-3


def complex_dtype(dtype: DTypeLike | None) -> Any:
    """A complex dtype, by default JAX's widest; ValueError for a real one."""
    dtype = jnp.result_type(complex) if dtype is None else jnp.dtype(dtype)
    if not jnp.issubdtype(dtype, jnp.complexfloating):
        raise ValueError(f"dtype is {dtype}; points of Siegel spaces are complex: use complex64 or complex128")
    return dtype


def cayley_transform(z: Matrix) -> Matrix:
    """From the bounded domain to the upper half space: i (I + Z)(I - Z)⁻¹."""
    eye = identity(z.shape[-1], z)
    return 1j * _right_solve(eye + z, eye - z)


def inverse_cayley_transform(z: Matrix) -> Matrix:
    """From the upper half space to the bounded domain: (Z - iI)(Z + iI)⁻¹."""
    i = 1j * identity(z.shape[-1], z)
    return _right_solve(z - i, z + i)


def to_compound_symmetric(z: Matrix) -> Float[Array, "*batch 2n 2n"]:
    """[[A, B], [B, -A]] of Z = A + iB: real, symmetric for symmetric Z, with eigenvalues ± the singular values of Z."""
    a, b = jnp.real(z), jnp.imag(z)
    return block_matrix([[a, b], [b, -a]])


def takagi_eig(z: Matrix) -> tuple[Float[Array, "*batch n"], Matrix]:
    """Takagi's factorization Z = S̄ D S* of a complex symmetric matrix: D ≥ 0 in ascending order, and S unitary.

    The columns of S have a derivative where the values D are distinct and not 0; elsewhere it does not exist and is not finite. For
    functions of Z that do not depend on the choice of S, use `takagi_funcm`.
    """
    n = z.shape[-1]
    values, vectors = jnp.linalg.eigh(to_compound_symmetric(z))
    upper = vectors[..., n:]
    return values[..., n:], upper[..., :n, :] - 1j * upper[..., n:, :]


def takagi_eigvals(z: Matrix) -> Float[Array, "*batch n"]:
    """The singular values of a complex symmetric matrix in ascending order.

    Where they coincide or vanish, each has a kink, and its derivative is that along the eigenvectors that the decomposition happens
    to return; second derivatives are not finite there. A sum Σ f(σᵢ) over all of them has every derivative that f has: for an even f,
    take half the trace of `sym_funcm(to_compound_symmetric(z), f)`.
    """
    return jnp.linalg.eigvalsh(to_compound_symmetric(z))[..., z.shape[-1] :]


def takagi_funcm(z: Matrix, func: Elementwise) -> Matrix:
    """S̄ f(D) S* of Takagi's factorization Z = S̄ D S*, for odd f, as `sym_funcm` of [[A, B], [B, -A]] with Z = A + iB.

    It does not depend on the choice of S, and has derivatives of every order where values of D coincide, and where they vanish
    if f is smooth and odd at 0. `func` is as in `sym_funcm`.
    """
    n = z.shape[-1]
    result = sym_funcm(to_compound_symmetric(z), func)
    return jax.lax.complex(result[..., :n, :n], result[..., :n, n:])


def positive_conjugate_projection(y: Real) -> Real:
    """A symmetric matrix with its eigenvalues raised to `boundary_margin`, or the matrix itself if all exceed it.

    At an eigenvalue that equals the margin there is a kink; the subgradient is the mean of the derivatives on both sides.
    """
    margin = boundary_margin(y.dtype)
    inside = jnp.all(jnp.linalg.eigvalsh(jax.lax.stop_gradient(y)) > margin, -1)[..., None, None]
    return jnp.where(inside, y, sym_funcm(y, _raised_double if margin == 1e-5 else _raised_single))


def is_complex_symmetric(z: Matrix, atol: float = 3e-5, rtol: float = 1e-5) -> bool:
    """Whether a concrete matrix equals its transpose, within the tolerances."""
    return bool(np.allclose(z, transpose(z), atol=atol, rtol=rtol))


def _raised_double(e: Number) -> Number:
    return jnp.maximum(e, 1e-5)


def _raised_single(e: Number) -> Number:
    return jnp.maximum(e, 4e-3)


def _four_arsinh_squared(s: Number) -> Number:
    """(2 arsinh √s)², analytic at s = 0; rounding in a Gram matrix may leave s slightly below 0."""
    near = s < 1
    small = jnp.where(near, s, 0)
    return jnp.where(near, 4 * small * trig.arsin_ratio(-small) ** 2, 4 * jnp.arcsinh(jnp.sqrt(jnp.where(near, 1, s))) ** 2)


def _arsinh_of_size(t: Number) -> Number:
    """arsinh |t|, with derivative 0 at t = 0."""
    return jnp.arcsinh(t * jnp.sign(t))


def _right_solve(a: Matrix, b: Matrix) -> Matrix:
    """a b⁻¹."""
    return transpose(solve(transpose(b), transpose(a)))
