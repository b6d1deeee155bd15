"""to_torch: the state after some steps in JAX is the one that torch has after them, in the form that it had."""

import copy

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from parity_tests import draws, slow
from parity_tests.optim.from_torch import loops
from parity_tests.optim.from_torch.loops import CASES, SHAPES
from parity_tests.optim.from_torch.runs import (
    AFTER,
    BEFORE,
    MANIFOLDS,
    OPTIMIZERS,
    PATHS,
    SCHEDULES,
    Reference,
    as_params,
    go_on,
    plain,
)
from port_jax.manifolds import Euclidean, PoincareBall
from port_jax.optim import from_torch, to_torch
from reference_torch.optim.riemannian_adam import RiemannianAdam
from reference_torch.optim.riemannian_line_search import RiemannianLineSearch


def assert_alike(found, expected, at="state"):
    """Equal in keys, types and forms; floats to 1e-10 of the largest in their array."""
    if isinstance(expected, dict):
        assert set(found) == set(expected), at
        for key in expected:
            assert_alike(found[key], expected[key], f"{at}/{key}")
    elif isinstance(expected, list | tuple):
        assert type(found) is type(expected), at
        assert len(found) == len(expected), at
        for n, (x, y) in enumerate(zip(found, expected)):
            assert_alike(x, y, f"{at}/{n}")
    elif isinstance(expected, np.ndarray):
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape), at
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-10 * np.abs(expected).max(initial=0), err_msg=at)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-11), at
    else:
        assert (type(found), found) == (type(expected), expected), at


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_state_is_torchs(name):
    """Unmoved it is the state that was given, bit by bit; after steps it is torch's."""
    run = Reference(OPTIMIZERS[name], ball="Riemannian" in name)
    start = run.run(BEFORE)
    saved = plain(run.optimizer.state_dict())
    given = {"params": as_params(start), "names": PATHS, "manifolds": MANIFOLDS}
    tx, state = from_torch(saved, **given)
    again, none = to_torch(state, saved, **given)
    assert none is None
    assert_alike(again, saved)
    _, state = go_on(tx, state, start, BEFORE, AFTER)
    run.run(AFTER)
    assert_alike(to_torch(state, saved, **given)[0], plain(run.optimizer.state_dict()))


@pytest.mark.parametrize("name", ["cosine", "one cycle", "plateau", "sequence", "chain"])
def test_the_scheduler_has_come_as_far(name):
    metric = np.arange(BEFORE + AFTER) + draws.rng(2).normal(size=BEFORE + AFTER) if name == "plateau" else None
    run = Reference(lambda p: RiemannianAdam(p, 0.03), SCHEDULES[name], metric=metric)
    start = run.run(BEFORE)
    saved, schedule = plain(run.optimizer.state_dict()), plain(run.scheduler.state_dict())
    given = {"params": as_params(start), "names": PATHS, "manifolds": MANIFOLDS, "scheduler_state": schedule, "num_steps": 40}
    tx, state = from_torch(saved, **given)
    assert to_torch(state, saved, **given)[1] is schedule
    _, state = go_on(tx, state, start, BEFORE, AFTER, metric)
    run.run(AFTER)
    found, scheduler = to_torch(state, saved, **given)
    theirs = plain(run.optimizer.state_dict())
    for key in ("lr", "betas"):
        assert_alike(found["param_groups"][0][key], theirs["param_groups"][0][key], key)
    # a plateau's last_epoch is not used, and a sequence keeps its parts' last rates
    told = {"best", "num_bad_epochs", "cooldown_counter"} if name == "plateau" else {"last_epoch", "_step_count"}

    def progress(state):
        """Of a scheduler that counts, and of the parts that it has: a chain has its parts' counts alone."""
        own = [{key: state[key] for key in sorted(told & state.keys())}]
        return [counts for counts in own if counts] + [counts for part in state.get("_schedulers", ()) for counts in progress(part)]

    expected = progress(plain(run.scheduler.state_dict()))
    assert len(expected) == {"sequence": 3, "chain": 2}.get(name, 1)
    assert progress(scheduler) == [pytest.approx(counts) for counts in expected]


# What is written of a count depends on the dialect alone.
KEPT = {"geoopt 0.3.1, stabilized", "geoopt 0.5.0", "hybonet", "hgcn", "murp"}


@pytest.mark.parametrize(("name", "before"), slow.all_but({(name, 7) for name in KEPT}, [(name, n) for name in CASES for n in (7, 0)]))
def test_a_loops_state_is_the_loops(name, before):
    make, (theirs, ours), settings, _, kind = CASES[name]
    loop = make(loops.tensors(draws.rng(3), theirs, SHAPES), [theirs, None, None, None], **settings)
    start = loops.run(loop, 0, before)
    saved = plain(loop.state_dict())
    given = {"params": loops.tree(start), "names": loops.PATHS, "manifolds": {"points": ours, "layer": Euclidean()}, "optimizer": kind}
    tx, state = from_torch(saved, **given)
    assert_alike(to_torch(state, saved, **given)[0], saved)
    if not before and make in (loops.OldGeoopt, loops.MiddleGeoopt):
        return  # a fresh state has no dialect: geoopt 0.5.1's is meant
    _, state = loops.follow(tx, state, start, before, 5)
    loops.run(loop, before, 5)
    assert_alike(to_torch(state, saved, **given)[0], plain(loop.state_dict()))


@pytest.mark.parametrize("make", [loops.OldGeoopt, loops.MiddleGeoopt, loops.Hybonet])
def test_what_begins_later_has_what_its_dialect_keeps(make):
    """A parameter without state in a group that counts once; in one that counts twice there is none."""
    _, saved = loops.saved_by(make)
    del saved["state"][2]
    kind = "hybonet.RiemannianAdam" if make is loops.Hybonet else "RiemannianAdam"
    params = loops.tree(loops.tensors(draws.rng(3), loops.ball(0.7)[0], SHAPES))
    given = {"params": params, "names": loops.PATHS, "manifolds": {"points": PoincareBall(0.7), "layer": Euclidean()}, "optimizer": kind}
    if make is loops.OldGeoopt:
        with pytest.raises(ValueError, match="layer/bias has no state"):
            from_torch(saved, **given)
        return
    tx, state = from_torch(saved, **given)
    _, state = tx.update(jax.tree.map(jnp.ones_like, params), state, params)
    entry = to_torch(state, saved, **given)[0]["state"][2]
    assert set(entry) == {"exp_avg", "exp_avg_sq"} | ({"step"} if make is loops.Hybonet else set())
    assert entry.get("step", 0) == 0


def test_one_counter_cannot_say_two_counts():
    _, saved = loops.saved_by(loops.MiddleGeoopt)
    params = loops.tree(loops.tensors(draws.rng(3), loops.ball(0.7)[0], SHAPES))
    given = {"params": params, "names": loops.PATHS, "manifolds": {"points": PoincareBall(0.7), "layer": Euclidean()}}
    tx, state = from_torch(saved, **given)
    grads = jax.tree.map(jnp.ones_like, params)
    _, state = tx.update({**grads, "points": None}, state, params)
    with pytest.raises(ValueError, match=r"parameters of param_groups\[0\] have seen \[6, 7\] gradients.*at each step"):
        to_torch(state, saved, **given)


def test_a_search_hands_over_where_it_is():
    ball = geoopt.PoincareBall(torch.tensor(0.7, dtype=torch.float64))
    point = geoopt.ManifoldParameter(torch.tensor([0.2, -0.3, 0.1], dtype=torch.float64), manifold=ball)
    search = RiemannianLineSearch([point], cg_method="pr")

    def closure():
        search.zero_grad()
        loss = ((point - 0.3) ** 4).sum() + (point**2).sum()
        loss.backward()
        return loss.item()

    def value_fn(p):
        return ((p["x"] - 0.3) ** 4).sum() + (p["x"] ** 2).sum()

    search.step(closure)
    saved = plain(search.state_dict()) | {"old_phi0": search.old_phi0, "last_step_size": float(search.last_step_size)}
    params = {"x": jnp.asarray(point.detach().numpy().copy())}
    given = {"params": params, "names": ["x"], "manifolds": PoincareBall(0.7)}
    tx, state = from_torch(saved, **given)
    for _ in range(2):
        updates, state = tx.update(jax.grad(value_fn)(params), state, params, value_fn=value_fn)
        params = optax.apply_updates(params, updates)
        search.step(closure)
    found, _ = to_torch(state, saved, **given)
    theirs = plain(search.state_dict())
    assert found["param_groups"][0]["step"] == theirs["param_groups"][0]["step"] == 3
    assert found["last_step_size"] == pytest.approx(float(search.last_step_size))
    assert found["old_phi0"] == pytest.approx(search.old_phi0)
    for key in ("grad", "grad_transported", "search_transported"):
        if key in theirs["state"][0]:
            np.testing.assert_allclose(found["state"][0][key], theirs["state"][0][key], rtol=1e-8, atol=1e-12)


def test_torch_loads_it_and_goes_on():
    run = Reference(OPTIMIZERS["AdamW"], ball=False)
    start = run.run(BEFORE)
    saved = plain(run.optimizer.state_dict())
    tx, state = from_torch(saved, params=as_params(start), names=PATHS)
    values, state = go_on(tx, state, start, BEFORE, 3)
    back, _ = to_torch(state, saved, params=as_params(start), names=PATHS)
    again = copy.deepcopy(run)
    again.optimizer = OPTIMIZERS["AdamW"](again.params)
    again.optimizer.load_state_dict(jax.tree.map(lambda x: torch.tensor(x) if isinstance(x, np.ndarray) else x, back))
    for p, value in zip(again.params, values):
        p.data.copy_(torch.tensor(value))
    again.steps = BEFORE + 3
    for x, y in zip(again.run(5), run.run(8)):
        np.testing.assert_allclose(x, y, rtol=1e-11)


def test_a_configuration_has_nothing_to_go_back_to():
    with pytest.raises(ValueError, match="a configuration has no indices to write to"):
        to_torch(None, {"name": "Adam"}, params={"x": jnp.zeros(2)})
