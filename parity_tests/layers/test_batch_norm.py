"""Batch normalisation: against the originals in training and evaluation, and the formulas at 50 digits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from mpmath import mpf, sqrt, workdps

from parity_tests import draws, slow
from parity_tests.layers.twins import CHECKS, NUMBER, RADIUS, Twin, check_values_and_gradients, named
from parity_tests.oracle import lorentz, stereographic
from parity_tests.oracle.networks import exactly, mixed
from parity_tests.tolerances import gate, relative_error
from port_jax.layers import BatchNorm, LorentzBatchNorm, MidpointBatchNorm
from port_jax.manifolds import Lorentz, PoincareBall
from reference_torch.layers import batch_norm as theirs
from reference_torch.layers.tangent import from_tangent0

MEAN, VAR = np.array([0.2, -0.1, 0.3]), 0.8
"""Running statistics at the start: tangent coordinates at the origin, and a spread."""


def ours(layer, params, m, points, *, evaluate=False):
    start, var = jnp.asarray(MEAN, points[0].dtype), jnp.asarray(VAR, points[0].dtype)
    stats = (
        {"mean": jax.lax.stop_gradient(m.from_tangent0(start)), "var": var}
        if isinstance(layer, MidpointBatchNorm)
        else {"mean": start, "var": var[None]}
    )
    variables = {"params": params, "batch_stats": stats}
    if evaluate:
        return layer.apply(variables, m, *points, use_running_average=True)
    y, new = layer.apply(variables, m, *points, use_running_average=False, mutable=["batch_stats"])
    return y, *map(jax.lax.stop_gradient, (new["batch_stats"]["mean"], new["batch_stats"]["var"]))


def original(module, params, m, points, *, evaluate=False):
    start = torch.tensor(MEAN, dtype=points[0].dtype)
    placed = from_tangent0(m, start) if isinstance(module, theirs.MidpointBatchNorm) else start
    with torch.no_grad():
        module.mean.copy_(placed)
        module.var.fill_(VAR)
    module.train(not evaluate)
    y = torch.func.functional_call(module, params, (m, *points))
    return y if evaluate else (y, module.mean, module.var)


def evaluated(layer, params, m, points):
    return ours(layer, params, m, points, evaluate=True)


def original_evaluated(module, params, m, points):
    return original(module, params, m, points, evaluate=True)


MIDPOINT = (MidpointBatchNorm(), lambda m: theirs.MidpointBatchNorm(m, 3), ((6, 3),), {"weight": "weight", "bias": "bias"})
CENTROID = (LorentzBatchNorm(), lambda m: theirs.LorentzBatchNorm(m, 3), ((2, 3, 3),), {"beta": "beta", "gamma": "gamma"}, ("beta",))
TWINS = (
    Twin("midpoint, training", "ball", *MIDPOINT, (), ours, original, positive=("weight",)),
    Twin("midpoint, training", "hyperboloid", *MIDPOINT, (), ours, original, positive=("weight",)),
    Twin("lorentz, training", "hyperboloid", *CENTROID, ours, original),
    Twin("midpoint, evaluation", "ball", *MIDPOINT, (), evaluated, original_evaluated, positive=("weight",)),
    Twin("lorentz, evaluation", "hyperboloid", *CENTROID, evaluated, original_evaluated),
)


TABLE = [(check, twin) for twin in TWINS for check in CHECKS]


@pytest.mark.parametrize(("check", "twin"), slow.all_but({(check_values_and_gradients, TWINS[0])}, TABLE), ids=named)
def test_the_original(check, twin):
    check(twin)


def centroid(rows, k):
    total = mixed([mpf(1)] * len(rows), rows)
    return [sqrt(k) * a / sqrt(-lorentz.inner(total, total)) for a in total]


def test_midpoint_form_at_50_digits():
    with workdps(50):
        raw = TWINS[0].raw(5)
        have, raw = TWINS[0].value(raw)[:2], exactly(raw)
        k, params = -raw["number"].item(), raw["params"]
        xs = [stereographic.expmap0(list(u), k) for u in raw["points"][0]]
        mean = stereographic.weighted_midpoint(xs, [mpf(1)] * len(xs), k)
        var = sum(stereographic.dist(mean, x, k) ** 2 for x in xs) / len(xs)
        goal = stereographic.expmap0(list(params["bias"]), k)
        scale = sqrt(params["weight"].item() / (var + mpf(1) / 10**6))
        want = []
        for x in xs[:2]:
            u = stereographic.transp(mean, goal, stereographic.logmap(mean, x, k), k)
            want.append(stereographic.expmap(goal, stereographic.times(scale, u), k))
        assert relative_error(have, np.array(want, float)) < gate(RADIUS, 0)


@pytest.mark.slow
def test_lorentz_form_at_50_digits():
    """The first image's pixels; by their space parts."""
    with workdps(50):
        raw = TWINS[2].raw(5)
        have, raw = TWINS[2].value(raw)[0], exactly(raw)
        k, params = raw["number"].item(), raw["params"]
        images = [[lorentz.expmap0(list(u), k) for u in image] for image in raw["points"][0]]
        mean = centroid([centroid(image, k) for image in images], k)[1:]
        pixels = [x[1:] for image in images for x in image]
        var = sum(lorentz.dist(mean, x, k) for x in pixels) / len(pixels)
        beta = lorentz.expmap0(list(params["beta"]), k)[1:]
        want = []
        for x in pixels[:3]:
            u = lorentz.transp0back(mean, lorentz.logmap(mean, x, k)[1:], k)[1:]
            u = stereographic.times(params["gamma"].item() / (var + mpf(1) / 10**5), u)
            want.append(lorentz.expmap(beta, lorentz.transp0(beta, u, k)[1:], k))
        assert relative_error(have, np.array(want, float)) < gate(RADIUS, 0)


@pytest.mark.parametrize(
    ("layer", "manifold"), [(MidpointBatchNorm(0.5), PoincareBall(0.7)), (LorentzBatchNorm(0.5), Lorentz(NUMBER["hyperboloid"]))]
)
def test_running_statistics_reach_those_of_the_batch(layer, manifold):
    """After 40 halvings they are those of the one batch, and evaluation gives what training gives."""
    x = jax.jit(manifold.from_tangent0)(0.5 * draws.rng(8).normal(size=(6, 3)))
    variables = jax.jit(lambda k, x: layer.init(k, manifold, x))(draws.key(0), x)

    @jax.jit
    def train(variables):
        y, new = layer.apply(variables, manifold, x, use_running_average=False, mutable=["batch_stats"])
        return {**variables, **new}, y

    for _ in range(40):
        variables, y = train(variables)
    np.testing.assert_allclose(jax.jit(lambda v: layer.apply(v, manifold, x))(variables), y, rtol=0, atol=1e-6)


def test_torchs_running_variance():
    """Of an image's batch, of the positions that a mask leaves, and refused where there is one number of each channel, as in torch."""
    x = draws.rng(9).normal(size=(3, 4, 2))
    norm, variables = BatchNorm(), {"batch_stats": {"mean": np.zeros(2), "var": np.full(2, 0.3)}}
    variables["params"] = {"scale": np.ones(2), "bias": np.zeros(2)}
    train = jax.jit(lambda x, mask: norm.apply(variables, x, False, mask=mask, mutable=["batch_stats"])[1]["batch_stats"]["var"])
    original = torch.nn.BatchNorm1d(2).double()
    for rows in (x, x[:2]):
        original.running_var.fill_(0.3)
        original(torch.tensor(rows).mT)
        mask = np.broadcast_to(np.arange(3)[:, None, None] < len(rows), x.shape)
        np.testing.assert_allclose(train(x, mask), original.running_var, rtol=1e-12)
    original.running_var.fill_(0.3)
    original(torch.tensor(x).mT)
    np.testing.assert_allclose(train(x, None), original.running_var, rtol=1e-12)
    with pytest.raises(ValueError, match=r"shape \(1, 2\), one number per channel; pass a batch"):
        norm.apply(variables, x[0, :1], False, mutable=["batch_stats"])
