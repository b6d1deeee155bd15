"""Heads of hyperbolic image embeddings: fixed and trained c, a trained point, the scaled gradient, a backbone that is
carried."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import torch

from parity_tests import draws
from parity_tests.models.cases_hyptorch import CLASSES, CONFIGS, DIM, X, module_of, ours, theirs
from parity_tests.models.conversion import check_parity, check_round_trip, converted
from parity_tests.oracle import stereographic as ball
from parity_tests.oracle.networks import exactly
from port_jax.models.hyptorch import HypTorch as Ours
from weights.errors import ConversionError


@pytest.mark.parametrize("name", CONFIGS)
def test_forward_and_gradients(name: str, tmp_path):
    module = module_of(name)
    ckpt = converted(module, {"c": 0.6}, tmp_path, wrap=lambda state: {"params": dict(state)})
    assert ckpt.arch == "hyptorch"
    # A row lies at the margin, (1 - 1e-3) of the radius.
    check_parity(module, ckpt, theirs, ours, radius=0.999, single=name == "trained", amplified=1 / (1 - 0.999**2))
    check_round_trip(ckpt, tmp_path)


def test_gradient_into_the_features_is_scaled_by_the_metric(tmp_path):
    module = module_of("fixed")
    ckpt = converted(module, {"c": 0.6}, tmp_path)
    x = torch.as_tensor(X).requires_grad_()
    cot = draws.rng(1).normal(size=(len(X), CLASSES))
    (module(x) * torch.as_tensor(cot)).sum().backward()
    plain = Ours(DIM, CLASSES, 0.6, riemannian=False)

    def pulled(model):
        return jax.grad(lambda x: (model.apply(ckpt.variables, x) * cot).sum())(jnp.asarray(X))

    grad, other = jax.jit(lambda: (pulled(ckpt.model), pulled(plain)))()
    np.testing.assert_allclose(grad, x.grad.numpy(), rtol=0, atol=1e-10 * float(x.grad.abs().max()))
    assert np.abs(np.asarray(other - grad)).max() > 0.1 * np.abs(np.asarray(grad)).max()


def test_the_backbone_is_carried_verbatim(tmp_path):
    module = module_of("fixed")
    backbone = torch.nn.Sequential(torch.nn.Linear(7, DIM), torch.nn.BatchNorm1d(DIM))
    ckpt = converted(module, {"c": 0.6}, tmp_path, wrap=lambda s: {"params": {**dict(s), **backbone.state_dict(prefix="encoder.")}})
    assert np.array_equal(ckpt.constants["encoder.0.weight"], backbone[0].weight.detach().numpy())
    check_round_trip(ckpt, tmp_path)


def test_a_fixed_c_has_to_be_given(tmp_path):
    with pytest.raises(ConversionError, match="curvature"):
        converted(module_of("fixed"), None, tmp_path)
    assert converted(module_of("fixed"), None, tmp_path, curvature=0.6).model.c == 0.6


def paper_head(config: str, p: Mapping[str, Any], x: Sequence, c: Any) -> list:
    """exp_p(x), cut at the radius (1 - 1e-3) / sqrt(c), where p is exp_0(xp) or the origin.

    exp_p(x) = p (+) tanh(sqrt(c) lambda_p |x| / 2) x / (sqrt(c) |x|), lambda_p = 2 / (1 - c |p|^2) (arXiv 1904.02239, section 3).
    """

    def cut(y: Sequence) -> list:
        length, most = mpmath.sqrt(ball.dot(y, y)), (1 - mpmath.mpf("1e-3")) / mpmath.sqrt(c)
        return ball.times(most / length, y) if length > most else list(y)

    if config == "fixed":
        return cut(ball.expmap0(x, -c))
    at = cut(ball.expmap0(p["xp"], -c))
    return cut(paper_add(at, ball.expmap0(ball.times(ball.lambda_x(at, -c) / 2, x), -c), c))


def paper_add(x: Sequence, y: Sequence, c: Any) -> list:
    """x (+) y with 1e-5 more in the denominator, as the authors' code has it: with D the denominator without, D / (D + 1e-5) of the sum."""
    below = 1 + 2 * c * ball.dot(x, y) + c**2 * ball.dot(x, x) * ball.dot(y, y)
    return ball.times(below / (below + mpmath.mpf("1e-5")), ball.mobius_add(x, y, -c))


def paper_logits(p: Mapping[str, Any], h: Sequence, c: Any) -> list:
    """lambda_p |a'| / sqrt(c) arsinh(2 sqrt(c) <z, a'> / ((1 - c |z|^2) |a'|)), z = -p (+) h (Ganea et al. 2018, section 3.1).

    The parameters are tangent vectors at the origin: p = exp_0(p_vals), and a' = (1 - c |p|^2) a_vals.
    """
    logits = []
    for a, q in zip(p["a_vals"], p["p_vals"], strict=True):
        at = ball.expmap0(q, -c)
        normal = ball.times(1 - c * ball.dot(at, at), a)
        z, length = paper_add(ball.times(-1, at), h, c), mpmath.sqrt(ball.dot(normal, normal))
        angle = mpmath.asinh(2 * mpmath.sqrt(c) * ball.dot(z, normal) / ((1 - c * ball.dot(z, z)) * length))
        logits.append(ball.lambda_x(at, -c) * length / mpmath.sqrt(c) * angle)
    return logits


def slopes(f: Callable[[list], Any], x: Sequence) -> list:
    """The gradient of f by differences, right to 20 digits."""
    step = mpmath.mpf(10) ** -22
    moved = [[b + step * sign * (i == j) for j, b in enumerate(x)] for sign in (1, -1) for i in range(len(x))]
    values = [f(point) for point in moved]
    return [(a - b) / (2 * step) for a, b in zip(values[: len(x)], values[len(x) :], strict=True)]


@pytest.mark.parametrize("config", ["fixed", "trained"])
def test_logits_and_gradients_against_the_papers_at_50_digits(config: str):
    """The gradient into the features passes the points scaled by ((1 - c |h|^2) / 2)^2, with the c with which training began."""
    rng, trained = draws.rng(71), config == "trained"
    model = Ours(3, 2, 0.6, train_c=trained, train_x=trained)
    x = np.concatenate([0.6 * rng.normal(size=(4, 3)), [[4.0, -5.0, 3.0]]])  # the last one is beyond the margin
    shapes = jax.eval_shape(lambda: model.init(draws.key(0), x))["params"]
    params = {name: 0.4 * rng.normal(size=a.shape) for name, a in shapes.items()} | ({"c": np.array([0.8])} if trained else {})
    cot = rng.normal(size=(5, 2))

    @jax.jit
    def run(params, x):
        logits, back = jax.vjp(lambda x: model.apply({"params": params}, x), x)
        return model.apply({"params": params}, x, method="encode"), logits, back(cot)[0]

    have = run(params, x)
    p, weights = exactly(params), exactly(cot)
    with mpmath.workdps(50):
        c, start = p["c"][0] if trained else mpmath.mpf(0.6), mpmath.mpf(0.6)
        points = [paper_head(config, p, list(row), c) for row in exactly(x)]
        grads = []
        for row, h, weight in zip(exactly(x), points, weights, strict=True):
            into = ball.times((1 - start * ball.dot(h, h)) ** 2 / 4, slopes(lambda h, w=weight: ball.dot(w, paper_logits(p, h, c)), h))
            grads.append(slopes(lambda x, into=into: ball.dot(into, paper_head(config, p, x, c)), list(row)))
        want = [np.array(a, float) for a in (points, [paper_logits(p, h, c) for h in points], grads)]
    # At the margin 1 - c|h|^2 is 2e-3: relative to it a rounding of h is 1e3 times as large, and so are those of what is divided by it.
    for a, b, lost in zip(have, want, (1, 1e3, 1e3), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-14 * lost * np.abs(b).max())
