"""Matrix functions: against geoopt's linalg, and their first and second derivatives where eigenvalues coincide."""

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.test_util import check_grads

from parity_tests import draws
from parity_tests.manifolds.parity import Operation, compare
from port_jax import linalg

RNG = draws.stream(61)


def symmetric(g: np.ndarray) -> np.ndarray:
    return 0.5 * (g + np.swapaxes(g, -1, -2))


def test_parity():
    raw = RNG.standard_normal((3, 4, 4))
    arrays = {
        "a": raw,
        "s": symmetric(raw),
        "x": raw @ np.swapaxes(raw, -1, -2) + 0.5 * np.eye(4),
        "t": RNG.standard_normal((3, 4, 2)),
    }

    def op(name, argument, *rest, theirs_rest=None):
        return Operation(
            lambda x: getattr(geoopt.linalg, name)(x, *(theirs_rest or rest)),
            lambda x: getattr(linalg, name)(x, *rest),
            (argument,),
            tangent={"s": symmetric, "x": symmetric},
            backward=4,
        )

    names = ("sym_logm", "sym_sqrtm", "sym_invm", "sym_inv_sqrtm1", "sym_inv_sqrtm2")
    compare(
        {name: op(name, "x") for name in names}
        | {
            "sym": op("sym", "a"),
            "extract_diag": op("extract_diag", "a"),
            "trace": op("trace", "a"),
            "trace keepdim": op("trace", "a", True),
            "expm": op("expm", "a"),
            # By eigenvalues, where geoopt has torch.matrix_exp: over 1,000 such matrices p50 and p99 are 4 times torch's.
            "sym_expm": op("sym_expm", "s"),
            "sym_funcm": op("sym_funcm", "s", jnp.tanh, theirs_rest=(torch.tanh,)),
            "qr": Operation(lambda a: tuple(geoopt.linalg.qr(a)), lambda a: tuple(linalg.qr(a)), ("t",)),
            "svd": Operation(lambda a: geoopt.linalg.svd(a)[1], lambda a: linalg.svd(a)[1], ("a",)),
            "block_matrix": Operation(
                lambda a, s: geoopt.linalg.block_matrix([[a, s], [s, a]]),
                lambda a, s: linalg.block_matrix([[a, s], [s, a]]),
                ("a", "s"),
            ),
        },
        arrays,
        rtol=1e-10,
    )
    assert int(linalg.matrix_rank(jnp.diag(jnp.array([1.0, 2, 0])))) == 2


def test_public_names():
    missing = [name for name in geoopt.linalg.batch_linalg.__all__ if name not in vars(linalg)]
    assert not missing


@pytest.mark.parametrize("spectrum", [(2, 2, 2), (1, 1, 3), (1, 1 + 1e-9, 3), (1e-6, 2e-6, 5), (0.3, 1, 40)])
def test_derivatives(spectrum):
    """D log(A)[E] against the integral ∫₀^∞ (A + t)⁻¹ E (A + t)⁻¹ dt, and the second derivative against differences of the first."""
    q = np.linalg.qr(RNG.standard_normal((3, 3)))[0]
    x = jnp.asarray(q * np.array(spectrum) @ q.T)
    u, w = (jnp.asarray(symmetric(RNG.standard_normal((3, 3)))) for _ in range(2))
    # t = eˢ, by the trapezoidal rule, which converges geometrically.
    s = np.linspace(-60, 60, 4001)
    resolvents = np.linalg.inv(np.asarray(x) + np.exp(s)[:, None, None] * np.eye(3))
    exact = np.einsum("s,sij,jk,skl->il", np.exp(s) * (s[1] - s[0]), resolvents, u, resolvents)

    @jax.jit
    def derivatives(x):
        first = lambda x: jax.jvp(linalg.sym_logm, (x,), (u,))[1]  # noqa: E731
        gradient = jax.grad(lambda x: jnp.sum(w * linalg.sym_logm(x)))
        return first(x), jax.jvp(first, (x,), (w,))[1], gradient(x), jax.jvp(gradient, (x,), (u,))[1]

    first, second, gradient, reverse = derivatives(x)
    condition = max(spectrum) / min(spectrum)
    # The reference adds 4001 terms: its own rounding is up to 4001 eps = 9e-13, and typically the root of that number.
    np.testing.assert_allclose(first, exact, rtol=0, atol=1e-13 * condition * np.abs(exact).max())
    # Forward and reverse are each other's transpose, to second order too.
    np.testing.assert_allclose(jnp.sum(gradient * u), jnp.sum(w * first), rtol=1e-12 * condition)
    h = 1e-5 * min(spectrum)
    ends = [derivatives(x + sign * h * w)[0] for sign in (1, -1)]
    np.testing.assert_allclose(second, (ends[0] - ends[1]) / (2 * h), rtol=0, atol=1e-6 * condition * float(jnp.abs(second).max()))
    ends = [derivatives(x + sign * h * u)[2] for sign in (1, -1)]
    np.testing.assert_allclose(reverse, (ends[0] - ends[1]) / (2 * h), rtol=0, atol=1e-6 * condition * float(jnp.abs(reverse).max()))


def test_hermitian_and_batches():
    a = RNG.standard_normal((2, 3, 3)) + 1j * RNG.standard_normal((2, 3, 3))
    h = jnp.asarray(a @ np.conj(np.swapaxes(a, -1, -2)) + np.eye(3))
    root = linalg.sym_sqrtm(h)
    np.testing.assert_allclose(root @ root, h, atol=1e-12)
    inverse_root = jax.jit(lambda m: linalg.sym_inv_sqrtm1(m @ jnp.conj(m.T) + jnp.eye(3)))
    check_grads(inverse_root, (jnp.asarray(a[0]),), order=2, rtol=1e-3)
    x = jnp.asarray(symmetric(RNG.standard_normal((4, 3, 3))))
    one = jax.grad(lambda x: jnp.sum(jnp.sin(linalg.sym_expm(x))))
    np.testing.assert_allclose(jax.vmap(one)(x), one(x), rtol=1e-12)
    assert linalg.sym_expm(x.astype(jnp.float32)).dtype == jnp.float32
