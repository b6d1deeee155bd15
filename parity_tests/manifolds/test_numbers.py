"""The rule for arguments of all methods: what is made an array, what integers become, what is refused by name; and half precision."""

from __future__ import annotations

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import port_jax.manifolds as pm
from parity_tests import draws, slow
from parity_tests.manifolds import method_calls
from port_jax.manifolds import isometries
from port_jax.manifolds.arguments import ARRAYS, POINTS
from port_jax.manifolds.stereographic.metric import boundary_margin

HALF = (jnp.bfloat16, jnp.float16)
CURVED = (pm.PoincareBall(0.7), pm.Stereographic(-0.5), pm.SphereProjection(0.7), pm.PoincareBallExact(0.7))
NO_NUMBERS = {
    "self",
    "size",
    "key",
    "dtype",
    "fn",
    "fns",
    "args",
    "kwargs",
    "options",
    "i",
    "longest",
    "operations",
    "shape",
    "reducedim",
    "cls",
}
"""Names of parameters that are no arrays of numbers; those of options that are yes or no are left out."""


def classes() -> list[type]:
    return [c for c in vars(pm).values() if isinstance(c, type) and issubclass(c, pm.Manifold)]


def test_every_parameter_is_known():
    """A new method with a parameter of another name has to say here whether that is an array."""
    unknown = set()
    for cls in classes():
        for name, method in inspect.getmembers(cls, inspect.isfunction):
            if not name.startswith("_"):
                for p in inspect.signature(method).parameters.values():
                    if not isinstance(p.default, bool) and p.name not in ("atol", "rtol"):
                        unknown |= {p.name} - ARRAYS - NO_NUMBERS
    assert not unknown
    everything = {name for cls in classes() for name in dir(cls)}
    assert everything >= POINTS


@pytest.mark.parametrize("manifold", slow.all_but(CURVED[:1], CURVED), ids=lambda m: m.name)
def test_integers_do_not_round_the_curvature(manifold: Any):
    """0.7 rounded to an integer is 0: the distance to (0, 0, 1) would be 2 in place of 2.892 on the ball."""
    whole = [[0, 0, 1], [0, 0, 0]]
    for name in ("dist0", "logmap0", "expmap0", "projx", "lambda_x"):
        want = np.asarray(getattr(manifold, name)(jnp.asarray(whole, float)))
        for given in (whole, np.array(whole), jnp.asarray(whole), torch.tensor(whole), torch.tensor(whole).double(), np.array(whole, bool)):
            np.testing.assert_array_equal(getattr(manifold, name)(given), want)
    if manifold.name == "PoincareBall":
        assert float(manifold.dist0([0, 0, 1])) == pytest.approx(2 / np.sqrt(0.7) * np.arctanh(np.sqrt(0.7)), rel=1e-12)


def test_integers_and_lists_take_the_type_of_the_others():
    ball, x = pm.PoincareBall(0.7), jnp.asarray([0.1, 0.2, 0.3], jnp.float32)
    for other in ([0, 0, 0], [0.0, 0.1, 0.2], np.zeros(3, int), torch.zeros(3, dtype=torch.int64)):
        assert ball.dist(x, other).dtype == jnp.float32
        assert ball.mobius_add(y=other, x=x).dtype == jnp.float32
        assert ball.dist(x.astype(jnp.bfloat16), other).dtype == jnp.bfloat16
    assert ball.dist(np.asarray(x), [0, 0, 0]).dtype == jnp.float32
    assert ball.mobius_scalar_mul(2, x).dtype == jnp.float32
    np.testing.assert_array_equal(ball.mobius_scalar_mul(np.array(2), x), ball.mobius_scalar_mul(2.0, x))
    assert pm.Lorentz(2.0).dist0([2, 1, 1]).dtype == jnp.float64
    np.testing.assert_array_equal(isometries.convert([0, 0], "ball", "half_space", 0.7), [0.0, 1.0])


class Strange:
    pass


REFUSED = {
    "nothing": (None, "y is a NoneType"),
    "a name": ("x", "y is a str"),
    "a tensor that has a derivative": (torch.ones(3, requires_grad=True), r"y is a torch.Tensor.*pass y\.detach\(\)\.cpu\(\)\.float\(\)"),
    "a tensor of a type that numpy does not have": (torch.ones(3, dtype=torch.bfloat16), r"y is a torch.Tensor.*y\.detach"),
    "lists of several lengths": ([[1, 2, 3], [1]], "y is a list.*lists of one length"),
    "an array of names": (np.array(["a", "b"]), "y is a numpy.ndarray"),
    "something else": (Strange(), r"y is a .*Strange"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_anything_else_is_refused_by_name(name: str):
    value, says = REFUSED[name]
    for manifold, method in ((pm.PoincareBall(0.7), "dist"), (pm.Sphere(), "dist"), (pm.Euclidean(1), "logmap"), (pm.Lorentz(), "dist2")):
        with pytest.raises(TypeError, match=f"{manifold.name}.{method}: {says}"):
            getattr(manifold, method)(np.array([0.1, 0.2, 0.9]), value)
        with pytest.raises(TypeError, match=f"{manifold.name}.{method}: {says}"):
            getattr(manifold, method)(x=np.array([0.1, 0.2, 0.9]), y=value)


# Half precision.

KEPT = {("PoincareBall", jnp.bfloat16), ("SymmetricPositiveDefinite", jnp.float16)}
REAL = [name for name in method_calls.MANIFOLDS if name not in ("UpperHalf", "BoundedDomain")]
OTHER = {"fn": jnp.sin, "b1": 0.9, "rate": 0.1}
RANDOM = {"random", "random_normal", "random_uniform", "random_naive", "random_combined", "wrapped_normal", "origin"}
LEFT_OUT = RANDOM | {
    "has",
    "beside",
    "narrowed",
    "pack_point",
    "unpack_tensor",
    "with_exact_retraction",
    "dist_to",
    "from_point",
    "from_raw",
}


def rounded(end: Any, dtype: Any) -> np.ndarray:
    return np.asarray(jnp.asarray(end, dtype), np.float64)


@pytest.mark.parametrize(("name", "dtype"), slow.all_but(KEPT, [(name, dtype) for name in REAL for dtype in HALF]))
def test_half_precision_is_single_precision_rounded_once(name: str, dtype: Any):
    """Every method against itself in float64, at the same half-precision arguments: within the rounding of the result."""
    make, shape = method_calls.MANIFOLDS[name]
    manifold = make(pm)
    found = method_calls.arguments(manifold, shape)
    found = {key: jnp.asarray(value, dtype) if isinstance(value, np.ndarray) else value for key, value in found.items()} | OTHER
    found |= {"noise": found["u"], "grad": found["u"]}
    eps, compared = float(jnp.finfo(dtype).eps), 0
    for method in sorted(n for n in dir(type(manifold)) if not n.startswith("_") and "check" not in n and n not in LEFT_OUT):
        if not inspect.isfunction(getattr(type(manifold), method, None)):
            continue
        function = getattr(manifold, method)
        required = [
            p for p in inspect.signature(function).parameters.values() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD
        ]
        args = [found[method_calls.SPECIAL.get((method, p.name), p.name)] for p in required]
        if method == "descend_along":
            args[2] = found["v"]
        if (name, method) in (("Lorentz", "mobius_matvec"), ("Lorentz", "mobius_pointwise_mul")):
            args = [a[..., 1:] if p.name == "w" else a[1:, 1:] if p.name == "m" else a for p, a in zip(required, args, strict=True)]
        high = [jnp.asarray(a, float) if isinstance(a, jax.Array) else a for a in args]
        try:
            want, have = function(*high), function(*args)
        except NotImplementedError:
            continue
        if method == "descend_along":
            want, have = (want[0], *want[1](0.3)), (have[0], *have[1](0.3))
        for i, (w, h) in enumerate(zip(jax.tree.leaves(want), jax.tree.leaves(have), strict=True)):
            assert h.dtype == dtype, method
            assert np.isfinite(np.asarray(h, float)).all(), method
            # points beyond the margin of half precision are moved to it
            w = np.asarray(manifold.narrowed(jnp.asarray(w, jnp.float32), dtype), float) if method in POINTS and i == 0 else np.asarray(w)
            error = np.abs(np.asarray(h, float) - w).max(initial=0) / max(np.abs(w).max(initial=0), 1e-3)
            # half an ulp, one more where w is rounded too; float32's own error, amplified by at most 100, is far below
            assert error <= 1.5 * eps, (method, error / eps)
            compared += 1
    assert compared > 15
    for draw in RANDOM - {"wrapped_normal", "origin"}:
        if hasattr(manifold, draw) and manifold.has("random"):
            try:
                points = getattr(manifold, draw)(draws.key(2), 3, *shape, dtype=dtype)
            except NotImplementedError:
                continue
            assert points.dtype == dtype
            assert manifold.check_point_on_manifold(points)


@pytest.mark.parametrize("dtype", slow.all_but({jnp.bfloat16}, HALF))
def test_points_are_inside_by_more_than_their_rounding(dtype: Any):
    """On their margin or inside of it, also when they are rounded again, in balls of any radius; and they stay where they are."""
    eps = float(jnp.finfo(dtype).eps)
    for c in (0.1, 3.0):
        ball = pm.PoincareBall(c)
        far = jnp.asarray(draws.rng(6).standard_normal((500, 5)) * 4 / np.sqrt(c), dtype)
        for x in (ball.projx(far), ball.expmap0(far), ball.retr(0 * far, far)):
            radius = np.linalg.norm(np.asarray(x, np.float64), axis=-1) * np.sqrt(c)
            assert radius.max() <= (1 - boundary_margin(dtype)) * (1 + eps)
            np.testing.assert_array_equal(ball.projx(x), x)
            assert ball.check_point_on_manifold(x)
            assert np.isfinite(np.asarray(ball.dist(x, x[::-1]), float)).all()
    ball = pm.Lorentz(1.0).to_ball(pm.Lorentz(1.0).expmap0(jnp.asarray([[0.0, 7.0, 0.0]], dtype)))
    assert np.linalg.norm(np.asarray(ball, float)) < 1


@pytest.mark.parametrize("dtype", slow.all_but({jnp.float16}, HALF))
def test_derivatives_are_of_the_same_type_and_those_of_single_precision(dtype: Any):
    ball = pm.PoincareBall(0.7)
    x, y = (jnp.asarray(0.3 * draws.rng(n).standard_normal((4, 3)), dtype) for n in (7, 8))
    slope = jax.grad(lambda x: jnp.sum(ball.dist(x, y).astype(jnp.float32)))
    have, want = slope(x), slope(x.astype(jnp.float32))
    assert have.dtype == dtype
    np.testing.assert_allclose(np.asarray(have, float), want, atol=2 * float(jnp.finfo(dtype).eps) * float(jnp.abs(want).max()))
