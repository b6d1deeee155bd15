"""Random numbers that one key leads to are independent of each other: of factors, parameters, steps and observations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parity_tests import draws, slow
from parity_tests.tolerances import DEVIATIONS
from port_jax.data.stereographic_tree import StereographicTreeDataset
from port_jax.manifolds import Euclidean, PoincareBall, PoincareBallExact, ProductManifold, Scaled, Sphere, StereographicProductManifold
from port_jax.samplers import rhmc, rsgld, sample, sgrhmc
from port_jax.samplers.chain import Info, Sampler

N = 2000
BALL = PoincareBall(0.7)


def uncorrelated(*parts: Any) -> None:
    """Each column of a part with each of every other one: correlations of N independent pairs are 1 / sqrt(N) in size."""
    columns = [np.asarray(part, np.float64).reshape(len(part), -1) for part in parts]
    for i, one in enumerate(columns):
        for other in columns[:i]:
            found = np.corrcoef(one.T, other.T)[: one.shape[1], one.shape[1] :]
            assert np.abs(found).max() < DEVIATIONS / len(one) ** 0.5, found


PRODUCTS: dict[str, tuple[Any, Callable[[Any, Any], Any]]] = {
    "random": (ProductManifold((Euclidean(1), 2), (Euclidean(1), 2), (Sphere(), 2)), lambda m, key: m.random(key, N, 6)),
    "random_combined": (ProductManifold((BALL, 2), (BALL, 2)), lambda m, key: m.random_combined(key, N, 4)),
    "stereographic": (StereographicProductManifold((BALL, 2), (BALL, 2)), lambda m, key: m.random(key, N, 4)),
    "wrapped_normal": (
        StereographicProductManifold((BALL, 2), (BALL, 2), (BALL, 2)),
        lambda m, key: m.wrapped_normal(key, N, 6, mean=jnp.tile(jnp.asarray([0.3, -0.2]), 3), std=0.4),
    ),
    "scaled": (Scaled(ProductManifold((BALL, 2), (BALL, 2)), 2.5), lambda m, key: m.random(key, N, 4)),
}


@pytest.mark.parametrize("name", slow.all_but({"random", "wrapped_normal"}, PRODUCTS))
def test_factors_of_a_product(name: str):
    manifold, draw = PRODUCTS[name]
    uncorrelated(*manifold.unpack_tensor(draw(manifold, draws.key(0))))


SAMPLERS = {
    "rsgld": lambda f, m: rsgld(f, 0.05, manifolds=m),
    "rhmc": lambda f, m: rhmc(f, 0.2, 2, manifolds=m),
    "sgrhmc": lambda f, m: sgrhmc(f, 0.01, 2, 0.1, manifolds=m),
}


@pytest.mark.parametrize("name", slow.all_but({"rsgld"}, SAMPLERS))
def test_parameters_and_steps_of_a_chain(name: str):
    """Of a density that has them independent: two parameters, and where the chain goes from one step to the next."""
    start = {"a": jnp.zeros(2), "b": jnp.zeros(2)}
    sampler = SAMPLERS[name](lambda p: -sum(jnp.sum(x**2) for x in p.values()) / 2, PoincareBallExact(0.7))
    keys = jax.random.split(draws.key(1), N)
    found = jax.jit(jax.vmap(lambda k: sample(sampler, k, start, 2).params))(keys)
    uncorrelated(found["a"][:, 0], found["b"][:, 0], found["b"][:, 1] - found["b"][:, 0])


def test_acceptance_is_independent_of_the_velocity():
    """rhmc on a flat line with a long step, where both decide: which chains move does not follow from the sign of the velocity."""
    sampler = rhmc(lambda x: -jnp.sum(x**2) / 2, 1.7, 1, manifolds=Euclidean())
    keys = jax.random.split(draws.key(2), N)
    start = jnp.asarray([1.0])
    points, info = jax.jit(jax.vmap(lambda k: sampler.step(k, start)))(keys)
    # The rule accepts where a uniform number is below min(1, exp(-dH)): on average as often as that says.
    probability = np.asarray(info.acceptance, np.float64)
    moved = np.asarray(points[:, 0] != 1.0, np.float64)
    assert 0.1 < probability.mean() < 0.95
    residual = moved - probability
    size = np.sqrt(np.sum(probability * (1 - probability)))
    assert abs(residual.sum()) < DEVIATIONS * size
    assert abs(np.sum(residual * np.sign(probability - np.median(probability)))) < DEVIATIONS * size


@pytest.mark.slow  # as the factors of a product
def test_observations_of_a_tree():
    """Of each node beside those of others, with the deviation that is asked for."""
    siblings, ball = 500, PoincareBall(1.0)
    tree = StereographicTreeDataset(draws.key(3), ball, 3, 2, 2, 0.6, 0.3, siblings)
    offsets = np.asarray(ball.logmap0(tree.data)).reshape(len(tree.origin_data), siblings, 3) - np.asarray(tree.origin_data)[:, None]
    # sigma_sibling is a variance, that of the three coordinates together, as ball.random has it.
    assert abs(offsets.std() / (0.3 / 3) ** 0.5 - 1) < DEVIATIONS / (2 * offsets.size) ** 0.5
    uncorrelated(*offsets[:4])


@pytest.mark.slow  # as the observations of a tree
def test_levels_of_a_tree():
    """The directions in which nodes lie from their parents, and the offsets of their observations."""
    children, ball = 120, PoincareBall(1.0)
    tree = StereographicTreeDataset(draws.key(4), ball, 4, 2, children, 0.6, 0.3)
    first, second = tree.origin_data[1 : 1 + children], tree.origin_data[1 + children : 1 + 2 * children]
    offsets = ball.logmap0(tree.data) - tree.origin_data
    uncorrelated(first, ball.mobius_add(-first[0], second), offsets[1 : 1 + children])
    uncorrelated(first, offsets[:children])


def test_kept_samples_are_those_after_the_burn_in_and_every_thin_one():
    """Of a chain that counts, and adds what its keys give: no key is used twice."""

    def step(key: Any, params: Any) -> tuple[Any, Info]:
        number = jax.random.uniform(key, (), jnp.float64)
        return (params[0] + 1, params[1] + number), Info(number, number, number > 2)

    counts, sums = sample(Sampler(step), draws.key(5), (jnp.zeros(()), jnp.zeros((), jnp.float64)), 50, 7, 3).params
    np.testing.assert_array_equal(counts, 7 + 3 * np.arange(1, 51))
    ones = sample(Sampler(step), draws.key(5), (jnp.zeros(()), jnp.zeros((), jnp.float64)), 57)
    assert len(np.unique(ones.info.log_prob)) == 57
    # Three independent uniform numbers have the variance 3 / 12; one that is used three times has 9 / 12.
    assert np.var(np.diff(sums)) < 0.5
