"""⟨R(u, v)v, u⟩ of each manifold in closed form: the sectional curvature times the squared area of the plane."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from port_jax.linalg import sym, sym_inv_sqrtm1
from port_jax.manifolds.siegel import cayley_transform

Array = Any


def area(m: Any, x: Array, u: Array, v: Array) -> Array:
    """‖u‖²‖v‖² - ⟨u, v⟩²."""
    return m.inner(x, u) * m.inner(x, v) - m.inner(x, u, v) ** 2


def constant(k: Callable[[Any], Array]) -> Callable[..., Array]:
    """Constant sectional curvature k(manifold)."""
    return lambda m, x, u, v: k(m) * area(m, x, u, v)


def canonical_stiefel(m: Any, x: Array, u: Array, v: Array) -> Array:
    """¼‖[A, B]_m‖² + ‖[A, B]_h‖² for horizontal A, B in so(n) with Ax = u, Bx = v, and ‖A‖² = ½ tr AᵀA.

    The metric is normal homogeneous (Cheeger and Ebin 1975, proposition 3.30).
    """

    def horizontal(w: Array) -> Array:
        half = w - 0.5 * x @ (x.T @ w)
        return half @ x.T - x @ half.T

    a, b = horizontal(u), horizontal(v)
    bracket = a @ b - b @ a
    part = horizontal(bracket @ x)
    return 0.5 * (0.25 * jnp.sum(part**2) + jnp.sum((bracket - part) ** 2))


def euclidean_stiefel(m: Any, x: Array, u: Array, v: Array) -> Array:
    """Gauss's equation with the second fundamental form II(u, v) = -x sym(uᵀv)."""
    return jnp.sum(sym(u.T @ u) * sym(v.T @ v)) - jnp.sum(sym(u.T @ v) ** 2)


def positive_definite(m: Any, x: Array, u: Array, v: Array) -> Array:
    """-¼‖[U, V]‖² with U = x^-½ u x^-½ (Bridson and Haefliger 1999, II.10)."""
    root = sym_inv_sqrtm1(x)
    a, b = root @ u @ root, root @ v @ root
    return -0.25 * jnp.sum((a @ b - b @ a) ** 2)


def birkhoff(m: Any, x: Array, u: Array, v: Array) -> Array:
    """Gauss's equation in the flat coordinates s = 2√x, where rows and columns are constrained to |s|²/4 = 1.

    The constraints have Hessians h(u, v) = ½ Σ uv/x along rows and columns, and gradients with the Gram matrix [[I, x], [xᵀ, I]].
    """
    n = x.shape[0]
    sums = lambda a, b: 0.5 * jnp.concatenate([jnp.sum(a * b / x, 1), jnp.sum(a * b / x, 0)])  # noqa: E731
    inverse = jnp.linalg.pinv(jnp.block([[jnp.eye(n), x], [x.T, jnp.eye(n)]]), rtol=1e-9)
    return (sums(u, u) @ inverse @ sums(v, v) - sums(u, v) @ inverse @ sums(u, v)) / n


def upper_half(m: Any, x: Array, u: Array, v: Array) -> Array:
    """-2‖[ξ, η]‖² with ξ = ½[[Im, Re], [Re, -Im]] of Y^-½ u Y^-½: the symmetric space Sp(2n)/U(n) (Siegel 1943)."""
    root = sym_inv_sqrtm1(x.imag).astype(x.dtype)

    def lifted(w: Array) -> Array:
        w = root @ w @ root
        return 0.5 * jnp.block([[w.imag, w.real], [w.real, -w.imag]])

    a, b = lifted(u), lifted(v)
    return -2 * jnp.sum((a @ b - b @ a) ** 2)


def bounded_domain(m: Any, x: Array, u: Array, v: Array) -> Array:
    """That of the upper half space, of whose metric the domain's is a quarter."""
    push = lambda w: jax.jvp(cayley_transform, (x,), (w,))[1]  # noqa: E731
    return 0.25 * upper_half(m, cayley_transform(x), push(u), push(v))
