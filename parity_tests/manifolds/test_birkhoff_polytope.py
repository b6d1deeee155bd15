"""Doubly stochastic matrices: against geoopt, whose tangent projection multiplies by x what is tangent already."""

from collections.abc import Callable

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from parity_tests import draws, slow
from parity_tests.manifolds.parity import Operation, compare
from port_jax.manifolds.birkhoff_polytope import BirkhoffPolytope

RNG = draws.stream(3)
THEIRS, MINE = geoopt.BirkhoffPolytope(), BirkhoffPolytope()


def points(n: int = 4, batch: int = 5) -> dict[str, np.ndarray]:
    tight = BirkhoffPolytope(max_iter=500, tol=1e-15)
    x, y = (np.asarray(tight.projx(np.abs(RNG.standard_normal((batch, n, n))) + 0.1)) for _ in range(2))
    u, v = (np.asarray(MINE.proju(x, RNG.standard_normal(x.shape))) for _ in range(2))
    return {
        "x": x,
        "y": y,
        "u": 0.1 * u * x,
        "v": v,
        "w": RNG.standard_normal(x.shape),
        "raw": np.abs(RNG.standard_normal(x.shape)),
    }


def op(name: str, *names: str, **kwargs) -> Operation:
    return Operation(lambda *a: getattr(THEIRS, name)(*a, **kwargs), lambda *a: getattr(MINE, name)(*a, **kwargs), names)


def test_parity():
    arrays = points()
    arrays["u"] = np.asarray(MINE.proju(arrays["x"], arrays["u"]))
    compare(
        {
            "inner": op("inner", "x", "u", "v"),
            "inner u": op("inner", "x", "u", keepdim=True),
            "norm": op("norm", "x", "u"),
            "component_inner": op("component_inner", "x", "u", "v"),
            "projx": op("projx", "raw"),
            "egrad2rgrad": op("egrad2rgrad", "x", "w"),
            "retr": op("retr", "x", "u"),
            "expmap": op("expmap", "x", "u"),
            # geoopt's transport is its egrad2rgrad: what it makes of v / y is the projection of v.
            "transp": Operation(lambda x, y, v: THEIRS.transp(x, y, v / y), MINE.transp, ("x", "y", "v")),
        },
        arrays,
        rtol=1e-9,
    )


def test_sinkhorn_stops_for_the_whole_batch():
    """The number of steps is that of the slowest matrix: alone, the others stop earlier and elsewhere."""
    raw = np.abs(RNG.standard_normal((3, 4, 4))) + np.array([0.01, 1, 5])[:, None, None]
    together = MINE.projx(jnp.asarray(raw))
    np.testing.assert_allclose(together, THEIRS.projx(torch.tensor(raw)), rtol=1e-13)
    alone = np.stack([THEIRS.projx(torch.tensor(r)) for r in raw])
    assert np.abs(alone - np.asarray(together)).max() > 1e-9
    lanes = jax.vmap(MINE.projx)(jnp.asarray(raw))
    np.testing.assert_allclose(lanes, alone, rtol=1e-13)


def test_laws():
    a = points()
    x, v, w = a["x"], a["v"], a["w"]
    assert MINE.check_vector_on_tangent(x, v)
    np.testing.assert_allclose(MINE.proju(x, v), v, atol=1e-13)
    # geoopt's is not the identity on tangent vectors.
    assert np.abs(THEIRS.proju(torch.tensor(x), torch.tensor(v)).numpy() - v).max() > 0.1
    # What is taken away is orthogonal to the tangent space, and egrad2rgrad is the gradient up to inner's mean.
    # Row sums of x are 1 up to the 1e-12 that Sinkhorn adds to them.
    np.testing.assert_allclose(MINE.inner(x, w - MINE.proju(x, w), v), 0, atol=1e-9)
    np.testing.assert_allclose(4 * MINE.inner(x, MINE.egrad2rgrad(x, w), v), np.sum(w * v, (-2, -1)), rtol=1e-9, atol=1e-9)
    tight = BirkhoffPolytope(max_iter=500, tol=1e-15)
    np.testing.assert_allclose(tight.projx(x), x, rtol=1e-10)
    start = jax.jvp(lambda t: tight.retr(x, t * v), (0.0,), (1.0,))[1]
    np.testing.assert_allclose(start, v, atol=1e-8)
    assert MINE.check_point_on_manifold(MINE.random(draws.key(1), 7, 5, 5))
    np.testing.assert_array_equal(MINE.origin(2, 3, 3)[0], np.eye(3))


def steps(longest: float, dtype: type, size: Callable[[jax.Array], jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Points and tangents of which the largest `size` of an exponent u / x is this."""
    x = jnp.asarray(points()["x"], dtype)
    u = MINE.proju(x, jnp.asarray(RNG.standard_normal(x.shape), dtype))
    return x, u * longest / jnp.max(size(u / x), (-2, -1), keepdims=True)


@pytest.mark.parametrize(("longest", "dtype"), [(40, np.float32), (80, np.float32), (80, np.float64), (600, np.float64)])
def test_long_steps_are_those_of_geoopt(longest: float, dtype: type):
    """As long as exp(u/x) neither overflows nor vanishes in the type; geoopt's in float64 of the same matrices."""
    x, u = steps(longest, dtype, jnp.abs)
    theirs = THEIRS.retr(*(torch.tensor(np.asarray(a, np.float64)) for a in (x, u)))
    # An exponent's rounding, eps times 80 or 600, is a relative error of its entry, and Sinkhorn's iteration does not enlarge it.
    np.testing.assert_allclose(MINE.retr(x, u), theirs, rtol=0, atol=20 * longest * float(jnp.finfo(dtype).eps))


@pytest.mark.parametrize(("longest", "dtype"), slow.all_but({(300, np.float32)}, [(300, np.float32), (2000, np.float64)]))
def test_longer_steps_stay_finite(longest: float, dtype: type):
    """exp(u/x) overflows in geoopt. Far beyond, Sinkhorn's 1e-12 outweighs whole rows and columns, as it does in geoopt before."""
    x, u = steps(longest, dtype, jnp.asarray)
    assert torch.isnan(THEIRS.retr(torch.tensor(np.asarray(x)), torch.tensor(np.asarray(u)))).any()
    assert np.isfinite(MINE.retr(x, u)).all()
    assert np.isfinite(jax.grad(lambda u: MINE.retr(x, u)[0, 0, 1])(u)).all()
    assert np.isfinite(jax.grad(lambda u: MINE.retr(x, u)[0, 0, 1])(jnp.zeros_like(u))).all()


def test_bad_input():
    with pytest.raises(ValueError, match="max_iter is 0; it has to be 1 or more"):
        BirkhoffPolytope(max_iter=0)
    assert "last two axes" in MINE.check_point(np.ones((2, 3)), explain=True)[1]
    assert "a row of x sums to 2" in MINE.check_point_on_manifold(np.ones((2, 2)), explain=True)[1]
    assert "of u sums to" in MINE.check_vector_on_tangent(np.full((2, 2), 0.5), np.ones((2, 2)), explain=True)[1]
