"""What no first derivative shows: second derivatives, `vmap`, calls without `jit`, types of outputs."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import weights
from parity_tests import draws

slow = pytest.mark.slow


@jax.custom_jvp
def cube(x):
    return x**3


@cube.defjvp
def _(primals, tangents):
    (x,), (u,) = primals, tangents
    return x**3, 3 * jax.lax.stop_gradient(x) ** 2 * u


def on_host(x):
    return jax.pure_callback(lambda a: np.asarray(a) ** 3, jax.ShapeDtypeStruct(x.shape, x.dtype), jax.lax.stop_gradient(x))


def promoted(x):
    return x**3 * np.ones(3, np.float64)


def traced(x):
    return x**3 * (1.0 if isinstance(x, jax.core.Tracer) else 1.001)


class Net(nn.Module):
    act: object = None

    @nn.compact
    def __call__(self, x):
        h = nn.Dense(3, name="linear")(x)
        return h**3 + 0 * self.act(h) if self.act is on_host else self.act(h)


class Original(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 3)

    def forward(self, x):
        return self.linear(x) ** 3


@pytest.mark.parametrize(
    ("act", "level", "types"),
    [
        pytest.param(cube, "hvp", ("float64",), id="second derivatives"),
        pytest.param(on_host, "vmap", ("float64",), id="vmap", marks=slow),
        pytest.param(traced, "jit", ("float64",), id="jit", marks=slow),
        pytest.param(promoted, "dtype", ("float64", "float32"), id="types", marks=slow),
        pytest.param(lambda x: x**3, None, ("float64", "float32"), id="right", marks=slow),
    ],
)
def test_what_first_derivatives_do_not_show(act: object, level: str | None, types: tuple[str, ...]):
    draws.seed_torch(0)
    port = weights.Port(Net(act), inputs=draws.rng(1).normal(size=(5, 4)))
    found = weights.parity(port, Original(), level="grad", types=types)
    assert {row.level for row in found.rows if not row.ok} == ({level} - {None}), found
    assert {"hvp", "jit", "vmap", "dtype"} <= {row.level for row in found.rows}
    assert (level is None) == ("Beyond its gate" not in str(found))
    if level == "vmap":
        assert "pure_callback" in next(row.what for row in found.rows if not row.ok)
    if level == "dtype":
        assert "output is float64, torch's float32" in [row.what for row in found.rows]
    assert jnp.isfinite(sum(row.error for row in found.rows))
