"""HypLL's layers: against the originals, which have the channels of images on axis 1, and the formulas at 50 digits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from mpmath import beta, mpf, sqrt, workdps

from parity_tests import draws, slow
from parity_tests.layers.twins import CHECKS, RADIUS, Twin, check_steps, check_values_and_gradients, named
from parity_tests.oracle import stereographic
from parity_tests.oracle.networks import exactly
from parity_tests.tolerances import gate, relative_error
from port_jax import layers
from port_jax.layers.hypll import CONSTRAINTS, ConstrainedBall, HAvgPool2d, HBatchNorm, HFlatten, HMaxPool2d
from port_jax.manifolds import Lorentz, PoincareBall
from port_jax.manifolds.stereographic.concatenation import beta_join
from reference_torch.layers import hypll as theirs

IMAGE, ROWS = ((2, 4, 5, 3),), ((6, 3),)
NORM = {"weight": "weight", "bias": "bias"}
VALUE = "manifold.c.value"


def ball() -> theirs.PoincareBall:
    """A ball whose raw value is its c."""
    return theirs.PoincareBall(theirs.Curvature(0.7, "identity"))


def on_rows(module, params, m, points):
    """The original, with minus geoopt's k for the value of the curvature, under all of its names."""
    return torch.func.functional_call(module, {**params, VALUE: -m.k}, tuple(points))


def on_images(module, params, m, points):
    return on_rows(module, params, m, [x.movedim(-1, 1) for x in points]).movedim(1, -1)


def flattened(module, params, m, points):
    return on_rows(module, params, m, [x.movedim(-1, 1) for x in points])


def convolved(module, params, m, points):
    kernel = params["weights"].permute(2, 0, 1, 3).reshape(-1, params["weights"].shape[-1])
    return on_images(module, {**params, "weights": kernel}, m, points)


def of_2d(module, params, m, points):
    return on_images(module, {f"norm.{name}": value for name, value in params.items()}, m, points)


TWINS = (
    Twin("batch norm", "ball", HBatchNorm(), lambda _: theirs.HBatchNorm(3, ball()), ROWS, NORM, theirs=on_rows, positive=("weight",)),
    Twin("batch norm, midpoint", "ball", HBatchNorm(True), lambda _: theirs.HBatchNorm2d(3, ball(), True), IMAGE, NORM, theirs=of_2d,
         positive=("weight",)),
    Twin("average pool", "ball", HAvgPool2d((2, 3), (1, 2)), lambda _: Windows((2, 3), (1, 2)), IMAGE, theirs=on_images),
    Twin("average pool, midpoint", "ball", HAvgPool2d((2, 2), (2, 2), (1, 1), True),
         lambda _: theirs.HAvgPool2d(2, ball(), 2, 1, True), IMAGE, theirs=on_images),
    Twin("whole average", "ball", HAvgPool2d(), lambda _: theirs.HAvgPool2d(None, ball()), IMAGE, theirs=on_images),
    Twin("max pool", "ball", HMaxPool2d((2, 2)), lambda _: theirs.HMaxPool2d(2, ball()), IMAGE, theirs=on_images),
    Twin("max pool, padded", "ball", HMaxPool2d((3, 3), (2, 2), (1, 1)), lambda _: theirs.HMaxPool2d(3, ball(), 2, 1), IMAGE,
         theirs=on_images),
    Twin("flatten", "ball", HFlatten(), lambda _: theirs.HFlatten(ball()), IMAGE, theirs=flattened),
    Twin("relu", "ball", layers.TangentActivation(), lambda _: theirs.HReLU(ball()), IMAGE, theirs=on_images),
    Twin("linear", "ball", layers.PoincareLinear(4), lambda _: theirs.HLinear(3, 4, ball()), ROWS, {"kernel": "z", "bias": "bias"},
         theirs=on_rows),
    Twin("convolution", "ball", layers.PoincareConv2d(2, (3, 3), (2, 2), (1, 1)),
         lambda _: theirs.HConvolution2d(3, 2, 3, ball(), stride=2, padding=1), IMAGE, {"kernel": "weights", "bias": "bias"},
         theirs=convolved),
    Twin("convolution without bias", "ball", layers.PoincareConv2d(2, (2, 2), use_bias=False),
         lambda _: theirs.HConvolution2d(3, 2, 2, ball(), bias=False), IMAGE, {"kernel": "weights"}, theirs=convolved),
)  # fmt: skip


class Windows(theirs.HAvgPool2d):
    """The average of windows that are no squares."""

    def __init__(self, size, strides):
        super().__init__(None, ball())
        self.size, self.strides = size, strides

    def forward(self, x):
        windows = self.manifold.unfold(x, self.size, 0, self.strides)
        parts = windows.unflatten(-1, (x.shape[1], -1)).transpose(-1, -2)
        height, width = ((n - k) // s + 1 for n, k, s in zip(x.shape[2:], self.size, self.strides, strict=True))
        return self.manifold.mean(parts, False).movedim(-1, 1).unflatten(-1, (height, width))


TABLE = [(check, twin) for twin in TWINS for check in CHECKS if twin.names or check is not check_steps]
KEPT = {(check_values_and_gradients, TWINS[0]), (check_values_and_gradients, TWINS[2])}


@pytest.mark.parametrize(("check", "twin"), slow.all_but(KEPT, TABLE), ids=named)
def test_the_original(check, twin):
    check(twin)


def test_batch_norm_at_50_digits():
    with workdps(50):
        raw = TWINS[0].raw(5)
        have, raw = TWINS[0].value(raw), exactly(raw)
        k, params = -raw["number"].item(), raw["params"]
        xs = [stereographic.expmap0(list(u), k) for u in raw["points"][0]]
        mean = stereographic.frechet_mean(xs, k)
        var = sum(stereographic.dist(mean, x, k) ** 2 for x in xs) / len(xs)
        goal = stereographic.expmap0(list(params["bias"]), k)
        scale = sqrt(params["weight"].item() / (var + mpf(1) / 10**6))
        want = []
        for x in xs:
            u = stereographic.transp(mean, goal, stereographic.logmap(mean, x, k), k)
            want.append(stereographic.expmap(goal, stereographic.times(scale, u), k))
        assert relative_error(have, np.array(want, float)) < 1e-10  # the mean is known to 1e-12


def test_average_pooling_at_50_digits():
    """One window of six pixels: they are shortened by B(9, 1/2)/B(3/2, 1/2), mapped together, and taken apart again."""
    with workdps(50):
        raw = TWINS[2].raw(5)
        have, raw = TWINS[2].value(raw), exactly(raw)
        k = -raw["number"].item()
        factor = beta(mpf(9), mpf(1) / 2) / beta(mpf(3) / 2, mpf(1) / 2)
        u = [factor * a for i in (0, 1) for j in (0, 1, 2) for a in raw["points"][0][1, i + 1, j + 2]]
        joined = stereographic.expmap0(u, k)
        want = stereographic.frechet_mean([joined[3 * n : 3 * n + 3] for n in range(6)], k)
        assert relative_error(have[1, 1, 1], np.array(want, float)) < 1e-10


def test_flattening_and_joining_at_50_digits():
    """The order is that of torch: all of the first channel before the second. Parts of 2 and 4 dimensions have factors of their own."""
    with workdps(50):
        raw = TWINS[7].raw(5)
        have, raw = TWINS[7].value(raw), exactly(raw)
        k = -raw["number"].item()
        factor = beta(mpf(30), mpf(1) / 2) / beta(mpf(3) / 2, mpf(1) / 2)
        pixels = raw["points"][0][0]
        want = stereographic.expmap0([factor * pixels[i, j, f] for f in range(3) for i in range(4) for j in range(5)], k)
        assert relative_error(have[0], np.array(want, float)) < gate(RADIUS, 0)
        parts = [draws.rng(n).normal(size=n) * 0.3 for n in (2, 4)]
        joined = beta_join([jnp.asarray(p) for p in parts], jnp.asarray(float(k)))
        tangents = [stereographic.logmap0(exactly(p).tolist(), k) for p in parts]
        factors = [beta(mpf(3), mpf(1) / 2) / beta(mpf(n) / 2, mpf(1) / 2) for n in (2, 4)]
        want = stereographic.expmap0([f * a for f, u in zip(factors, tangents, strict=True) for a in u], k)
        assert relative_error(joined, np.array(want, float)) < gate(RADIUS, 0)
    theirs_joined = ball().double().cat([torch.tensor(p) for p in parts])
    np.testing.assert_allclose(joined, theirs_joined.detach(), rtol=1e-7)  # HypLL's curvature is a float32 number


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_a_curvature_by_its_constraint(name: str):
    """c of the value, its derivative, and the value that a fresh module begins with."""
    module = ConstrainedBall(0.37, learnable=True, constraint=name)
    variables = module.init(draws.key(0))
    assert variables["params"]["value"].dtype == jnp.float32
    np.testing.assert_allclose(module.apply(variables).c, 0.37, rtol=1e-6)
    value = torch.tensor(-0.6 if name != "identity" else 0.6, dtype=torch.float64, requires_grad=True)
    want = theirs.CONSTRAINTS[name](value)
    want.backward()
    c, slope = jax.value_and_grad(lambda v: layers.constrained_ball(name, v).c)(jnp.asarray(value.item()))
    np.testing.assert_allclose([c, slope], [want.item(), value.grad], rtol=1e-14)
    assert ConstrainedBall(0.37).apply({}).c == 0.37


def test_what_is_refused():
    with pytest.raises(ValueError, match="constraint: found 'relu'; choose one of softplus, identity, exp"):
        layers.constrained_ball("relu", jnp.asarray(1.0))
    for layer in (HBatchNorm(), HAvgPool2d(), HFlatten()):
        with pytest.raises(ValueError, match=f"{type(layer).__name__}: the manifold is Lorentz"):
            layer.init(draws.key(0), Lorentz(1.0), jnp.ones((1, 2, 2, 3)))


def test_batch_norm_looks_at_the_batch_in_evaluation():
    x = PoincareBall(0.7).expmap0(jnp.asarray(draws.rng(1).normal(size=(6, 3))))
    layer = HBatchNorm()
    variables = layer.init(draws.key(0), PoincareBall(0.7), x)
    assert set(variables) == {"params"}
    whole, few = (layer.apply(variables, PoincareBall(0.7), part) for part in (x, x[:4]))
    assert np.abs(whole[:4] - few).max() > 1e-2
