"""from_torch of optimizers that are no plain optax transformations: of rows of tables, and along a line."""

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from parity_tests import draws, slow
from parity_tests.optim.from_torch.runs import plain
from port_jax.manifolds import Euclidean, PoincareBall
from port_jax.optim import RowGradients, from_torch
from reference_torch.optim.riemannian_line_search import RiemannianLineSearch
from reference_torch.optim.sparse_riemannian_adam import SparseRiemannianAdam
from reference_torch.optim.sparse_riemannian_sgd import SparseRiemannianSGD

ROWS, BEFORE, AFTER = 8, 6, 12
START = 0.3 * draws.rng(0).normal(size=(ROWS, 3))


def ball():
    return geoopt.PoincareBall(torch.tensor(0.7, dtype=torch.float64))


def touched(step):
    rng = draws.rng(step)
    return np.sort(rng.choice(ROWS, 3, replace=False)), rng.normal(size=(3, 3))


def torch_rows(optimizer, parameter, start, steps):
    for step in range(start, start + steps):
        indices, values = touched(step)
        parameter.grad = torch.sparse_coo_tensor(torch.tensor(indices)[None], torch.tensor(values), parameter.shape)
        optimizer.step()
    return parameter.detach().numpy().copy()


@pytest.mark.parametrize(
    ("make", "change"),
    [
        (lambda p: SparseRiemannianAdam(p, 0.03, (0.8, 0.97), 1e-3), {}),
        (lambda p: SparseRiemannianAdam(p, 0.03, amsgrad=True), {"stabilize": 4}),
        (lambda p: SparseRiemannianSGD(p, 0.05, 0.8, 0.1), {}),
        (lambda p: SparseRiemannianSGD(p, 0.05, 0.8, nesterov=True, stabilize=4), {}),
        (lambda p: SparseRiemannianSGD(p, 0.05), {}),
    ],
)
def test_a_table_goes_on_by_rows(make, change):
    parameter = geoopt.ManifoldParameter(torch.tensor(START), manifold=ball())
    optimizer = make([parameter])
    optimizer.param_groups[0].update(change)
    start = torch_rows(optimizer, parameter, 0, BEFORE)
    tx, state = from_torch(plain(optimizer.state_dict()), params=jnp.asarray(start), names=["(the root)"], manifolds=PoincareBall(0.7))
    table, move = jnp.asarray(start), jax.jit(tx.step)
    for step in range(BEFORE, BEFORE + AFTER):
        table, state = move(table, state, RowGradients(*map(jnp.asarray, touched(step))))
    expected = torch_rows(optimizer, parameter, BEFORE, AFTER)
    np.testing.assert_allclose(table, expected, rtol=0, atol=1e-11 * np.abs(expected - start).max())


def test_a_table_in_groups_is_refused():
    parameters = [geoopt.ManifoldParameter(torch.tensor(START), manifold=ball()) for _ in range(2)]
    optimizer = SparseRiemannianAdam([{"params": [p], "lr": lr} for p, lr in zip(parameters, (0.1, 0.2))])
    params = {"a": jnp.asarray(START), "b": jnp.asarray(START)}
    with pytest.raises(ValueError, match=r"SparseRiemannianAdam takes one group of all parameters.*translate each group apart"):
        from_torch(plain(optimizer.state_dict()), params=params, names=["a", "b"], manifolds=PoincareBall(0.7))


class Search:
    """A quartic of a point on a ball and of a flat matrix, searched by geoopt, whose slopes are wrong for several points."""

    def __init__(self, **settings):
        self.params = [
            geoopt.ManifoldParameter(torch.tensor(0.6 * START[0]), manifold=ball()),
            torch.nn.Parameter(torch.tensor(draws.rng(1).normal(size=(2, 2)))),
        ]
        self.settings = settings
        self.optimizer = RiemannianLineSearch(self.params, **settings)

    @staticmethod
    def loss(points, flat):
        """By any framework's arrays."""
        return ((points - 0.2) ** 4).sum() + 2 * ((points + 0.1) ** 2).sum() + ((flat - 0.5) ** 4).sum() + (flat**2).sum() / 5

    def closure(self):
        self.optimizer.zero_grad()
        loss = self.loss(*self.params)
        loss.backward()
        return loss.item()

    def values(self):
        return [p.detach().numpy().copy() for p in self.params]

    def resume(self):
        """As a new process would: geoopt keeps the last value and step size on the object, not in the state."""
        saved = self.optimizer.state_dict()
        self.optimizer = RiemannianLineSearch(self.params, **self.settings)
        self.optimizer.load_state_dict(saved)


def value_fn(params):
    return Search.loss(params["points"], params["flat"])


SEARCHES = [("armijo", "steepest", False), ("armijo", "fr", True), ("armijo", "pr", False), ("wolfe", "pr", True), ("wolfe", "fr", False)]


@pytest.mark.parametrize(("method", "cg", "reloaded"), slow.all_but(SEARCHES[:1] + SEARCHES[3:], SEARCHES))
def test_a_search_goes_on(method, cg, reloaded):
    run = Search(line_search_method=method, cg_method=cg, line_search_params={"c1": 1e-3})
    for _ in range(3):
        run.optimizer.step(run.closure)
    start, saved = run.values(), plain(run.optimizer.state_dict())
    if reloaded:
        run.resume()
    else:
        saved |= {"old_phi0": run.optimizer.old_phi0, "last_step_size": float(run.optimizer.last_step_size)}
    params = {"points": jnp.asarray(start[0]), "flat": jnp.asarray(start[1])}
    manifolds = {"points": PoincareBall(0.7), "flat": Euclidean()}
    tx, state = from_torch(saved, params=params, names=["points", "flat"], manifolds=manifolds)
    assert int(state.count) == 3
    move = jax.jit(lambda p, s: tx.update(jax.grad(value_fn)(p), s, p, value_fn=value_fn))
    for _ in range(3):
        updates, state = move(params, state)
        params = optax.apply_updates(params, updates)
        run.optimizer.step(run.closure)
        # What a search interpolates amplifies rounding: at seed 5 by 2e8.
        np.testing.assert_allclose(state.step_size, run.optimizer.last_step_size, rtol=1e-7)
    for name, y, p in zip(("points", "flat"), run.values(), start):
        np.testing.assert_allclose(params[name], y, rtol=0, atol=1e-7 * np.abs(y - p).max())


def test_a_search_by_a_function_is_refused():
    run = Search(cg_method=lambda *a, **k: 0.0)
    saved = plain(run.optimizer.state_dict())
    with pytest.raises(ValueError, match="cg_method'\\] is a function, which no file holds: build riemannian_line_search"):
        from_torch(saved, params=dict(zip("ab", run.values())), names=["a", "b"], manifolds={"a": PoincareBall(0.7), "b": Euclidean()})
