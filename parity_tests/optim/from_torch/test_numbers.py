"""The numbers of a state: apart and together again, and in the precision that they had."""

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from parity_tests import draws
from parity_tests.optim.from_torch import loops
from parity_tests.optim.from_torch.loops import BEFORE, CASES, PATHS, SHAPES, run, tree
from parity_tests.optim.from_torch.runs import plain
from port_jax.manifolds import Euclidean, PoincareBall
from port_jax.optim import from_torch
from port_jax.optim.from_torch import numbers
from port_jax.optim.from_torch.kinds import KINDS
from reference_torch.optim.riemannian_adam import RiemannianAdam
from reference_torch.optim.riemannian_sgd import RiemannianSGD


@pytest.mark.parametrize("name", [*CASES])
def test_a_state_comes_apart_and_together(name):
    make, (theirs, ours), settings, _, kind = CASES[name]
    loop = make(loops.tensors(draws.rng(3), theirs, SHAPES), [theirs, None, None, None], **settings)
    start = run(loop, 0, BEFORE)
    saved, manifolds = plain(loop.state_dict()), {"points": ours, "layer": Euclidean()}
    _, state = from_torch(saved, params=tree(start), names=PATHS, manifolds=manifolds, optimizer=kind)
    inner = state.groups[0] if hasattr(state, "groups") else state
    count, buffers = numbers.unpacked(KINDS[kind], inner)
    assert set(buffers) == set(saved["state"].get(0, {})) - {"step"}
    again = numbers.packed(KINDS[kind], jax.eval_shape(lambda: inner), int(inner.step), count, buffers)
    assert jax.tree.structure(again) == jax.tree.structure(inner)
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(inner)))


TABLE = 0.3 * draws.rng(0).normal(size=(8, 3))


@pytest.mark.parametrize(
    "make",
    [
        lambda p: RiemannianAdam(p, 0.03, amsgrad=True),
        lambda p: RiemannianSGD(p, 0.03, 0.9),
        lambda p: torch.optim.RMSprop(p, 0.03, momentum=0.5),
        lambda p: torch.optim.Adagrad(p, 0.03),
    ],
)
def test_float32_states_stay_float32(make):
    """Also in a session of float64; and float64 states keep their digits in one of float32."""
    for dtype, x64 in ((torch.float32, True), (torch.float64, False)):
        riemannian = isinstance(make([torch.nn.Parameter(torch.ones(2))]), geoopt.optim.mixin.OptimMixin)
        first = torch.tensor(TABLE, dtype=dtype)
        parameter = (
            geoopt.ManifoldParameter(first, manifold=geoopt.PoincareBall(torch.tensor(0.7, dtype=dtype)))
            if riemannian
            else torch.nn.Parameter(first)
        )
        optimizer = make([parameter])
        for step in range(BEFORE):
            parameter.grad = torch.tensor(draws.rng(step).normal(size=TABLE.shape), dtype=dtype)
            optimizer.step()
        saved = plain(optimizer.state_dict())
        start = parameter.detach().numpy().copy()
        with jax.enable_x64(x64):
            params = jnp.asarray(start) if x64 else start
            tx, state = from_torch(saved, params=params, names=["(the root)"], manifolds=PoincareBall(0.7))
            floats = [x for x in jax.tree.leaves(state) if np.issubdtype(x.dtype, np.floating)]
            assert floats
            assert {x.dtype.name for x in floats} == {str(dtype).removeprefix("torch.")}
            if not x64:
                continue
            move = jax.jit(tx.update)
            for step in range(BEFORE, BEFORE + 5):
                grad = draws.rng(step).normal(size=TABLE.shape).astype(np.float32)
                updates, state = move(jnp.asarray(grad), state, params)
                params = optax.apply_updates(params, updates)
                parameter.grad = torch.tensor(grad)
                optimizer.step()
            end = parameter.detach().numpy()
            assert params.dtype == np.float32
            np.testing.assert_allclose(params, end, rtol=0, atol=2e-5 * np.abs(end - start).max())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_goes_on(dtype):
    """Second moments that repeat one number along a point become that number, and such that do not are refused."""
    first = torch.tensor(0.6 * TABLE).to(dtype)  # near the boundary, geoopt's points in half precision step out of the ball
    point = geoopt.ManifoldParameter(first, manifold=geoopt.PoincareBall(torch.tensor(0.7, dtype=dtype)))
    optimizer = geoopt.optim.RiemannianAdam([point], 0.3)
    grads = [torch.tensor(draws.rng(step).normal(size=TABLE.shape)).to(dtype) for step in range(3)]
    for grad in grads[:2]:
        point.grad = grad.clone()
        optimizer.step()
    saved = {**optimizer.state_dict(), "state": {0: {k: halves(v) for k, v in optimizer.state[point].items()}}}
    start = halves(point.detach())
    given = {"params": jnp.asarray(start), "names": ["(the root)"], "manifolds": PoincareBall(0.7)}
    tx, state = from_torch(saved, **given)
    updates, _ = tx.update(jnp.asarray(halves(grads[2])), state, given["params"])
    point.grad = grads[2].clone()
    optimizer.step()
    ours, theirs = (np.asarray(x, np.float32) for x in (jnp.asarray(start) + updates, halves(point.detach())))
    # geoopt rounds each operation of the step, of which there are some ten, to half precision
    gate, way = 10 * float(jnp.finfo(start.dtype).eps) * np.abs(theirs).max(), np.abs(theirs - np.asarray(start, np.float32)).max()
    assert np.abs(ours - theirs).max() < gate < way
    saved["state"][0]["exp_avg_sq"] = saved["state"][0]["exp_avg_sq"] * np.array([1, 1, 1.25], start.dtype)
    with pytest.raises(ValueError, match=r"exp_avg_sq of .* differs along a point's axes"):
        from_torch(saved, **given)


def halves(x):
    """A tensor as an array of its own type; anything else as it is."""
    return np.asarray(jnp.asarray(x.float().numpy()).astype(str(x.dtype).removeprefix("torch."))) if isinstance(x, torch.Tensor) else x


@pytest.mark.parametrize("piece", [1, 24, 40, 100, 1 << 20])
@pytest.mark.parametrize("shape", [(), (1,), (7,), (1, 9), (5, 3), (2, 4, 3)])
def test_pieces_are_the_whole(monkeypatch: pytest.MonkeyPatch, piece: int, shape: tuple[int, ...]):
    """Each element is in one piece, beside what broadcasts to it, and a piece has more bytes than it should only if it is a number."""
    monkeypatch.setattr(numbers, "PIECE", piece)
    rng = draws.rng(0)
    whole = np.asarray(rng.normal(size=shape))
    for ones in np.ndindex(*(2,) * len(shape)):
        other = np.asarray(rng.normal(size=[1 if one else n for one, n in zip(ones, shape, strict=True)]))
        found = list(numbers.pieces(whole, other))
        assert np.array_equal(np.concatenate([part.reshape(-1) for part, _ in found]), whole.reshape(-1))
        assert np.array_equal(np.concatenate([(part - own).reshape(-1) for part, own in found]), (whole - other).reshape(-1))
        assert all(part.nbytes <= max(piece, 8) for part, _ in found)


@pytest.mark.parametrize("piece", [40, 1 << 20])
def test_numbers_of_points_are_seen_in_pieces(monkeypatch: pytest.MonkeyPatch, piece: int):
    """What is said of a whole table is said of it in pieces: its last row has the number that is not finite, or is not the same."""
    monkeypatch.setattr(numbers, "PIECE", piece)
    rng = draws.rng(0)
    start, ball = jnp.asarray(0.1 * rng.normal(size=(9, 3))), PoincareBall(0.7)
    first, second = rng.normal(size=(9, 3)), np.repeat(rng.random((9, 1)), 3, 1)

    def resumed(first: np.ndarray, second: np.ndarray):
        saved = {
            "state": {0: {"step": 2, "exp_avg": first, "exp_avg_sq": second}},
            "param_groups": [
                {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0, "amsgrad": False, "stabilize": None, "params": [0]}
            ],
        }
        return from_torch(saved, params=start, names=["(the root)"], manifolds=ball)[1]

    state = resumed(first, second)
    assert np.array_equal(state.mu, first)
    assert np.array_equal(state.nu, second[:, :1])
    odd = second.copy()
    odd[-1, -1] *= 1.01
    with pytest.raises(ValueError, match="differs along a point's axes"):
        resumed(first, odd)
    odd = first.copy()
    odd[-1, -1] = np.nan
    with pytest.raises(ValueError, match="is not finite"):
        resumed(odd, second)
