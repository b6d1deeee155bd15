"""The samplers against closed forms and, where geoopt samples the same law, against geoopt's chains."""

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch

from parity_tests import draws, slow
from parity_tests.tolerances import CHANCE, DEVIATIONS
from port_jax.manifolds import (
    Euclidean,
    PoincareBall,
    PoincareBallExact,
    ProductManifold,
    Scaled,
    SphereProjectionExact,
    StereographicExact,
)
from port_jax.manifolds.stiefel import CanonicalStiefel
from port_jax.samplers import Sampler, rhmc, rsgld, sample, sgrhmc
from port_jax.samplers.chain import Info

SCALE = jnp.array([0.7, 1.6])  # standard deviations of the Gaussian target
CHAINS, SIGMA = 300, 0.8
MAKE = {
    "rsgld": lambda f, m: rsgld(f, 0.05, manifolds=m),
    "rhmc": lambda f, m: rhmc(f, 0.2, 8, manifolds=m),
    "sgrhmc": lambda f, m: sgrhmc(f, 0.01, 12, 0.1, manifolds=m),
}


def gaussian(x):
    return -jnp.sum((x / SCALE) ** 2) / 2


def chains(sampler, start, num_samples, burn_in, thin=1, seed=0):
    keys = jax.random.split(draws.key(seed), CHAINS)
    return jax.jit(jax.vmap(lambda k: sample(sampler, k, start, num_samples, burn_in, thin)))(keys)


def assert_mean(samples, expected):
    """Within DEVIATIONS standard errors, one number a chain so that they are independent."""
    error = samples.std(0, ddof=1) / np.sqrt(len(samples))
    assert np.all(np.abs(samples.mean(0) - expected) < DEVIATIONS * error), (samples.mean(0), expected, error)
    assert np.all(error < 0.04 * np.abs(expected))


def test_langevin_on_a_gaussian_has_the_variance_of_its_recursion():
    """x <- (1 - eps / 2 s^2) x + sqrt(eps) n has the stationary variance eps / (1 - (1 - eps / 2 s^2)^2)."""
    epsilon = 0.3
    found = chains(rsgld(gaussian, epsilon, manifolds=Euclidean()), jnp.zeros(2), 200, 50).params
    expected = epsilon / (1 - (1 - epsilon / (2 * SCALE**2)) ** 2)
    assert_mean(np.mean(found**2, axis=1), np.asarray(expected))


def test_langevin_with_friction_on_a_gaussian_has_the_variance_of_its_recursion():
    """(x, v) <- A (x, v) + noise n_steps + 1 times from v = sqrt(eps) n: the covariance of x that this brings back."""
    epsilon, n_steps, alpha = 0.3, 3, 0.2
    found = chains(sgrhmc(gaussian, epsilon, n_steps, alpha, manifolds=Euclidean()), jnp.zeros(2), 200, 20).params

    def stationary(scale):
        pull = epsilon / scale**2
        step, square = np.array([[1.0, 1.0], [-pull, 1 - alpha - pull]]), 1.0
        for _ in range(200):
            covariance = np.diag([square, epsilon])
            for _ in range(n_steps + 1):
                covariance = step @ covariance @ step.T + np.diag([0, 2 * alpha * epsilon])
            square = covariance[0, 0]
        return square

    assert_mean(np.mean(found**2, axis=1), np.array([stationary(float(s)) for s in SCALE]))


def test_hamiltonian_on_a_gaussian_has_its_moments_at_a_coarse_step():
    """The Metropolis test takes the error of the step out, at a step where the others are far off."""
    found = chains(rhmc(gaussian, 0.9, 3, manifolds=Euclidean()), jnp.zeros(2), 200, 30)
    assert 0.5 < found.info.acceptance.mean() < 0.97
    assert np.mean(found.info.accepted) == pytest.approx(float(found.info.acceptance.mean()), abs=0.01)
    assert_mean(np.mean(found.params**2, axis=1), np.asarray(SCALE**2))
    np.testing.assert_allclose(found.info.log_prob, jax.vmap(jax.vmap(gaussian))(found.params), rtol=1e-9, atol=1e-12)


def radial(k):
    """E[d^2] for the density exp(-d^2 / 2 sigma^2) by area on a plane of curvature k, d the distance to the origin."""
    root = np.sqrt(abs(k))
    area = np.sinh if k < 0 else np.sin
    limit = 12.0 if k < 0 else np.pi / root

    def moment(n):
        return scipy.integrate.quad(lambda r: r**n * area(root * r) * np.exp(-(r**2) / (2 * SIGMA**2)), 0, limit)[0]

    return moment(2) / moment(0)


BALL, SPHERE = PoincareBallExact(1.7), SphereProjectionExact(0.6)


PLANES = [pytest.param(name, BALL, id=f"{name}-ball") for name in MAKE] + [pytest.param("rhmc", SPHERE, id="rhmc-sphere")]


@pytest.mark.parametrize(("name", "manifold"), slow.all_but([PLANES[0]], PLANES))
def test_law_on_a_curved_plane(name, manifold):
    """The area grows as sinh or sin: a sampler that takes coordinates for the metric has another mean."""
    origin = jnp.zeros(2)

    def log_prob(x):
        return -manifold.dist2(origin, x) / (2 * SIGMA**2)

    found = chains(MAKE[name](log_prob, manifold), jnp.array([0.1, -0.2]), 50, 20, {"rsgld": 10}.get(name, 1))
    square = np.asarray(jax.jit(lambda x: manifold.dist2(origin, x))(found.params))
    expected = radial(-1.7 if manifold is BALL else 0.6)
    # the uncorrected ones are biased to the order of their step
    room = 0.0 if name == "rhmc" else 0.04 * expected
    mean, error = square.mean(), square.mean(1).std(ddof=1) / np.sqrt(CHAINS)
    assert abs(mean - expected) < DEVIATIONS * error + room, (mean, expected, error)
    assert error < 0.03 * expected


@pytest.mark.slow  # test_law_on_a_curved_plane has the ball alone
@pytest.mark.parametrize("name", MAKE)
def test_law_on_products_and_scaled_manifolds(name):
    """A ball and a plane side by side, each with its own law; a ball seen from 1.5 times as far has 1/1.5^2 of the curvature."""
    pair = ProductManifold((StereographicExact(-1.7), 2), (Euclidean(1), 2))
    far = Scaled(PoincareBallExact(1.7), 1.5)
    start = {"pair": jnp.array([0.1, -0.2, 0.3, 0.0]), "far": jnp.array([0.1, -0.2])}

    def squares(p):
        ball, flat = pair.unpack_tensor(p["pair"])
        origin = jnp.zeros(2)
        return jnp.stack([BALL.dist2(origin, ball), jnp.sum(flat**2), far.dist2(origin, p["far"])])

    sampler = MAKE[name](lambda p: -jnp.sum(squares(p)) / (2 * SIGMA**2), {"pair": pair, "far": far})
    found = chains(sampler, start, 50, 20, {"rsgld": 10}.get(name, 1))
    square = np.asarray(jax.jit(jax.vmap(jax.vmap(squares)))(found.params)).mean(1)
    expected = np.array([radial(-1.7), 2 * SIGMA**2, radial(-1.7 / 1.5**2)])
    mean, error = square.mean(0), square.std(0, ddof=1) / np.sqrt(CHAINS)
    room = 0.0 if name == "rhmc" else 0.04 * expected
    assert np.all(np.abs(mean - expected) < DEVIATIONS * error + room), (mean, expected, error)
    assert np.all(error < 0.03 * expected)


def test_geoopt_on_the_ball_has_another_law():
    """geoopt's noise is egrad2rgrad of ambient noise: E[d^2] is off by more than a third where ours is within 4 %."""
    draws.seed_torch(0)
    ball = geoopt.PoincareBallExact(torch.tensor(1.7, dtype=torch.float64))
    points = geoopt.ManifoldParameter(torch.full((1500, 2), 0.1, dtype=torch.float64), manifold=ball)
    sampler = geoopt.samplers.RSGLD([points], epsilon=0.05)
    means = []
    for step in range(250):
        sampler.step(lambda: -(ball.dist0(points) ** 2).sum() / (2 * SIGMA**2))
        if step >= 100:
            means.append(float((ball.dist0(points) ** 2).mean().detach()))
    assert abs(np.mean(means) / radial(-1.7) - 1) > 0.3


@pytest.mark.parametrize("name", slow.all_but({"rhmc"}, ["rsgld", "rhmc"]))
def test_frames_stay_orthonormal_and_uniform(name):
    """Without a density the law is uniform: E[x] = 0, E[x^2] = 1/5, and E[(x^T e)^4] = 3 / (5 * 7) on columns."""
    start = jnp.eye(5, 2)
    sampler = MAKE[name](lambda x: 0.0 * jnp.sum(x), CanonicalStiefel())
    found = np.asarray(chains(sampler, start, 20, 20, 5 if name == "rsgld" else 2).params)
    gram = np.einsum("csij,csik->csjk", found, found)
    assert np.abs(gram - np.eye(2)).max() < 1e-10
    assert_mean(np.mean(found**2, axis=1).reshape(CHAINS, -1), np.full(10, 1 / 5))
    fourth = np.mean(found**4, axis=(1, 2, 3))
    assert abs(fourth.mean() - 3 / 35) < DEVIATIONS * fourth.std() / np.sqrt(CHAINS)


GEOOPT = {
    "rsgld": lambda p: geoopt.samplers.RSGLD(p, epsilon=0.05),
    "rhmc": lambda p: geoopt.samplers.RHMC(p, epsilon=0.02, n_steps=40),
    "sgrhmc": lambda p: geoopt.samplers.SGRHMC(p, epsilon=0.01, n_steps=40, alpha=0.1),
}
# Steps after which the start is forgotten: over seeds the p-values of one-sample tests are spread evenly. After half as many those of
# rsgld and of rhmc, whose proposals are refused for all coordinates together, are up to 0.05 away.
SAME = {
    "rsgld": (lambda f: rsgld(f, 0.05, manifolds=Euclidean()), 300),
    "rhmc": (lambda f: rhmc(f, 0.02, 40, manifolds=Euclidean()), 30),
    "sgrhmc": (lambda f: sgrhmc(f, 0.01, 40, 0.1, manifolds=Euclidean()), 12),
}


@pytest.mark.parametrize("name", SAME)
def test_two_samples_ours_and_geoopts_are_of_one_law(name):
    """4,000 independent coordinates of one chain each, a skewed target: log density of a Gumbel variable."""
    count, (make, steps) = 4000, SAME[name]
    draws.seed_torch(1)
    theirs = torch.nn.Parameter(torch.zeros(count, dtype=torch.float64))
    reference = GEOOPT[name]([theirs])
    for _ in range(steps):
        reference.step(lambda: -(theirs + torch.exp(-theirs)).sum())
    ours = sample(make(lambda x: -jnp.sum(x + jnp.exp(-x))), draws.key(5), jnp.zeros(count), 1, steps - 1).params[0]
    theirs = theirs.detach().numpy()
    assert scipy.stats.ks_2samp(ours, theirs).pvalue > CHANCE
    assert scipy.stats.kstest(ours, scipy.stats.gumbel_r.cdf).pvalue > CHANCE
    # the test sees a law that is half as wide again: 0.108 apart, where CHANCE begins at 0.060
    assert scipy.stats.ks_2samp(1.5 * ours, theirs).pvalue < CHANCE


def test_hamiltonian_steps_have_their_size_and_number():
    """On a Gaussian leapfrog turns (x, r) by an angle with cos = 1 - eps^2 / (2 s^2): half a turn takes x to -x, whatever r is drawn.

    No law tells: the Metropolis test gives the same one for any step.
    """
    n, s = 7, 1.3
    epsilon = s * (2 * (1 - np.cos(np.pi / n))) ** 0.5
    sampler = rhmc(lambda x: -jnp.sum((x / s) ** 2) / 2, epsilon, n, manifolds=Euclidean())
    start = jnp.array([0.3, -1.1, 2.0])
    after, info = sampler.step(draws.key(2), start)
    np.testing.assert_allclose(after, -start, atol=1e-13)
    np.testing.assert_allclose(info.acceptance, 1, atol=1e-13)


def test_a_proposal_of_infinite_energy_is_rejected():
    sampler = rhmc(lambda x: jnp.where(jnp.sum(x) < 10, jnp.sum(x) * 1e200, jnp.nan), 1.0, 5, manifolds=Euclidean())
    after, info = sampler.step(draws.key(0), jnp.zeros(3))
    np.testing.assert_array_equal(after, np.zeros(3))
    assert not info.accepted
    assert info.acceptance == 0


def test_keys_decide_everything():
    sampler = sgrhmc(gaussian, 0.1, manifolds=Euclidean())
    runs = [sample(sampler, draws.key(n), jnp.ones(2), 4).params for n in (3, 3, 4)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


def test_burn_in_is_dropped_and_every_thin_th_step_kept():
    """By a sampler whose parameter is the number of its steps."""
    info = Info(jnp.zeros([]), jnp.ones([]), jnp.array(True))
    chain = sample(Sampler(lambda key, n: (n + 1, info)), draws.key(0), jnp.array(0), 3, burn_in=4, thin=2)
    assert chain.params.tolist() == [6, 8, 10]


@pytest.mark.parametrize("make", MAKE.values())
def test_a_manifold_without_reversible_retraction_is_refused(make):
    sampler = make(lambda p: jnp.sum(p["x"]), {"x": PoincareBall(1.0)})
    with pytest.raises(ValueError, match=r"parameter x is on PoincareBall, .* PoincareBallExact"):
        sampler.step(draws.key(0), {"x": jnp.zeros(2)})
