"""The optimizers of repositories and of older versions of geoopt: stopped after some steps of their loops, gone on with here."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from parity_tests import draws, slow
from parity_tests.optim.from_torch import loops
from parity_tests.optim.from_torch.loops import (
    AFTER,
    BEFORE,
    CASES,
    PATHS,
    SHAPES,
    assert_same_path,
    ball,
    follow,
    gradients,
    hyperboloid,
    run,
    saved_by,
    tree,
)
from parity_tests.optim.from_torch.runs import plain
from port_jax.manifolds import Euclidean, Lorentz
from port_jax.optim import from_torch
from port_jax.optim.from_torch import repositories
from port_jax.optim.from_torch.kinds import KINDS
from port_jax.optim.from_torch.recognition import recognise
from port_jax.optim.from_torch.sections import Section
from reference_torch.optim.from_torch.repositories import factor

# Each loop once, and from the start where something else is kept in the state.
KEPT = {
    (BEFORE, "geoopt 0.3.1, stabilized"),
    (BEFORE, "geoopt 0.5.0, amsgrad"),
    (BEFORE, "hybonet"),
    (BEFORE, "hgcn, amsgrad"),
    (BEFORE, "murp"),
    (BEFORE, "poincare embeddings"),
    (BEFORE, "lorentz embeddings"),
    (0, "murp"),
}


@pytest.mark.parametrize(("before", "name"), slow.all_but(KEPT, [(n, name) for name in CASES for n in (BEFORE, 0)]))
def test_goes_on_as_its_loop_does(name, before):
    make, (theirs, ours), settings, said, kind = CASES[name]
    loop = make(loops.tensors(draws.rng(3), theirs, SHAPES), [theirs, None, None, None], **settings)
    start = run(loop, 0, before)
    saved = plain(loop.state_dict())
    manifolds = {"points": ours, "layer": Euclidean()}
    if before and said is None:
        entries = [dict(zip(PATHS, (saved["state"].get(i, {}) for i in range(4))))]
        assert recognise(Section(saved["param_groups"], [PATHS], entries), PATHS[1:]) is KINDS[kind]
    tx, state = from_torch(saved, params=tree(start), names=PATHS, manifolds=manifolds, optimizer=said if before else kind)
    if not before and make is loops.OldGeoopt:
        return  # a fresh state has no dialect: geoopt 0.5.1's is meant
    found, _ = follow(tx, state, start, before, AFTER)
    assert_same_path(found, run(loop, before, AFTER), start)


def test_sparse_gradients_are_shortened():
    """Whether they were sparse is not in a state but in the configuration."""
    theirs, ours = ball(1.0)
    loop = loops.PoincareEmbeddings(loops.tensors(draws.rng(3), theirs, SHAPES), [theirs, None, None, None], lr=0.01, sparse=True)
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
    loop = loops.PoincareEmbeddings(loops.tensors(draws.rng(3), theirs, SHAPES), [theirs, None, None, None], lr=1.0)
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


def test_rows_of_a_transposed_parameter_are_its_columns():
    theirs, ours = ball(0.7)
    loop = loops.HGCN(loops.tensors(draws.rng(3), theirs, SHAPES), [theirs, None, None, None])
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


def test_hgcn_moves_no_points_of_the_hyperboloid():
    _, saved = saved_by(loops.HGCN)
    params = {"points": jnp.ones((5, 3)), "layer": tree(saved["state"][i]["exp_avg"] for i in range(4))["layer"]}
    with pytest.raises(ValueError, match=r"parameter points is on Lorentz; hgcn\.RiemannianAdam moves points of balls"):
        from_torch(saved, params=params, names=PATHS, manifolds={"points": Lorentz(1.3), "layer": Euclidean()})


def test_rowwise_second_moments_keep_their_axis():
    x, u = jnp.zeros((3, 4)), jnp.arange(12.0).reshape(3, 4)
    np.testing.assert_array_equal(repositories.RowwiseEuclidean(axis=0).component_inner(x, u), (u * u).sum(0, keepdims=True))
    assert repositories.RowwiseEuclidean().component_inner(jnp.zeros(()), jnp.asarray(3.0)) == 9


@pytest.mark.parametrize("amsgrad", [False, True])
def test_hypll_is_not_taken_for_adam(amsgrad: bool):
    """Its second moments are squared norms of columns, or of rows. A gradient that is the same, or opposite, in all rows is Adam's."""
    rng = draws.rng(5)
    group = {"lr": 0.01, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0, "amsgrad": amsgrad, "params": [0, 1]}

    def state(first: np.ndarray, second: np.ndarray) -> dict:
        more = {"max_exp_avg_sq": second} if amsgrad else {}
        return {"step": 3, "exp_avg": first, "exp_avg_sq": second, **more}

    params = {"w": jnp.ones((4, 3)), "b": jnp.ones(3)}
    first, bias = rng.standard_normal((4, 3)), rng.standard_normal(3)

    def resumed(second: np.ndarray, first: np.ndarray, **named: str) -> object:
        states = {0: state(first, second), 1: state(bias, np.full(3, (bias**2).sum()))}
        return from_torch({"state": states, "param_groups": [group]}, params=params, names=["w", "b"], **named)

    for axis in (0, 1):
        norms = np.broadcast_to((first**2).sum(axis, keepdims=True), first.shape).copy()
        with pytest.raises(ValueError, match=r"HypLL's RiemannianAdam: exp_avg_sq of 'w' .* pass optimizer='hypll"):
            resumed(norms, first)
        resumed(norms, first, optimizer="Adam")
    resumed(first**2, first)
    same = np.broadcast_to(first[:1], first.shape).copy()
    resumed(same**2, same)
    resumed(np.zeros_like(first), first)
    classes = np.concatenate([first[:1], -first[:1]])  # two classes' logits have opposite gradients
    states = {0: state(classes, classes**2)}
    from_torch({"state": states, "param_groups": [group | {"params": [0]}]}, params={"w": jnp.ones((2, 3))}, names=["w"])
