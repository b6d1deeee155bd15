"""`descend` and `descend_along` in their fused forms, on ball and hyperboloid, against the general form, which any other manifold takes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from parity_tests import draws, slow
from port_jax.manifolds import Lorentz, PoincareBall
from port_jax.manifolds.base import pytree
from port_jax.optim import riemannian_adam

B1 = 0.9
NAMES = ("square", "point", "momentum")


@pytree
class GeneralBall(PoincareBall):
    """A ball that takes the general form."""


@pytree
class GeneralLorentz(Lorentz):
    """A hyperboloid that takes the general form."""


@pytree
class StillBall(PoincareBall):
    """A ball whose retraction stays where it is."""

    def retr(self, x, u, **_):
        return x

    def retr_transp(self, x, u, v, **_):
        return x, v


@pytree
class StillLorentz(Lorentz):
    """A hyperboloid whose retraction stays where it is."""

    def retr(self, x, u, **_):
        return x

    def retr_transp(self, x, u, v, **_):
        return x, v


BALL, HYPERBOLOID = (PoincareBall, GeneralBall, (0.1, 10.0)), (Lorentz, GeneralLorentz, (0.1, 1.7))
MODELS = [pytest.param(*BALL, id="ball"), pytest.param(*HYPERBOLOID, id="hyperboloid")]
PAIRS = pytest.mark.parametrize(("rows", "general", "curvatures"), MODELS)


def _case(manifold, distance, seed, n=400, d=6):
    """Points at about `distance` from the origin, gradients, momenta, and the sizes of steps of very different lengths."""
    rng = draws.rng(seed)
    u = rng.standard_normal((n, d)) * distance / d**0.5
    if isinstance(manifold, Lorentz):
        u[:, 0] = 0
    grad, egrad = rng.standard_normal((2, n, d))
    x, m = _placed(manifold, u, egrad)
    return x, jnp.asarray(grad), m, jnp.asarray(rng.choice([1e-3, 0.1, 2.0], (n, 1)))


# The manifolds are arguments: one compilation a model and precision serves all curvatures.
@jax.jit
def _placed(manifold, u, egrad):
    x = manifold.projx(manifold.expmap0(u))
    return x, manifold.egrad2rgrad(x, egrad)


@jax.jit
def _step(manifold, x, grad, m, size):
    """<r, r>, the new point, its change and the momentum, for a step of geodesic length `size` or so."""
    square, move = manifold.descend_along(x, grad, m, jnp.asarray(B1, x.dtype))
    r = manifold.component_inner(x, B1 * m + (1 - B1) * manifold.egrad2rgrad(x, grad))
    y, change, momentum = move(-size / jnp.sqrt(r + jnp.finfo(x.dtype).tiny))
    return square, y, momentum, change


def _step_on(manifold, x, grad, m, size):
    """`_step` as a function on the manifold: coordinates that leave it do not count."""
    x = manifold.projx(x)
    return _step(manifold, x, grad, manifold.proju(x, m), size)


NUDGES = 4
"""One nudge alone moves what is computed by less than usual by chance."""


def _nudged(manifold, seed, x, grad, m, size):
    """The case with each coordinate moved by up to an ulp."""
    rng = draws.rng(5 + seed)
    x, grad, m = (a * (1 + 2.2e-16 * jnp.asarray(rng.uniform(-1, 1, a.shape))) for a in (x, grad, m))
    return _tangent(manifold, x, grad, m, size)


def _tangent(manifold, x, grad, m, size):
    """The case on its manifold: on the hyperboloid with the time coordinates that belong to the space parts."""
    if isinstance(manifold, Lorentz):
        x = manifold.projx(x)
        m = m.at[..., 0].set(jnp.sum(x[..., 1:] * m[..., 1:], -1) / x[..., 0])
    return x, grad, m, size


def _worst(found, true):
    """Largest error of the rows, relative to the largest entry of each."""
    found, true = np.asarray(found, np.float64), np.asarray(true, np.float64)
    return (np.abs(found - true).max(-1) / np.maximum(np.abs(true).max(-1), 1e-300)).max()


@PAIRS
@pytest.mark.parametrize("distance", [0.0, 0.01, 1.0, 3.0])
def test_equals_the_general_form(rows, general, curvatures, distance):
    """float64 within what one rounding of the arguments does; float32 no farther from float64 than the general form.

    1 - c |x|² is known to a rounding of 1 alone, and is 2e-5 where a point was projected onto the ball.
    """
    for i, curvature in enumerate(curvatures):
        manifold, plain = rows(curvature), general(curvature)
        scale = curvature**0.5 if rows is Lorentz else curvature**-0.5
        case = _case(manifold, distance * scale, i)
        true, found = _step(plain, *case), _step(manifold, *case)
        moved = [_step(plain, *_nudged(manifold, seed, *case)) for seed in range(NUDGES)]
        inside = float(1 - curvature * jnp.sum(case[0] ** 2, -1).max())
        near = 4 * float(np.finfo(np.float64).eps) / inside if rows is PoincareBall else 0.0
        for name, a, b, *nudged in zip(NAMES, found, true, *moved, strict=False):
            mine, drift = _worst(a, b), max(_worst(c, b) for c in nudged)
            assert mine <= 8 * drift + 1e-14 + near, (name, curvature, mine, drift)
        single = tuple(a.astype(jnp.float32) for a in case)
        ours, theirs = _step(manifold, *single), _step(plain, *single)
        truth = _step(plain, *_tangent(manifold, *(a.astype(jnp.float64) for a in single)))
        for name, a, b, t in zip(NAMES, ours, theirs, truth, strict=False):
            mine, plainly = _worst(a, t), _worst(b, t)
            # two formulas with other roundings, and a few roundings where the general form happens to be exact
            assert mine <= 4 * plainly + 4e-6, (name, curvature, mine, plainly)
        for x, (_, y, _, change) in ((case[0], found), (single[0], ours)):
            size = float(jnp.maximum(jnp.abs(x), jnp.abs(y)).max())
            np.testing.assert_allclose(x + change, y, rtol=0, atol=2 * float(jnp.finfo(y.dtype).eps) * size)


@pytest.mark.slow  # as its values, and test_second_derivatives_through_steps_in_a_scan
@pytest.mark.parametrize(("rows", "general", "curvatures"), slow.all_but(MODELS[:1], MODELS))
def test_derivatives_equal_those_of_the_general_form(rows, general, curvatures):
    manifold, plain = rows(curvatures[1]), general(curvatures[1])
    case = _case(manifold, 1.0, 7, n=20)
    rng = draws.rng(8)
    cotangents = tuple(jnp.asarray(rng.standard_normal(a.shape)) for a in jax.eval_shape(_step, manifold, *case))

    @jax.jit
    def derivatives(M, x, *rest):
        """What the cotangents are pulled back to, and the derivative of the part of x, in x along the gradient."""

        def pulled(x):
            return jax.vjp(lambda *b: _step_on(M, *b), x, *rest)[1](cotangents)

        found, tangents = jax.jvp(pulled, (x,), (case[1],))
        return found, tangents[0]

    ours, second = derivatives(manifold, *case)
    theirs, expected = derivatives(plain, *case)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * float(jnp.abs(b).max()))
    np.testing.assert_allclose(second, expected, rtol=1e-8, atol=1e-8 * float(jnp.abs(expected).max()))


@pytest.mark.parametrize(("still", "rows"), [(StillBall, PoincareBall), (StillLorentz, Lorentz)])
def test_a_subclass_steps_by_its_own_retraction(still, rows):
    """The fused forms have the class's own retraction written out. A subclass may have another, and the tests above compare with one."""

    @jax.jit
    def steps(manifold, x, grad, m):
        _, move = manifold.descend_along(x, grad, m, jnp.asarray(B1))
        return manifold.descend(x, grad, 0.3), move(jnp.full((len(x), 1), -0.1))[0]

    x, grad, m, _ = _case(rows(1.7), 0.5, 4, n=5, d=3)
    for y, stays in zip(steps(rows(1.7), x, grad, m), steps(still(1.7), x, grad, m), strict=True):
        np.testing.assert_array_equal(stays, x)
        assert (jnp.abs(y - x).max(-1) > 1e-3).all()


@PAIRS
def test_rows_that_do_not_move(rows, general, curvatures):
    """Zero gradient and zero momentum, also at the origin: the point stays bit by bit, the momentum is zero."""
    manifold = rows(curvatures[1])

    @jax.jit
    def still(u, zero):
        x = manifold.projx(manifold.expmap0(u))
        square, move = manifold.descend_along(x, zero, zero, jnp.asarray(B1))
        return x, square, *move(jnp.full((3, 1), -0.1))

    x, square, y, change, m = still(jnp.zeros((3, 4)).at[1:, 1].set(0.4), jnp.zeros((3, 4)))
    np.testing.assert_array_equal(np.asarray(square), 0)
    np.testing.assert_array_equal(np.asarray(m), 0)
    np.testing.assert_allclose(y, x, rtol=3e-16)
    np.testing.assert_allclose(change, 0, atol=3e-16)


@PAIRS
def test_a_step_allocates_nothing_of_the_size_of_the_table(rows, general, curvatures):
    """With donated buffers the table and its momentum are overwritten; what is left are numbers a row."""
    n, d = 4096, 64
    manifold = rows(curvatures[1])
    transform = riemannian_adam(1e-3, manifolds=manifold)

    def step(table, state, grads):
        updates, state = transform.update(grads, state, table)
        return optax.apply_updates(table, updates), state

    table = jax.ShapeDtypeStruct((n, d), jnp.float32)
    state = jax.eval_shape(transform.init, table)
    compiled = jax.jit(step, donate_argnums=(0, 1)).lower(table, state, table).compile()
    memory = compiled.memory_analysis()
    tables = memory.temp_size_in_bytes / (4 * n * d)
    assert tables < (0.5 if rows is PoincareBall else 2.5), tables


@pytest.mark.parametrize(("rows", "general", "curvatures"), slow.all_but(MODELS[:1], MODELS))
def test_second_derivatives_through_steps_in_a_scan(rows, general, curvatures):
    """JAX's rule for a reduce of several operands fails in a scan where one has no tangent; the step must not meet it."""
    manifold = rows(curvatures[1])
    x, target, _, _ = _case(manifold, 0.5, 3, n=4, d=3)
    target, transform = jax.jit(manifold.projx)(x + 0.1 * target), riemannian_adam(0.05, manifolds=manifold)

    def after(x):
        def step(carry, _):
            point, state = carry
            updates, state = transform.update(point - target, state, point)
            return (point + updates, state), None

        return jnp.vdot(jnp.sin(jnp.arange(12.0)).reshape(4, 3), jax.lax.scan(step, (x, transform.init(x)), None, length=2)[0][0])

    assert np.isfinite(jax.jit(lambda x: jax.jvp(jax.grad(after), (x,), (target,))[1])(x)).all()


@jax.jit
def _descents(ball, x, grad):
    return ball.descend(x, grad, 0.3), ball.retr(x, -0.3 * ball.egrad2rgrad(x, grad))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("c", [0.1, 0.7, 10.0])
def test_steps_along_the_gradient_are_retractions(c, dtype):
    """Short and long steps, most of the long ones pulled back to the boundary; c times the momentum-free SGD's rate."""
    ball = PoincareBall(c)
    rng = draws.rng(0)
    x = rng.standard_normal((200, 6))
    x *= rng.uniform(0, 0.995, (200, 1)) / np.linalg.norm(x, axis=1, keepdims=True) / c**0.5
    x, grad = jnp.asarray(x, dtype), jnp.asarray(rng.standard_normal((200, 6)) * 10 ** rng.uniform(-3, 4, (200, 1)), dtype)
    found, plain = _descents(ball, x, grad)
    # 1 - c|x|² is rounded alike on both sides; |x + u|² cancels to a ninth of its terms at most where it decides
    np.testing.assert_allclose(found, plain, rtol=0, atol=32 * np.finfo(dtype).eps / c**0.5)
    assert (jnp.linalg.norm(plain, axis=1) * c**0.5 > 0.99).sum() > 20
