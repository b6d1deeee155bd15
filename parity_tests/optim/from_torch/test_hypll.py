"""HypLL's optimizers: stopped after some steps of their loops and gone on with here, back again, and single steps at 50 digits."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from mpmath import mpf, sqrt, workdps

from parity_tests import draws, slow
from parity_tests.optim.from_torch import loops
from parity_tests.optim.from_torch.loops import AFTER, BEFORE, PATHS, SHAPES, assert_same_path, ball, follow, gradients, run, tree
from parity_tests.optim.from_torch.runs import plain
from parity_tests.oracle import stereographic
from parity_tests.oracle.networks import exactly
from port_jax.manifolds import Euclidean, Lorentz
from port_jax.optim import from_torch, to_torch
from port_jax.optim.from_torch.hypll import first_gradient_sgd
from reference_torch.layers.hypll import Columns
from reference_torch.optim.from_torch import hypll

C = 0.7


class Adam(loops.Loop):
    kind = hypll.RiemannianAdam

    def __init__(self, params, points, **settings):
        super().__init__(params, points, **{"betas": (0.8, 0.97), "eps": 1e-3, "weight_decay": 0.1, **settings})
        self.moved[1] = as_columns(self, 1)


class Descent(loops.Loop):
    kind = hypll.RiemannianSGD

    def __init__(self, params, points, **settings):
        super().__init__(params, points, **{"weight_decay": 0.05, **settings})


def as_columns(loop, n: int) -> Columns:
    """The parameter n of a loop as one of columns, of the same memory."""
    group = loop.optimizer.param_groups[0]
    group["params"][n] = Columns(loop.params[n])
    return group["params"][n]


CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "adam": (Adam, {}),
    "adam, amsgrad": (Adam, {"amsgrad": True, "lr": 0.1}),
    "descent": (Descent, {"lr": 0.02}),
    "descent, momentum": (Descent, {"lr": 0.005, "momentum": 0.8, "dampening": 0.3}),
    "descent, nesterov": (Descent, {"lr": 0.005, "momentum": 0.7, "nesterov": True}),
}
COLUMN = {"layer/kernel": [0]}


def kind_of(make) -> str:
    return f"hypll.{make.kind.__name__}"


def made(make, settings):
    """A loop at its start, and the manifolds."""
    theirs, ours = ball(C)
    loop = make(loops.tensors(draws.rng(3), theirs, SHAPES), [theirs, None, None, None], **settings)
    return loop, {"points": ours, "layer": Euclidean()}


@pytest.mark.parametrize(("before", "name"), slow.all_but({(BEFORE, "adam"), (BEFORE, "descent, momentum")},
                                                          [(n, name) for name in CASES for n in (BEFORE, 0)]))  # fmt: skip
def test_goes_on_as_its_loop_does(name: str, before: int):
    make, settings = CASES[name]
    loop, manifolds = made(make, settings)
    start = run(loop, 0, before)
    saved = plain(loop.state_dict())
    tx, state = from_torch(saved, params=tree(start), names=PATHS, manifolds=manifolds, optimizer=kind_of(make), last_axes=COLUMN)
    found, state = follow(tx, state, start, before, AFTER)
    assert_same_path(found, run(loop, before, AFTER), start)
    back, _ = to_torch(state, saved, params=tree(found), names=PATHS, manifolds=manifolds, optimizer=kind_of(make), last_axes=COLUMN)
    end = plain(loop.state_dict())
    assert {i for i, entry in back["state"].items() if entry} == {i for i, entry in end["state"].items() if entry}
    for i, entry in end["state"].items():
        for buffer, value in entry.items():
            np.testing.assert_allclose(back["state"][i][buffer], value, rtol=1e-8, atol=1e-12, err_msg=f"{buffer} of {PATHS[i]}")


def test_the_first_gradient_stays_on_the_ball():
    make, settings = CASES["descent, momentum"]
    loop, manifolds = made(make, settings)
    start = run(loop, 0, 0)
    first = [np.asarray(g) for g in gradients(start, 0)]
    run(loop, 0, BEFORE)
    saved = plain(loop.state_dict())
    np.testing.assert_array_equal(saved["state"][0]["momentum_buffer"], first[0])
    assert np.abs(saved["state"][1]["momentum_buffer"] - first[1]).max() > 0.1
    tx = first_gradient_sgd(0.005, 0.8, 0.3, 0.05, manifolds=manifolds)
    _, state = follow(tx, tx.init(tree(start)), start, 0, BEFORE)
    np.testing.assert_array_equal(state.momentum["points"], first[0])


@pytest.mark.slow  # test_three_steps_of_adam_at_50_digits has the same steps
def test_missing_gradients_and_half_precision():
    """A parameter begins with the first gradient that it has; buffers are of the parameters' type."""
    make, settings = CASES["descent, momentum"]
    _, manifolds = made(make, settings)
    params = tree(run(made(make, settings)[0], 0, 0))
    tx = first_gradient_sgd(0.01, 0.5, manifolds=manifolds)
    grads = jax.tree.map(jnp.ones_like, params)
    missing = {"points": None, "layer": grads["layer"]}
    updates, state = tx.update(missing, tx.init(params), params)
    assert not np.any(updates["points"])
    assert int(state.count["points"]) == 0
    updates, state = jax.jit(tx.update)(grads, state, params)
    np.testing.assert_array_equal(state.momentum["points"], grads["points"])
    half = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
    updates, state = tx.update(jax.tree.map(lambda g: g.astype(jnp.bfloat16), grads), tx.init(half), half)
    assert {leaf.dtype for leaf in jax.tree.leaves((updates, state.momentum))} == {jnp.dtype(jnp.bfloat16)}


def test_points_of_the_hyperboloid_are_refused():
    for make in (Adam, Descent):
        _, manifolds = made(make, {})
        saved = plain(made(make, {})[0].state_dict())
        params = {**tree(run(made(make, {})[0], 0, 0)), "points": jnp.ones((5, 3))}
        with pytest.raises(ValueError, match=rf"points is on Lorentz; {kind_of(make)} moves points of balls"):
            from_torch(saved, params=params, names=PATHS, manifolds={**manifolds, "points": Lorentz(1.3)}, optimizer=kind_of(make))


def stepped(make, settings, steps=3):
    """The points and first columns before each step, their gradients, and what there is in the end."""
    loop, manifolds = made(make, settings)
    values = run(loop, 0, 0)
    tx, state = from_torch(plain(loop.state_dict()), params=tree(values), names=PATHS, manifolds=manifolds,
                           optimizer=kind_of(make), last_axes=COLUMN)  # fmt: skip
    seen = []
    for step in range(steps):
        seen.append((values, gradients(values, step)))
        values, state = follow(tx, state, values, step, 1)
    return seen, values


def test_three_steps_of_adam_at_50_digits():
    """A point of the ball, and a column of a kernel of four rows."""
    settings = {"lr": 0.03, "betas": (0.8, 0.97), "eps": 1e-3, "weight_decay": 0.1}
    seen, end = stepped(Adam, settings)
    with workdps(50):
        k, lr, b1, b2, eps, decay = -mpf(C), mpf(0.03), mpf(0.8), mpf(0.97), mpf(1e-3), mpf(0.1)
        p, m, v = exactly(seen[0][0][0][1]).tolist(), [mpf(0)] * 3, mpf(0)
        q, n, w = exactly(seen[0][0][1][:, 1]).tolist(), [mpf(0)] * 4, mpf(0)
        for t, (values, grads) in enumerate(seen, 1):
            assert relative(values[0][1], p) < 1e-13
            g = [a + decay * b for a, b in zip(exactly(np.asarray(grads[0][1])).tolist(), p, strict=True)]
            r = stereographic.egrad2rgrad(p, g, k)
            m = [b1 * a + (1 - b1) * b for a, b in zip(m, r, strict=True)]
            v = b2 * v + (1 - b2) * stereographic.inner(p, r, r, k)
            size = -lr / (1 - b1**t) / (sqrt(v / (1 - b2**t)) + eps)
            new = stereographic.expmap(p, stereographic.times(size, m), k)
            p, m = new, stereographic.transp(p, new, m, k)
            g = [a + decay * b for a, b in zip(exactly(np.asarray(grads[1][:, 1])).tolist(), q, strict=True)]
            n = [b1 * a + (1 - b1) * b for a, b in zip(n, g, strict=True)]
            w = b2 * w + (1 - b2) * sum(a * a for a in g)
            size = -lr / (1 - b1**t) / (sqrt(w / (1 - b2**t)) + eps)
            q = [a + size * b for a, b in zip(q, n, strict=True)]
        assert relative(end[0][1], p) < 1e-13
        assert relative(end[1][:, 1], q) < 1e-13


def test_three_steps_of_descent_at_50_digits():
    settings = {"lr": 0.03, "momentum": 0.8, "dampening": 0.3, "weight_decay": 0.05}
    seen, end = stepped(Descent, settings)
    with workdps(50):
        k, lr, mu, damping, decay = -mpf(C), mpf(0.03), mpf(0.8), mpf(0.3), mpf(0.05)
        p = exactly(seen[0][0][0][1]).tolist()
        first = exactly(np.asarray(seen[0][1][0][1])).tolist()
        for _, grads in seen:
            g = [a + decay * b for a, b in zip(exactly(np.asarray(grads[0][1])).tolist(), p, strict=True)]
            r, b = (stereographic.egrad2rgrad(p, u, k) for u in (g, first))
            d = [mu * a + (1 - damping) * c for a, c in zip(b, r, strict=True)]
            p = stereographic.expmap(p, stereographic.times(-lr, d), k)
        assert relative(end[0][1], p) < 1e-13


def relative(have, want) -> float:
    want = np.array(want, float)
    return float(np.abs(np.asarray(have) - want).max() / np.abs(want).max())


def test_a_state_without_a_name_is_said_to_be_hyplls():
    """Its own name makes a translation of it; `test_repositories.py` has the message and what is not taken for it."""
    make, settings = CASES["adam"]
    loop, manifolds = made(make, settings)
    start = run(loop, 0, BEFORE)
    saved = plain(loop.state_dict())
    with pytest.raises(ValueError, match=r"HypLL's RiemannianAdam: .* pass optimizer='hypll\.RiemannianAdam'"):
        from_torch(saved, params=tree(start), names=PATHS, manifolds=manifolds)
    with pytest.raises(ValueError, match="exp_avg_sq of layer/kernel differs along a point's axes"):
        from_torch(saved, params=tree(start), names=PATHS, manifolds=manifolds, optimizer="hypll.RiemannianAdam")


def test_torchs_loader_takes_the_reference():
    """A state_dict of the reference loads into a new one, counts and types included."""
    loop, _ = made(Adam, {"amsgrad": True})
    run(loop, 0, 2)
    again, _ = made(Adam, {"amsgrad": True})
    again.optimizer.load_state_dict(loop.optimizer.state_dict())
    assert [type(s["step"]) for s in again.optimizer.state.values()] == [int] * 4
    assert all(torch.equal(a["exp_avg_sq"], b["exp_avg_sq"]) for a, b in
               zip(loop.optimizer.state.values(), again.optimizer.state.values(), strict=True))  # fmt: skip
