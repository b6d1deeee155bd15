"""weight_average: torch's AveragedModel on flat parameters, the Karcher mean on a ball."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parity_tests import draws, slow
from port_jax.manifolds import Euclidean, Lorentz, PoincareBall
from port_jax.optim.weight_average import weight_average
from reference_torch.optim.weight_average import averaged

RNG = draws.stream(4)
RUN = RNG.normal(size=(9, 3, 2))


@pytest.mark.parametrize("decay", [None, 0.7])
def test_flat_parameters_average_as_in_torch(decay):
    tx = weight_average(decay, manifolds=Euclidean())
    state, update = tx.init(jnp.zeros((3, 2))), jax.jit(tx.update)
    for weights in RUN:
        state = update(jnp.asarray(weights), state)
    np.testing.assert_allclose(state.average, averaged(RUN, decay), rtol=1e-13)
    assert update._cache_size() <= 1  # 0 where a long process has given it up


@pytest.mark.parametrize("c", slow.all_but({1.9}, [0.4, 1.9]))
def test_points_average_along_geodesics(c):
    """Two points of equal weight meet in their midpoint; on one geodesic the average is that of the line."""
    ball = PoincareBall(c)
    exp0, dist = jax.jit(ball.expmap0), jax.jit(ball.dist)
    x, y = (exp0(RNG.normal(size=(6, 3))) for _ in range(2))
    tx = weight_average(manifolds=ball)
    middle = jax.jit(lambda x, y: tx.update(y, tx.update(x, tx.init(x))).average)(x, y)
    np.testing.assert_allclose(dist(x, middle), dist(y, middle), rtol=1e-9)
    np.testing.assert_allclose(dist(x, middle) * 2, dist(x, y), rtol=1e-9)
    direction, times = jnp.array([0.6, 0.0, 0.8]), RNG.normal(size=7)
    state, line = tx.init(x[0]), 0.0
    tx = weight_average(0.6, manifolds=ball)
    update = jax.jit(tx.update)
    for n, t in enumerate(times):
        state = update(exp0(t * direction), state)
        line = t if n == 0 else line + 0.4 * (t - line)
    np.testing.assert_allclose(state.average, exp0(line * direction), rtol=1e-9)


def test_the_average_stays_on_the_hyperboloid_where_that_of_coordinates_does_not():
    space = Lorentz(1.7)
    points = jax.jit(space.expmap0)(jnp.concatenate([jnp.zeros((40, 5, 1)), jnp.asarray(RNG.normal(size=(40, 5, 3)))], -1))
    tx = weight_average(0.9, manifolds=space)
    state, _ = jax.jit(lambda points: jax.lax.scan(lambda s, p: (tx.update(p, s), None), tx.init(points[0]), points))(points)

    def off(x):
        return np.abs(x[..., 0] ** 2 - (x[..., 1:] ** 2).sum(-1) - 1.7).max()

    assert off(state.average) < 1e-12
    assert off(points.mean(0)) > 0.1


def test_a_wrong_decay_is_refused():
    with pytest.raises(ValueError, match="decay is 1"):
        weight_average(1.5, manifolds=Euclidean())
