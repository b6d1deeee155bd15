"""The Riemannian optimizers inside optax and flax: they stay Riemannian, equal geoopt, and compile once."""

from __future__ import annotations

from typing import Any

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import linen as nn
from flax import nnx

from parity_tests import draws, slow
from port_jax.manifolds import Euclidean, Lorentz, PoincareBall, UpperHalf
from port_jax.optim import riemannian_adam, riemannian_line_search, riemannian_sgd
from reference_torch.optim.riemannian_adam import RiemannianAdam
from reference_torch.optim.riemannian_sgd import RiemannianSGD

C = 0.7
BALL = PoincareBall(C)
RNG = draws.stream(3)
START = RNG.standard_normal((6, 4)) * 0.3
KERNEL = RNG.standard_normal((4, 3))
TARGET = RNG.standard_normal((6, 3))
STEPS = 5


class Table(nn.Module):
    """Points on the ball, read out linearly."""

    @nn.compact
    def __call__(self) -> jax.Array:
        points = self.param("points", lambda key: jnp.asarray(START))
        kernel = self.param("kernel", lambda key: jnp.asarray(KERNEL))
        return jnp.tanh(points) @ kernel


MANIFOLDS = {"params": {"points": BALL, "kernel": Euclidean()}}


def loss_of(out: jax.Array) -> jax.Array:
    return jnp.sum((out - TARGET) ** 2)


def run_linen(tx: optax.GradientTransformation, steps: int = STEPS) -> Any:
    """The parameters after `steps` in one compiled scan through linen's apply."""
    model = Table()
    params = model.init(draws.key(0))

    def step(carry: Any, _: None) -> Any:
        params, state = carry
        updates, state = tx.update(jax.grad(lambda p: loss_of(model.apply(p)))(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    return jax.jit(lambda p: jax.lax.scan(step, (p, tx.init(p)), None, length=steps)[0][0])(params)["params"]


def run_geoopt(optimizer: type, clip: float | None = None, **options: Any) -> dict[str, np.ndarray]:
    points = geoopt.ManifoldParameter(torch.tensor(START), manifold=geoopt.Stereographic(torch.tensor(-C, dtype=torch.float64)))
    kernel = torch.nn.Parameter(torch.tensor(KERNEL))
    opt = optimizer([points, kernel], **options)
    for _ in range(STEPS):
        opt.zero_grad()
        ((torch.tanh(points) @ kernel - torch.tensor(TARGET)) ** 2).sum().backward()
        if clip is not None:
            norm = torch.sqrt(sum((p.grad**2).sum() for p in (points, kernel)))
            for p in (points, kernel):
                p.grad.mul_(min(1.0, clip / norm.item()))
        opt.step()
    return {"points": points.detach().numpy(), "kernel": kernel.detach().numpy()}


def distance(a: Any, b: Any) -> float:
    return max(float(np.abs(np.asarray(a[k]) - np.asarray(b[k])).max()) for k in ("points", "kernel"))


ADAM = {"lr": 0.05}
SGD = {"lr": 0.01, "momentum": 0.9}


def adam(manifolds: Any = MANIFOLDS) -> optax.GradientTransformation:
    return riemannian_adam(0.05, manifolds=manifolds)


def sgd(manifolds: Any = MANIFOLDS) -> optax.GradientTransformation:
    return riemannian_sgd(0.01, momentum=0.9, manifolds=manifolds)


def test_through_linen_jit_and_scan_equals_geoopt_and_not_euclidean_adam():
    found = run_linen(adam())
    assert distance(found, run_geoopt(RiemannianAdam, **ADAM)) < 1e-12
    assert distance(found, run_linen(optax.adam(0.05))) > 1e-2
    assert distance(run_linen(sgd()), run_geoopt(RiemannianSGD, **SGD)) < 1e-12


def test_chain_with_clipping_before_equals_geoopt_on_clipped_gradients():
    found = run_linen(optax.chain(optax.clip_by_global_norm(0.5), sgd()))
    assert distance(found, run_geoopt(RiemannianSGD, clip=0.5, **SGD)) < 1e-12


def test_a_transformation_after_the_step_moves_points_off_the_manifold():
    """Updates are differences of points: scaled, they end on the chord, off the hyperboloid. The documentation says so."""
    space = draws.rng(11).standard_normal((5, 3))
    points = jnp.asarray(np.concatenate([np.sqrt(1 + (space**2).sum(-1, keepdims=True)), space], -1))
    grads = jnp.asarray(draws.rng(11).standard_normal(points.shape))

    def off(tx: optax.GradientTransformation) -> float:
        @jax.jit
        def stepped(points):
            updates, _ = tx.update(grads, tx.init(points), points)
            p = optax.apply_updates(points, updates)
            return jnp.abs(Lorentz().inner(p, p) + 1).max()

        return float(stepped(points))

    step = riemannian_adam(0.3, manifolds=Lorentz())
    assert off(step) < 1e-12
    assert off(optax.chain(step, optax.scale(0.5))) > 1e-3


@pytest.mark.parametrize("make", slow.all_but({adam}, [adam, sgd]))
def test_partition_and_masked_give_the_parts_their_own_steps(make: Any):
    whole = run_linen(make())
    labels = {"params": {"points": "points", "kernel": "kernel"}}
    parts = {"points": make(MANIFOLDS), "kernel": make(MANIFOLDS)}
    assert distance(run_linen(optax.partition(parts, labels)), whole) == 0
    only = run_linen(optax.chain(optax.masked(make(MANIFOLDS), {"params": {"points": True, "kernel": False}})), 1)
    assert distance({**only, "kernel": whole["kernel"]}, {**run_linen(make(), 1), "kernel": whole["kernel"]}) == 0


def test_multi_steps_feeds_the_mean_gradient():
    points, g = jnp.asarray(START), jnp.asarray(draws.rng(11).standard_normal((2, *START.shape)))
    tx = optax.MultiSteps(riemannian_adam(0.05, manifolds=BALL), every_k_schedule=2)
    state, moved, update = tx.init(points), points, jax.jit(tx.update)
    for grad in g:
        updates, state = update(grad, state, moved)
        moved = optax.apply_updates(moved, updates)
    single = riemannian_adam(0.05, manifolds=BALL)
    expected = points + jax.jit(single.update)(g.mean(0), single.init(points), points)[0]
    # MultiSteps averages with float32 weights
    np.testing.assert_allclose(moved, expected, rtol=0, atol=1e-8)


def test_apply_if_finite_skips_and_the_plain_step_passes_nan_on():
    points, grad = jnp.asarray(START), jnp.asarray(START).at[0, 0].set(jnp.nan)
    tx = riemannian_adam(0.05, manifolds=BALL)
    assert np.isnan(jax.jit(tx.update)(grad, tx.init(points), points)[0][0]).all()
    guarded = optax.apply_if_finite(tx, max_consecutive_errors=3)
    updates, state = jax.jit(guarded.update)(grad, guarded.init(points), points)
    assert float(jnp.abs(updates).max()) == 0
    assert int(state.inner_state.step) == 0


def test_schedules_and_injected_hyperparameters_give_the_same_steps():
    schedule = optax.linear_schedule(0.1, 0.01, STEPS)
    plain = run_linen(riemannian_adam(schedule, manifolds=MANIFOLDS))
    injected = optax.inject_hyperparams(riemannian_adam, static_args=("manifolds",))
    assert distance(run_linen(injected(schedule, manifolds=lambda p: MANIFOLDS)), plain) < 1e-9
    momentum = optax.inject_hyperparams(riemannian_sgd)(0.01, momentum=0.9, stabilize=2, manifolds=MANIFOLDS)
    assert distance(run_linen(momentum), run_linen(riemannian_sgd(0.01, 0.9, stabilize=2, manifolds=MANIFOLDS))) < 1e-9


@pytest.mark.parametrize("name", slow.all_but({"wolfe"}, ["adam", "sgd", "armijo", "wolfe"]))
def test_conjugate_gradients_of_jax_descend_in_siegel_space(name: str):
    """As optax asks of complex parameters: the conjugate of jax.grad is torch's gradient, and goes down."""
    space = UpperHalf()
    start, goal = (space.random(draws.key(n), 3, 2, 2, dtype=jnp.complex128) for n in (1, 2))
    tx = {
        "adam": lambda: riemannian_adam(0.02, manifolds=space),
        "sgd": lambda: riemannian_sgd(0.02, manifolds=space),
    }.get(name, lambda: riemannian_line_search(name, {"c2": 0.3} if name == "wolfe" else None, manifolds=space))()
    update = optax.with_extra_args_support(tx).update

    def loss(z: jax.Array) -> jax.Array:
        return jnp.sum(space.dist2(z, goal))

    def step(carry: Any, _: None) -> Any:
        z, state = carry
        value, grad = jax.value_and_grad(loss)(z)
        updates, state = update(jnp.conj(grad), state, z, value=value, value_fn=loss)
        return (z + updates, state), value

    (end, _), values = jax.jit(lambda: jax.lax.scan(step, (start, tx.init(start)), length=200))()
    assert float(loss(end)) < 1e-2 * float(values[0])
    assert space.check_point_on_manifold(end)


def test_nnx_through_the_bridge_equals_linen():
    model = nnx.bridge.ToNNX(Table(), rngs=nnx.Rngs(draws.seed(0))).lazy_init()
    # The bridge keeps the variables by name, without the collection.
    optimizer = nnx.Optimizer(model, adam({"points": BALL, "kernel": Euclidean()}), wrt=nnx.Param)

    @nnx.jit
    def step(model: Any, optimizer: Any) -> None:
        optimizer.update(model, nnx.grad(lambda m: loss_of(m()))(model))

    for _ in range(STEPS):
        step(model, optimizer)
    found = {k: nnx.to_pure_dict(nnx.state(model, nnx.Param))[k] for k in ("points", "kernel")}
    assert distance(found, run_linen(adam())) < 1e-14
    assert distance(found, run_linen(optax.adam(0.05))) > 1e-2


def test_one_compilation_for_all_steps():
    tx = optax.chain(optax.clip_by_global_norm(1.0), riemannian_adam(optax.constant_schedule(0.1), manifolds=BALL, stabilize=2))
    points = jnp.asarray(START)
    state = tx.init(points)
    traces = 0

    @jax.jit
    def step(points: jax.Array, state: Any) -> Any:
        nonlocal traces
        traces += 1
        updates, state = tx.update(points * 0.1, state, points)
        return points + updates, state

    for _ in range(6):
        points, state = step(points, state)
    assert traces == 1


def test_float32_stays_float32_and_lands_within_a_rounding():
    """apply_updates adds new - old: from new by a rounding of the difference and one of the sum, half an ulp each."""
    with jax.enable_x64(False):
        points = jnp.asarray(START, jnp.float32)
        tx = riemannian_sgd(0.3, manifolds=BALL)
        grad = jnp.asarray(draws.rng(11).standard_normal(START.shape), jnp.float32)
        updates, _ = tx.update(grad, tx.init(points), points)
        landed = optax.apply_updates(points, updates)
        new = BALL.descend(points, grad, 0.3)
        assert landed.dtype == new.dtype == jnp.float32
        assert (np.abs(landed - new) <= (np.spacing(np.abs(updates)) + np.spacing(np.abs(landed))) / 2).all()
        half = tx.update(grad.astype(jnp.bfloat16), tx.init(points.astype(jnp.bfloat16)), points.astype(jnp.bfloat16))[0]
        assert half.dtype == jnp.bfloat16
