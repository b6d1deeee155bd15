"""The optimizers of repositories and of older versions of geoopt: stopped after some steps of their loops, gone on with here."""

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from parity_tests import draws, slow
from parity_tests.optim import dialects
from parity_tests.optim.test_from_torch import plain
from port_jax.manifolds import Euclidean, Lorentz, PoincareBall
from port_jax.manifolds.base import pytree
from port_jax.optim import from_torch, torch_dialects, torch_state
from port_jax.optim.torch_recognition import recognised
from reference_torch.optim.torch_dialects import factor

SHAPES = ((4, 2), (2,), ())
PATHS = ["points", "layer/kernel", "layer/bias", "layer/scale"]
BEFORE, AFTER = 7, 40


def ball(c):
    return geoopt.PoincareBall(torch.tensor(c, dtype=torch.float64)), PoincareBall(c)


def hyperboloid(k):
    return geoopt.Lorentz(torch.tensor(k, dtype=torch.float64)), Lorentz(k)


# name: loop, manifold, its settings, what has to be said, the class recognised
CASES = {
    "geoopt 0.3.1": (dialects.OldGeoopt, ball(0.7), {}, "RiemannianAdam", "RiemannianAdam"),
    "geoopt 0.3.1, stabilized": (dialects.OldGeoopt, ball(0.7), {"amsgrad": True, "stabilize": 12}, "RiemannianAdam", "RiemannianAdam"),
    "geoopt 0.3.1 on the hyperboloid": (dialects.OldGeoopt, hyperboloid(1.3), {"stabilize": 20}, "RiemannianAdam", "RiemannianAdam"),
    "geoopt 0.5.0": (dialects.MiddleGeoopt, ball(0.7), {"stabilize": 3}, None, "RiemannianAdam"),
    "geoopt 0.5.0, amsgrad": (dialects.MiddleGeoopt, hyperboloid(1.3), {"amsgrad": True}, None, "RiemannianAdam"),
    "hybonet": (dialects.Hybonet, hyperboloid(1.3), {"stabilize": 10}, None, "hybonet.RiemannianAdam"),
    "hybonet, amsgrad": (dialects.Hybonet, ball(0.7), {"amsgrad": True}, None, "hybonet.RiemannianAdam"),
    "hgcn": (dialects.HGCN, ball(0.7), {}, None, "hgcn.RiemannianAdam"),
    "hgcn, amsgrad": (dialects.HGCN, ball(1.9), {"amsgrad": True}, None, "hgcn.RiemannianAdam"),
    "murp": (dialects.MuRP, ball(1.0), {}, "murp.RiemannianSGD", "murp.RiemannianSGD"),
    "poincare embeddings": (dialects.PoincareEmbeddings, ball(1.0), {}, None, "poincare_embeddings.RiemannianSGD"),
    "lorentz embeddings": (dialects.PoincareEmbeddings, hyperboloid(1.0), {"lr": 0.1}, None, "poincare_embeddings.RiemannianSGD"),
}


def gradients(values, step):
    """Of quartics, straight from a distance of 1 on so that no step runs away, with noise by step so that no two are alike."""
    rng = draws.rng(100 + step)
    return [4 * np.clip(p - 0.2, -1, 1) ** 3 + 0.4 * rng.normal(size=np.shape(p)) for p in values]


def run(loop, start, steps):
    for step in range(start, start + steps):
        loop.step([torch.as_tensor(g) for g in gradients([p.numpy().copy() for p in loop.params], step)])
    return [p.numpy().copy() for p in loop.params]


def tree(values, cast=jnp.asarray):
    values = [cast(np.asarray(v)) for v in values]
    return {"points": values[0], "layer": dict(zip(("kernel", "bias", "scale"), values[1:]))}


def follow(tx, state, values, start, steps):
    params, move = tree(values), jax.jit(tx.update)
    for step in range(start, start + steps):
        updates, state = move(tree(gradients(leaves(params), step)), state, params)
        params = optax.apply_updates(params, updates)
    return leaves(params), state


def leaves(params):
    return [np.asarray(x) for x in (params["points"], *(params["layer"][name] for name in ("kernel", "bias", "scale")))]


def assert_same_path(found, expected, start):
    """To 1e-10 of each tensor's way, which is at least 0.01 of tensors of size 1: one number can come back to where it was."""
    ways = [np.abs(y - p).max() for y, p in zip(expected, start)]
    assert max(ways) > 0.01
    for name, x, y, way in zip(PATHS, found, expected, ways):
        np.testing.assert_allclose(x, y, rtol=0, atol=1e-10 * max(way, 0.01), err_msg=name)


# Each loop once, and from the start where something else is kept in the state.
KEPT = {
    (BEFORE, "geoopt 0.3.1, stabilized"),
    (BEFORE, "geoopt 0.5.0, amsgrad"),
    (BEFORE, "hybonet"),
    (BEFORE, "hgcn, amsgrad"),
    (BEFORE, "murp"),
    (BEFORE, "poincare embeddings"),
    (BEFORE, "lorentz embeddings"),
    (0, "hybonet, amsgrad"),
    (0, "murp"),
}


@pytest.mark.parametrize(("before", "name"), slow.all_but(KEPT, [(n, name) for name in CASES for n in (BEFORE, 0)]))
def test_goes_on_as_its_loop_does(name, before):
    make, (theirs, ours), settings, said, kind = CASES[name]
    loop = make(dialects.tensors(draws.rng(3), theirs, SHAPES), [theirs, None, None, None], **settings)
    start = run(loop, 0, before)
    saved = plain(loop.state_dict())
    manifolds = {"points": ours, "layer": Euclidean()}
    if before and said is None:
        entries = [dict(zip(PATHS, (saved["state"].get(i, {}) for i in range(4))))]
        assert recognised(saved["param_groups"], entries, PATHS[1:]) == kind
    tx, state = from_torch(saved, params=tree(start), names=PATHS, manifolds=manifolds, optimizer=said if before else kind)
    if not before and make is dialects.OldGeoopt:
        return  # a fresh state has no dialect: geoopt 0.5.1's is meant
    found, _ = follow(tx, state, start, before, AFTER)
    assert_same_path(found, run(loop, before, AFTER), start)


def test_sparse_gradients_are_shortened():
    """Whether they were sparse is not in a state but in the configuration."""
    theirs, ours = ball(1.0)
    loop = dialects.PoincareEmbeddings(dialects.tensors(draws.rng(3), theirs, SHAPES), [theirs, None, None, None], lr=0.01, sparse=True)
    large = [draws.rng(n).normal(size=p.shape) * 40 for n, p in enumerate(loop.params)]
    large[0] *= np.array([4, 10, 20, 40, 160])[:, None] / np.linalg.norm(large[0], axis=-1, keepdims=True)
    start = [p.numpy().copy() for p in loop.params]
    configuration = {"name": "poincare_embeddings.RiemannianSGD", "lr": 0.01, "sparse": True}
    tx, state = from_torch(configuration, params=tree(start), manifolds={"points": ours, "layer": Euclidean()})
    updates, _ = tx.update(tree(large), state, tree(start))
    loop.step([torch.as_tensor(g) for g in large])
    lengths = np.linalg.norm(large[0] / factor(torch.tensor(start[0]), 1.0).numpy() ** 2, axis=-1)
    assert lengths.min() < 5 < lengths.max()
    np.testing.assert_allclose(updates["points"], loop.params[0].numpy() - start[0], rtol=0, atol=1e-15)


def test_long_steps_on_the_hyperboloid_have_length_1():
    theirs, ours = hyperboloid(1.0)
    loop = dialects.PoincareEmbeddings(dialects.tensors(draws.rng(3), theirs, SHAPES), [theirs, None, None, None], lr=1.0)
    draw = [draws.rng(n).normal(size=p.shape) for n, p in enumerate(loop.params)]
    draw[0] *= np.array([0.1, 0.3, 1, 5, 20])[:, None]
    start = [p.numpy().copy() for p in loop.params]
    manifolds = {"points": ours, "layer": Euclidean()}
    tx, state = from_torch(plain(loop.state_dict()), params=tree(start), names=PATHS, manifolds=manifolds)
    updates, _ = tx.update(tree(draw), state, tree(start))
    loop.step([torch.as_tensor(g) for g in draw])
    steps = theirs.dist(torch.tensor(start[0]), loop.params[0]).numpy()
    assert steps.min() < 0.9
    assert np.isclose(steps, 1).sum() >= 2
    np.testing.assert_allclose(updates["points"], loop.params[0].numpy() - start[0], rtol=0, atol=1e-14)


@pytree
class Marked(Euclidean):
    """A flat space whose projection shows when it is applied."""

    def projx(self, x):
        return x + 100


@pytest.mark.parametrize(("make", "once"), [(dialects.OldGeoopt, 8), (dialects.MiddleGeoopt, 1), (dialects.Hybonet, 1)])
def test_points_are_stabilized_when_the_groups_count_says_so(make, once):
    loop = make(dialects.tensors(draws.rng(3), ball(0.7)[0], SHAPES), [None] * 4, stabilize=12 if once > 1 else 3)
    start = run(loop, 0, 2)
    kind = "hybonet.RiemannianAdam" if make is dialects.Hybonet else "RiemannianAdam"
    tx, state = from_torch(plain(loop.state_dict()), params=tree(start), names=PATHS, manifolds=Marked(), optimizer=kind)
    move, params, jumped = jax.jit(tx.update), tree(start), []
    for step in range(2, 10):
        updates, state = move(tree(gradients(start, step)), state, params)
        jumped.append(bool(np.abs(updates["points"]).min() > 50))
    assert jumped == [once * n % (12 if once > 1 else 3) == 0 for n in range(3, 11)]


def test_rows_of_a_transposed_parameter_are_its_columns():
    theirs, ours = ball(0.7)
    loop = dialects.HGCN(dialects.tensors(draws.rng(3), theirs, SHAPES), [theirs, None, None, None])
    start = run(loop, 0, BEFORE)
    saved = plain(loop.state_dict())
    for name in ("exp_avg", "exp_avg_sq"):
        saved["state"][1][name] = saved["state"][1][name].T
    params = tree(start)
    params["layer"]["kernel"] = params["layer"]["kernel"].T
    tx, state = from_torch(
        saved, params=params, names=PATHS, manifolds={"points": ours, "layer": Euclidean()}, last_axes={"layer/kernel": 0}
    )
    grads = tree(gradients(start, BEFORE))
    grads["layer"]["kernel"] = grads["layer"]["kernel"].T
    updates, _ = tx.update(grads, state, params)
    end = run(loop, BEFORE, 1)
    np.testing.assert_allclose(updates["layer"]["kernel"].T, end[1] - start[1], rtol=0, atol=1e-14)
    with pytest.raises(ValueError, match="layer/kernel differs along a point's axes"):
        from_torch(saved, params=params, names=PATHS, manifolds={"points": ours, "layer": Euclidean()})


def saved_by(make, manifold=None, steps=6, shapes=SHAPES, **settings):
    theirs = manifold or ball(0.7)[0]
    loop = make(dialects.tensors(draws.rng(3), theirs, shapes), [theirs, *([None] * len(shapes))], **settings)
    return loop, plain((run(loop, 0, steps), loop.state_dict())[1])


@pytest.mark.parametrize(
    ("make", "change", "message"),
    [
        # 48 of four parameters: 48 steps of one, 6 of the other
        (
            dialects.OldGeoopt,
            lambda s: None,
            "is 48 steps of fully-hyperbolic-nn's RiemannianAdam or 6 of geoopt's until 0.3.1.*say optimizer=",
        ),
        (dialects.HGCN, lambda s: [e["exp_avg_sq"].fill(0) for e in s["state"].values()], "say optimizer='RiemannianAdam' or 'hgcn.Riem"),
        (dialects.OldGeoopt, lambda s: s["param_groups"][0].update(step=47), "hybonet"),
        (dialects.MuRP, lambda s: None, "'murp.RiemannianSGD' has no other setting than lr"),
        (dialects.HGCN, lambda s: s["param_groups"][0].update(step=47), "47, not a multiple of 8 .twice its 4 parameters"),
        (dialects.HGCN, lambda s: s["state"].pop(2), "layer/bias has no state in param_groups.0., whose count goes up twice"),
        (dialects.HGCN, lambda s: s["state"][0].update(exp_avg=np.full((5, 3), np.nan)), "exp_avg of points is not finite"),
    ],
)
def test_what_the_numbers_leave_open_is_asked(make, change, message):
    _, saved = saved_by(make)
    change(saved)
    params = tree(dialects.tensors(draws.rng(3), ball(0.7)[0], SHAPES))
    manifolds = {"points": PoincareBall(0.7), "layer": Euclidean()}
    if message == "hybonet":
        from_torch(saved, params=params, names=PATHS, manifolds=manifolds)  # no multiple of twice four
        return
    with pytest.raises(ValueError, match=message):
        from_torch(saved, params=params, names=PATHS, manifolds=manifolds)


def test_groups_tell_the_dialects_of_a_count_apart():
    _, one = saved_by(dialects.Hybonet)
    two = {"state": one["state"], "param_groups": [{**one["param_groups"][0], "params": p} for p in ([0], [1, 2, 3])]}
    entries = [{PATHS[i]: two["state"][i] for i in g["params"]} for g in two["param_groups"]]
    two["param_groups"][0]["step"] = two["param_groups"][1]["step"] = 6
    assert recognised(two["param_groups"], entries, PATHS[1:]) == "hybonet.RiemannianAdam"
    two["param_groups"][0]["step"], two["param_groups"][1]["step"] = 12, 36
    assert recognised(two["param_groups"], entries, PATHS[1:]) == "RiemannianAdam"
    two["param_groups"][1]["step"] = 30
    with pytest.raises(ValueError, match="which no known optimizer does"):
        recognised(two["param_groups"], entries, PATHS[1:])


def test_a_configuration_may_not_contradict_the_state():
    _, saved = saved_by(dialects.MiddleGeoopt)
    entries = [dict(zip(PATHS, saved["state"].values()))]
    with pytest.raises(ValueError, match="configuration's optimizer is rsgd, the file's settings are those of RiemannianAdam"):
        recognised(saved["param_groups"], entries, PATHS[1:], said="rsgd")
    assert recognised(saved["param_groups"], entries, PATHS[1:], said="radam") == "RiemannianAdam"
    with pytest.raises(ValueError, match=r"optimizer is Adagrad, and param_groups\[0\] has no initial_accumulator_value, lr_decay"):
        recognised(saved["param_groups"], entries, PATHS[1:], "Adagrad")


def test_hgcn_moves_no_points_of_the_hyperboloid():
    _, saved = saved_by(dialects.HGCN)
    params = {"points": jnp.ones((5, 3)), "layer": tree(saved["state"][i]["exp_avg"] for i in range(4))["layer"]}
    with pytest.raises(ValueError, match=r"parameter points is on Lorentz; hgcn\.RiemannianAdam moves points of balls"):
        from_torch(saved, params=params, names=PATHS, manifolds={"points": Lorentz(1.3), "layer": Euclidean()})


@pytest.mark.parametrize("name", [*CASES])
def test_a_state_comes_apart_and_together(name):
    make, (theirs, ours), settings, _, kind = CASES[name]
    loop = make(dialects.tensors(draws.rng(3), theirs, SHAPES), [theirs, None, None, None], **settings)
    start = run(loop, 0, BEFORE)
    saved, manifolds = plain(loop.state_dict()), {"points": ours, "layer": Euclidean()}
    _, state = from_torch(saved, params=tree(start), names=PATHS, manifolds=manifolds, optimizer=kind)
    inner = state.groups[0] if hasattr(state, "groups") else state
    count, buffers = torch_state.unpacked(kind, inner)
    assert set(buffers) == set(saved["state"].get(0, {})) - {"step"}
    again = torch_state.packed(kind, jax.eval_shape(lambda: inner), int(inner.step), count, buffers)
    assert jax.tree.structure(again) == jax.tree.structure(inner)
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(inner)))


def test_rowwise_second_moments_keep_their_axis():
    x, u = jnp.zeros((3, 4)), jnp.arange(12.0).reshape(3, 4)
    np.testing.assert_array_equal(torch_dialects.RowwiseEuclidean(axis=0).component_inner(x, u), (u * u).sum(0, keepdims=True))
    assert torch_dialects.RowwiseEuclidean().component_inner(jnp.zeros(()), jnp.asarray(3.0)) == 9
