"""Doubly stochastic matrices with the Fisher metric."""

from __future__ import annotations

from dataclasses import field
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from port_jax.linalg import block_matrix, qr, transpose
from port_jax.manifolds.base import Manifold, Verdict, pytree
from port_jax.manifolds.sizes import require_size
from port_jax.primitives import for_each_matrix

__all__ = ["BirkhoffPolytope", "proj_doubly_stochastic", "proj_tangent"]

Number = Float[Array, "..."]
Matrix = Float[Array, "*batch n n"]

# Of the logarithm of a type's largest number: larger exponents are reduced before Sinkhorn's iteration.
_PART = 0.95


@pytree
class BirkhoffPolytope(Manifold):
    """{X > 0 : X1 = 1, Xᵀ1 = 1} with ⟨U, V⟩_X = Σ UᵢⱼVᵢⱼ/Xᵢⱼ / n (Douik and Hassibi 2018).

        retr_X(U) = sinkhorn(X ∘ exp(U/X)),   tangent vectors have zero row and column sums

    `projx` is Sinkhorn's iteration as geoopt runs it: at most `max_iter` steps for the whole batch, until the columns of each
    matrix change by less than `tol`, with `eps` added to the sums. The projection along the normal space {X ∘ (α1ᵀ + 1βᵀ)} is the
    least-squares solution for α and β with α₁ = 1.
    """

    ndim: ClassVar[int] = 2

    max_iter: int = field(default=100, metadata={"static": True})
    tol: float = field(default=1e-5, metadata={"static": True})
    eps: float = field(default=1e-12, metadata={"static": True})

    def __post_init__(self) -> None:
        for name, least in (("max_iter", 1), ("tol", 0), ("eps", 0)):
            if not getattr(self, name) >= least:
                raise ValueError(f"{self.name}: {name} is {getattr(self, name)!r}; it has to be {least} or more")

    def inner(self, x: Matrix, u: Matrix, v: Matrix | None = None, *, keepdim: bool = False) -> Number:
        """Σ uᵢⱼvᵢⱼ/xᵢⱼ / n, the Fisher metric divided by n as in geoopt."""
        return jnp.sum(u * (u if v is None else v) / x, (-2, -1), keepdims=keepdim) / x.shape[-1]

    def projx(self, x: Matrix) -> Matrix:
        """Sinkhorn's iteration: rows and columns of a nonnegative matrix scaled until both sum to 1; differentiable."""
        return proj_doubly_stochastic(x, self.max_iter, self.eps, self.tol)

    def proju(self, x: Matrix, u: Matrix) -> Matrix:
        """Projection of an ambient vector, orthogonal in the metric: u - X ∘ (α1ᵀ + 1βᵀ)."""
        return proj_tangent(x, u)

    def egrad2rgrad(self, x: Matrix, u: Matrix) -> Matrix:
        """The projection of X ∘ u; as in geoopt, without the factor n that would match the mean in `inner`."""
        return proj_tangent(x, x * u)

    def retr(self, x: Matrix, u: Matrix) -> Matrix:
        """sinkhorn(x ∘ exp(u/x)), with entries of at least 1e-12."""
        exponent = u / x
        # A factor of a row leaves the limit of the iteration as it is; one of the whole matrix would bring the other rows below eps.
        excess = jnp.max(exponent, -1, keepdims=True) - _PART * np.log(jnp.finfo(exponent.dtype).max)
        y = self.projx(x * jnp.exp(exponent - jax.lax.stop_gradient(jnp.maximum(excess, 0))))
        return jnp.maximum(y, 1e-12)

    def expmap(self, x: Matrix, u: Matrix) -> Matrix:
        """The retraction, as in geoopt; the metric's exponential has no closed form."""
        return self.retr(x, u)

    def transp(self, x: Matrix, y: Matrix, v: Matrix) -> Matrix:
        """Projection of v onto the tangent space at y."""
        return self.proju(y, v)

    def random_naive(self, key: PRNGKeyArray, *size: int, dtype: DTypeLike | None = None) -> Matrix:
        """Sinkhorn's iteration applied to absolute values of normal numbers; not uniform. ValueError if it is not square."""
        require_size(self, "random_naive", size)
        return self.projx(jnp.abs(jax.random.normal(key, size, dtype or float)))

    def random(self, key: PRNGKeyArray, *size: int, dtype: DTypeLike | None = None, **kwargs: Any) -> Matrix:
        """`random_naive`."""
        require_size(self, "random", size)
        return self.random_naive(key, *size, dtype=dtype, **kwargs)

    def origin(self, *size: int, dtype: DTypeLike | None = None) -> Matrix:
        """The identity, as in geoopt: a vertex of the polytope, where the metric is infinite. ValueError if it is not square."""
        require_size(self, "origin", size)
        return jnp.broadcast_to(jnp.eye(size[-1], dtype=dtype), size)

    def _check_shape(self, x: Any, name: str) -> Verdict:
        ok, reason = super()._check_shape(x, name)
        if ok and np.shape(x)[-1] != np.shape(x)[-2]:
            return False, f"{name} has shape {np.shape(x)}; its last two axes have to be equal"
        return ok, reason

    def _check_point_on_manifold(self, x: Matrix, *, atol: float, rtol: float) -> Verdict:
        # Sinkhorn's iteration stops at tol, so that a point that it returns is off by as much.
        return _sums("x", x, 1, max(atol, 10 * self.tol))

    def _check_vector_on_tangent(self, x: Matrix, u: Matrix, *, atol: float, rtol: float) -> Verdict:
        return _sums("u", u, 0, atol)


def proj_doubly_stochastic(x: Matrix, max_iter: int = 300, eps: float = 1e-5, tol: float = 1e-5) -> Matrix:
    """Sinkhorn and Knopp (1967): r ∘ x ∘ c with r = 1/(x c), c = 1/(xᵀ r).

    A scan of fixed length whose state no longer changes once the largest change over the batch is at most `tol`, so that reverse
    mode can differentiate it.
    """

    def rows(c: Float[Array, "*batch 1 n"]) -> Float[Array, "*batch n 1"]:
        return 1 / (x @ transpose(c) + eps)

    def step(state: tuple, _: None) -> tuple[tuple, None]:
        c, r, done = state
        sums = transpose(r) @ x
        done = done | (jnp.max(jnp.abs(sums * c - 1), initial=0) <= tol)

        def advance() -> tuple:
            following = 1 / (sums + eps)
            return following, rows(following)

        return (*jax.lax.cond(done, lambda: (c, r), advance), done), None

    c = 1 / (jnp.sum(x, -2, keepdims=True) + eps)
    begins = jnp.max(jnp.abs(x), initial=0) < 0  # False, and of the type that it has later on a mesh
    (c, r, _), _ = jax.lax.scan(step, (c, rows(c), begins), length=max_iter)
    return x * (r @ c)


def proj_tangent(x: Matrix, u: Matrix) -> Matrix:
    """u - x ∘ (α1ᵀ + 1βᵀ) with [[I, x], [xᵀ, I]] [α; β] = [u1; uᵀ1] and α₁ = 1, in the sense of least squares.

    Solved by an orthogonal decomposition, because the normal equations would square the condition number.
    """
    x, u = jnp.broadcast_arrays(x, u)
    n = x.shape[-1]
    eye = jnp.broadcast_to(jnp.eye(n, dtype=x.dtype), x.shape)
    system = block_matrix([[eye, x], [transpose(x), eye]])
    sums = jnp.concatenate([jnp.sum(u, -1), jnp.sum(u, -2)], -1)[..., None]
    q, r = qr(system[..., :, 1:])
    rest = for_each_matrix(jax.scipy.linalg.solve_triangular)(r, transpose(q) @ (sums - system[..., :, :1]))
    alpha = jnp.concatenate([jnp.ones_like(rest[..., :1, :]), rest[..., : n - 1, :]], -2)
    return u - (alpha + transpose(rest[..., n - 1 :, :])) * x


def _sums(name: str, x: Matrix, wanted: float, atol: float) -> Verdict:
    for what, axis in (("row", -1), ("column", -2)):
        sums = np.sum(np.asarray(x), axis)
        off = np.abs(sums - wanted)
        if not off.max(initial=0) <= atol:
            return False, f"a {what} of {name} sums to {sums.flat[off.argmax()]:.8g}, not {wanted}"
    return True, None
