"""`stabilize` where it moves points: off their manifolds, with gradients that come at different steps, on a ball that shrinks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from parity_tests import draws, slow
from port_jax.manifolds import Euclidean, PoincareBall
from port_jax.manifolds.base import pytree
from port_jax.optim import riemannian_adam, riemannian_sgd, sparse_riemannian_adam, sparse_riemannian_sgd
from port_jax.optim.sparse_rows import RowGradients


class Seen:
    """Projections that are seen: each makes points and tangents shorter."""

    def projx(self, x: Any) -> Any:
        return 0.9 * x

    def proju(self, x: Any, u: Any) -> Any:
        return 0.8 * u

    def egrad2rgrad(self, x: Any, u: Any) -> Any:
        return u


class Theirs(Seen, geoopt.Euclidean):
    """Flat space with these projections in geoopt."""


@pytree
class Ours(Seen, Euclidean):
    """The same here."""


ROWS = 5
WIDTHS = {"early": 3, "late": 4, "never": 2}
BOTH = ("early", "late")
GIVEN = [("early",), BOTH, ("late",), BOTH, ("late",), ("early",), BOTH, ("early",)]
"""Which parameters have a gradient at each step: the third of each is at step 4 and the sixth of `early` at step 8, not at 3 and 6."""
# name -> (geoopt's class, here, options, whether gradients are rows)
OPTIMIZERS: dict[str, tuple[Any, Any, dict[str, Any], bool]] = {
    "adam": (geoopt.optim.RiemannianAdam, riemannian_adam, {"amsgrad": True}, False),
    "sgd": (geoopt.optim.RiemannianSGD, riemannian_sgd, {"momentum": 0.9, "dampening": 0.1}, False),
    "plain sgd": (geoopt.optim.RiemannianSGD, riemannian_sgd, {}, False),
    "sparse adam": (geoopt.optim.SparseRiemannianAdam, sparse_riemannian_adam, {"amsgrad": True}, True),
    "sparse sgd": (geoopt.optim.SparseRiemannianSGD, sparse_riemannian_sgd, {"momentum": 0.9, "dampening": 0.1}, True),
}


def points() -> dict[str, np.ndarray]:
    return {name: draws.rng(d).standard_normal((ROWS, d)) for name, d in WIDTHS.items()}


def in_geoopt(name: str, stabilize: int | None) -> list[dict[str, np.ndarray]]:
    make, _, options, sparse = OPTIMIZERS[name]
    leaves = {n: geoopt.ManifoldParameter(torch.tensor(x), manifold=Theirs(1)) for n, x in points().items()}
    optimizer = make([{"params": list(leaves.values()), "stabilize": stabilize}], lr=0.03, **options)
    history = []
    for gradients in rows_of_steps():
        for n, leaf in leaves.items():
            leaf.grad = None
            if n in gradients and sparse:
                indices, values = (torch.tensor(a) for a in gradients[n])
                leaf.grad = torch.sparse_coo_tensor(indices[None], values, leaf.shape)
            elif n in gradients:
                leaf.grad = torch.tensor(dense(*gradients[n], leaf.shape))
        optimizer.step()
        history.append({n: leaf.detach().numpy().copy() for n, leaf in leaves.items()})
    return history


def here(name: str, stabilize: int | None) -> list[dict[str, np.ndarray]]:
    _, make, options, sparse = OPTIMIZERS[name]
    tx: Any = make(0.03, **options, stabilize=stabilize, manifolds=dict.fromkeys(WIDTHS, Ours(1)))
    params = {n: jnp.asarray(x) for n, x in points().items()}
    state, history = tx.init(params), []
    for gradients in rows_of_steps():
        if sparse:
            rows = {n: RowGradients(*map(jnp.asarray, gradients[n])) if n in gradients else None for n in params}
            params, state = tx.step(params, state, rows)
        else:
            whole = {n: dense(*gradients[n], x.shape) if n in gradients else None for n, x in params.items()}
            updates, state = tx.update(whole, state, params)
            params = optax.apply_updates(params, updates)
        history.append({n: np.asarray(x) for n, x in params.items()})
    return history


def rows_of_steps() -> list[dict[str, tuple[np.ndarray, np.ndarray]]]:
    """The indices of three rows and their gradients, for the parameters of each step."""
    rng = draws.rng(4)
    return [{n: (np.sort(rng.permutation(ROWS)[:3]), rng.standard_normal((3, WIDTHS[n]))) for n in given} for given in GIVEN]


def dense(indices: np.ndarray, values: np.ndarray, shape: Any) -> np.ndarray:
    whole = np.zeros(shape)
    whole[indices] = values
    return whole


@pytest.mark.parametrize("name", slow.all_but({"adam", "sparse sgd"}, OPTIMIZERS))
def test_each_parameters_own_count_or_the_optimizers(name: str):
    """Adam goes by the counts of parameters and leaves those that had no gradient yet; SGD by its steps, and projects all."""
    want, have = in_geoopt(name, 3), here(name, 3)
    for t, (theirs, ours) in enumerate(zip(want, have)):
        for n in WIDTHS:
            np.testing.assert_allclose(ours[n], theirs[n], rtol=0, atol=1e-12, err_msg=f"{n} at step {t}")
    still = np.array_equal(have[-1]["never"], points()["never"])
    assert still is ("adam" in name)


ORDERS: dict[str, Callable[[Any, Any], list[Any]]] = {"c,x": lambda c, x: [c, x], "x,c": lambda c, x: [x, c]}


@pytest.mark.parametrize("stabilize", [1, pytest.param(None, marks=pytest.mark.slow)])
@pytest.mark.parametrize("order", slow.all_but({"x,c"}, ORDERS))
def test_points_at_the_boundary_of_a_ball_that_shrinks(order: str, stabilize: int | None):
    """They are projected onto the ball that the curvature has when it is their turn, and by `stabilize` onto the one after the step."""
    rng = draws.rng(5)
    x0 = rng.standard_normal((4, 3))
    x0 *= np.array([0.999, 0.99, 0.9, 0.3])[:, None] / np.linalg.norm(x0, axis=-1, keepdims=True)
    ball = geoopt.PoincareBall(torch.tensor(1.0, dtype=torch.float64), learnable=True)
    x = geoopt.ManifoldParameter(torch.tensor(x0), manifold=ball)
    optimizer = geoopt.optim.RiemannianSGD(ORDERS[order](ball.isp_c, x), lr=0.1, stabilize=stabilize)

    def manifolds(params: Any) -> Any:
        return {"x": PoincareBall(jax.nn.softplus(params["c"])), "c": Euclidean()}

    tx = riemannian_sgd(0.1, stabilize=stabilize, manifolds=manifolds, order=order.split(","))
    params = {"x": jnp.asarray(x0), "c": jnp.asarray(ball.isp_c.detach().numpy())}
    state, before = tx.init(params), x0
    for t in range(3):
        grad = {"x": rng.standard_normal(x0.shape), "c": np.asarray(-1.0)}
        x.grad, ball.isp_c.grad = torch.tensor(grad["x"]), torch.tensor(grad["c"]).reshape(ball.isp_c.shape)
        optimizer.step()
        updates, state = tx.update(jax.tree.map(lambda g, p: jnp.reshape(g, p.shape), grad, params), state, params)
        params = optax.apply_updates(params, updates)
        np.testing.assert_allclose(params["x"], x.detach(), rtol=0, atol=1e-12, err_msg=f"step {t}")
        np.testing.assert_allclose(params["c"], ball.isp_c.detach(), rtol=0, atol=1e-14)
    if stabilize or order == "c,x":
        assert np.linalg.norm(params["x"][0]) < np.linalg.norm(before[0]) - 1e-2  # the ball's boundary has passed it
