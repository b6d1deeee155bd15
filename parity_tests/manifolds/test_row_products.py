"""Several inner products in one sweep: values, and every transformation that JAX knows."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.test_util import check_grads

from parity_tests import draws
from port_jax.manifolds.row_products import inner_products


def rows(*shapes: tuple[int, ...]) -> list[jax.Array]:
    rng = draws.rng(0)
    return [jnp.asarray(rng.standard_normal(shape)) for shape in shapes]


def test_values_broadcast():
    a, b, c, d = rows((3, 5, 7), (5, 7), (3, 1, 7), (7,))
    for found, (x, y) in zip(inner_products(a, b, c, d), [(a, b), (c, d)], strict=True):
        expected = np.broadcast_to(np.sum(np.asarray(x) * np.asarray(y), -1, keepdims=True), (3, 5, 1))
        np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-15)


def test_an_argument_may_come_twice_or_stay_constant():
    a, c = rows((5, 7), (5, 7))
    da, dc = jax.grad(lambda a, c: jnp.sum(inner_products(a, a, c, jnp.ones(7))[0] ** 2), argnums=(0, 1))(a, c)
    np.testing.assert_allclose(da, 4 * jnp.sum(a * a, -1, keepdims=True) * a, rtol=1e-13)
    np.testing.assert_array_equal(dc, 0)


def test_derivatives_of_second_order():
    a, b, c, d = rows((4, 3), (4, 3), (4, 3), (4, 3))
    check_grads(lambda *v: sum(jnp.sin(s).sum() for s in inner_products(*v)), (a, b, c, d), order=2)


def test_vmap_over_some_arguments():
    a, b, c, d = rows((6, 5, 7), (5, 7), (5, 7, 6), (5, 7))
    found = jax.vmap(inner_products, in_axes=(0, None, 2, None))(a, b, c, d)
    np.testing.assert_allclose(found[0], jnp.sum(a * b, -1, keepdims=True), rtol=1e-13)
    np.testing.assert_allclose(found[1], jnp.sum(jnp.moveaxis(c, 2, 0) * d, -1, keepdims=True), rtol=1e-13)


def test_in_a_scan_where_some_have_no_tangent():
    """JAX's own rule for a reduce of several operands raises here."""
    (a,) = rows((5, 3))

    def total(a):
        def body(carry, _):
            one, other = inner_products(carry, carry, jax.lax.round(carry), jnp.ones(3))
            return carry * jnp.tanh(one) + 0.1 * other, None

        return jnp.sum(jax.lax.scan(body, a, None, length=3)[0])

    assert jnp.isfinite(jax.jit(jax.hessian(total))(a)).all()
