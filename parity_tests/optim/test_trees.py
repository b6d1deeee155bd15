"""Manifolds beside parameters: what is missing, misplaced or ill-shaped raises and is named; None gradients; sequential order."""

from __future__ import annotations

from typing import Any

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from parity_tests import draws, slow
from port_jax.manifolds import CanonicalStiefel, Euclidean, Lorentz, PoincareBall
from port_jax.optim import riemannian_adam, riemannian_sgd
from reference_torch.optim.riemannian_adam import RiemannianAdam
from reference_torch.optim.riemannian_sgd import RiemannianSGD

BALL = PoincareBall(0.7)
PARAMS = {"emb": jnp.full((3, 4), 0.1), "lin": {"w": jnp.ones((4, 2)), "b": jnp.zeros(2)}}
GOOD = {"emb": BALL, "lin": Euclidean()}


@pytest.mark.parametrize(
    ("manifolds", "error", "message"),
    [
        ({"emb": BALL, "lin": {"w": Euclidean()}}, ValueError, "parameter lin/b has no manifold"),
        ({**GOOD, "embedding": BALL}, ValueError, "manifolds at embedding: no parameter has this path"),
        ({**GOOD, "lin": None}, TypeError, "manifolds at lin: found None"),
        ({**GOOD, "emb": 0.7}, TypeError, "manifolds at emb: found float"),
        ({**GOOD, "lin": {"w": {"x": BALL}, "b": Euclidean()}}, ValueError, "lin/w"),
        (jnp.ones(3), TypeError, "static_args"),
    ],
)
@pytest.mark.parametrize("make", [riemannian_adam, riemannian_sgd])
def test_a_wrong_tree_of_manifolds_raises_and_names_the_path(make: Any, manifolds: Any, error: type, message: str):
    with pytest.raises(error, match=message):
        make(0.1, manifolds=manifolds).init(PARAMS)


@pytest.mark.parametrize(
    ("params", "manifold", "error", "message"),
    [
        ({"n": jnp.arange(3)}, Euclidean(), TypeError, "parameter n is of type int"),
        ({"x": jnp.ones(())}, BALL, ValueError, r"parameter x has shape \(\)"),
    ],
)
def test_parameters_that_cannot_move_raise(params: Any, manifold: Any, error: type, message: str):
    with pytest.raises(error, match=message):
        riemannian_adam(0.1, manifolds=manifold).init(params)


def test_wrong_calls_raise():
    tx = riemannian_sgd(0.1, momentum=0.9, manifolds=GOOD)
    state = tx.init(PARAMS)
    with pytest.raises(ValueError, match="update\\(gradients, state, params\\)"):
        tx.update(PARAMS, state)
    with pytest.raises(ValueError, match="gradient of lin/b has shape"):
        tx.update({**PARAMS, "lin": {"w": PARAMS["lin"]["w"], "b": jnp.zeros(3)}}, state, PARAMS)
    with pytest.raises(ValueError, match="parameter lin/b has no gradient"):
        tx.update({"emb": PARAMS["emb"], "lin": {"w": PARAMS["lin"]["w"]}}, state, PARAMS)
    with pytest.raises(ValueError, match="belongs to other parameters"):
        tx.update({"emb": PARAMS["emb"]}, state, {"emb": PARAMS["emb"]})
    for options in ({"nesterov": True}, {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, {"momentum": -1.0}):
        with pytest.raises(ValueError, match=r"nesterov|momentum"):
            riemannian_sgd(0.1, **options, manifolds=GOOD)
    for options in ({"b1": 1.0}, {"eps": -1.0}, {"learning_rate": -1.0}, {"stabilize": 0}):
        with pytest.raises(ValueError, match="has to lie in"):
            riemannian_adam(**options, manifolds=GOOD)
    with pytest.raises(ValueError, match=r"missing \['lin/b'\], unknown \['bias'\]"):
        riemannian_adam(order=["emb", "lin/w", "bias"], manifolds=GOOD).update(PARAMS, riemannian_adam(manifolds=GOOD).init(PARAMS), PARAMS)


RNG = draws.stream(5)
START = {
    "a": RNG.standard_normal((5, 4)) * 0.2,
    "b": RNG.standard_normal((5, 4)) * 0.2,
    "flat": RNG.standard_normal((3, 2)),
}
GIVEN = [("a", "flat"), ("a", "b"), ("b",), ("a", "b", "flat"), ("a",), ("flat",), ("a", "b", "flat")]
"""Which parameters have a gradient at each step."""


@pytest.mark.parametrize("kind", slow.all_but({"adam"}, ["adam", "sgd"]))
def test_parameters_without_gradient_stay_as_in_geoopt(kind: str):
    """Counts, momenta and stabilisation follow each parameter's own history; b begins at the second step."""
    leaves = {k: torch.nn.Parameter(torch.tensor(v)) for k, v in START.items()}
    for k in ("a", "b"):
        leaves[k] = geoopt.ManifoldParameter(torch.tensor(START[k]), manifold=geoopt.Stereographic(torch.tensor(-0.7, dtype=torch.float64)))
    manifolds = {"a": BALL, "b": BALL, "flat": Euclidean()}
    if kind == "adam":
        opt = RiemannianAdam(leaves.values(), lr=0.1, amsgrad=True, stabilize=3)
        tx = riemannian_adam(0.1, amsgrad=True, stabilize=3, manifolds=manifolds)
    else:
        opt = RiemannianSGD(leaves.values(), lr=0.1, momentum=0.9, nesterov=True, stabilize=3)
        tx = riemannian_sgd(0.1, momentum=0.9, nesterov=True, stabilize=3, manifolds=manifolds)
    params = {k: jnp.asarray(v) for k, v in START.items()}
    state = tx.init(params)
    rng = draws.rng(9)
    for t, given in enumerate(GIVEN):
        grads = {k: rng.standard_normal(v.shape) if k in given else None for k, v in START.items()}
        for k, leaf in leaves.items():
            leaf.grad = None if grads[k] is None else torch.tensor(grads[k])
        opt.step()
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        for k, leaf in leaves.items():
            np.testing.assert_allclose(params[k], leaf.detach(), rtol=0, atol=1e-13, err_msg=f"{k} at step {t}")
    assert {k: int(n) for k, n in state.count.items()} == {k: sum(k in g for g in GIVEN) for k in START}


@pytest.mark.parametrize("order", [pytest.param(("c", "x"), marks=pytest.mark.slow), pytest.param(("x", "c")), None])
def test_a_learnable_curvature_and_the_order_of_updates(order: Any):
    """geoopt walks its list: points after the curvature move on the new ball. Without `order` they move on the old one."""
    rng = draws.rng(8)
    x0, raw0 = rng.standard_normal((5, 3)) * 0.3, 0.4
    g = {"x": rng.standard_normal((4, 5, 3)), "c": rng.standard_normal(4)}
    ball = geoopt.PoincareBall(torch.tensor(1.0, dtype=torch.float64), learnable=True)
    with torch.no_grad():
        ball.isp_c.copy_(torch.tensor(raw0, dtype=torch.float64))
    x = geoopt.ManifoldParameter(torch.tensor(x0), manifold=ball)
    leaves = {"x": x, "c": ball.isp_c}
    # All on the old curvature is what geoopt does when the curvature comes last.
    opt = RiemannianAdam([leaves[k] for k in order or ("x", "c")], lr=0.1, weight_decay=0.1)

    def manifolds(params: Any) -> Any:
        return {"x": PoincareBall(jax.nn.softplus(params["c"])), "c": Euclidean()}

    tx = riemannian_adam(0.1, weight_decay=0.1, manifolds=manifolds, order=order)
    params = {"x": jnp.asarray(x0), "c": jnp.asarray(raw0)}
    state = tx.init(params)
    other = riemannian_adam(0.1, weight_decay=0.1, manifolds=manifolds, order=("x", "c") if order == ("c", "x") else ("c", "x"))
    step, step_other = jax.jit(tx.update), jax.jit(other.update)
    for t in range(4):
        grad = {k: v[t] for k, v in g.items()}
        for k, leaf in leaves.items():
            leaf.grad = torch.tensor(grad[k])
        opt.step()
        wrong, _ = step_other(grad, state, params)
        updates, state = step(grad, state, params)
        assert float(jnp.abs(wrong["x"] - updates["x"]).max()) > 1e-6
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(params["x"], x.detach(), rtol=0, atol=1e-13)
    np.testing.assert_allclose(params["c"], ball.isp_c.detach(), rtol=0, atol=1e-13)


def test_points_and_momenta_are_projected_when_their_own_count_says_so():
    """`stabilize` 3: after the third gradient of the later parameter, which the optimizer's fourth step has; Cayley's retraction keeps a
    frame as far off as it was."""
    frames, rng = CanonicalStiefel(), draws.rng(5)
    start = 1.01 * np.linalg.qr(rng.normal(size=(4, 2)))[0]
    grads = 0.1 * rng.normal(size=(4, 4, 2))
    tx = riemannian_adam(1e-2, stabilize=3, manifolds={"early": frames, "late": frames, "never": frames})
    params = dict.fromkeys(("early", "late", "never"), jnp.asarray(start))
    state, step, off = tx.init(params), jax.jit(tx.update), []
    for n, grad in enumerate(grads):
        updates, state = step({"early": None if n else grad, "late": grad if n else None, "never": None}, state, params)
        params = optax.apply_updates(params, updates)
        off.append({name: float(np.abs(x.T @ x - np.eye(2)).max()) > 1e-3 for name, x in params.items()})
    assert off == [{"early": True, "late": True, "never": True}] * 3 + [{"early": False, "late": False, "never": True}]
    for name in ("early", "late"):
        assert frames.check_vector_on_tangent(params[name], state.mu[name], atol=1e-12), name


def test_differentiable_through_the_step():
    """The derivative of the moved points with respect to the start, finite and right (MAML walks this way)."""
    points = jnp.asarray(START["a"])
    tx = riemannian_sgd(0.1, momentum=0.5, manifolds=BALL)

    def after(scale: jax.Array) -> jax.Array:
        p = points * scale
        state = tx.init(p)
        for _ in range(3):
            updates, state = tx.update(jnp.sin(p), state, p)
            p = p + updates
        return jnp.sum(p * points)

    there, back, slope = jax.jit(lambda s: (after(s + 1e-5), after(s - 1e-5), jax.grad(after)(s)))(jnp.asarray(1.0))
    np.testing.assert_allclose(slope, (there - back) / 2e-5, rtol=1e-8)
    assert np.isfinite(jax.grad(lambda k: Lorentz(k).inner(points, points).sum())(1.0))
