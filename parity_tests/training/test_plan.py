"""A plan: the same program on one device, on eight and in two processes, and a run that goes on with other numbers of them."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parity_tests import draws
from parity_tests.processes import run as in_processes
from parity_tests.training import planned_run
from port_jax.manifolds import PoincareBall
from port_jax.optim import riemannian_adam
from port_jax.training import Plan, TrainingError, fit, train_state
from port_jax.training.state import named

BALL = PoincareBall(0.7)


def run(folder: Path, steps: int, devices: int, kind: str = "Auto", processes: int = 1) -> dict:
    """What planned_run.py writes, run in this process, or in another with simulated devices, or in several with so many each."""
    out = folder.with_suffix(".json")
    arguments = (str(out), str(folder), str(steps), kind)
    if devices == 1:
        planned_run.main(*arguments)
    else:
        in_processes("parity_tests.training.planned_run", *arguments, devices=devices, processes=processes)
    return json.loads(out.read_text())


def same(found: dict, expected: dict) -> None:
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-13)
    np.testing.assert_allclose(found["points"], expected["points"], rtol=1e-12, atol=1e-15)


def test_two_processes_and_one_device_give_the_same(tmp_path: Path):
    """Also where the second half of the run has other processes than the first."""
    one = run(tmp_path / "one", 8, devices=1)
    assert one["parts"] == one["moments"] == [16]
    two = run(tmp_path / "two", 4, devices=2, processes=2)
    assert two["parts"] == two["moments"] == [4]
    np.testing.assert_allclose(two["loss"], one["loss"][:4], rtol=1e-13)
    same(run(tmp_path / "two", 8, devices=1), one)


@pytest.mark.slow  # as the one above
@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_eight_devices_give_the_same(kind: str, tmp_path: Path):
    one = run(tmp_path / "one", 8, devices=1)
    eight = run(tmp_path / "eight", 8, devices=8, kind=kind)
    assert (eight["parts"], eight["moments"], eight["compilations"]) == ([2], [2], 1)
    same(eight, one)
    same(run(tmp_path / "eight", 8, devices=2, processes=2, kind=kind), one)


def state(**params: tuple[int, ...]):
    tree = {name: jnp.full(shape, 0.1) for name, shape in params.items()}
    return train_state(tree, riemannian_adam(0.1, manifolds=BALL), draws.key(0))


def plan(*tables: str, axis: str = "x") -> Plan:
    return Plan(jax.make_mesh((1,), ("x",)), axis, tables)


def test_moments_lie_as_their_table():
    """Of two parameters whose names end alike, only the one that is named is split."""
    lies = plan("w").shardings(state(w=(4, 2), a_w=(4, 2)))
    split = {name for name, x in {**lies.params, **{f"mu {n}": x for n, x in lies.opt_state.mu.items()}}.items() if x.spec}
    assert split == {"w", "mu w"}
    assert lies.opt_state.nu["w"].spec
    assert not lies.step.spec
    nested = {"w": jnp.ones((4, 2)), "v": {"w": jnp.ones((4, 2))}}
    for table, other in (("w", "v/w"), ("v/w", "w")):
        found = named(plan(table).shardings(train_state(nested, riemannian_adam(0.1, manifolds=BALL), draws.key(0))).opt_state.mu)
        assert found[table].spec
        assert not found[other].spec


def test_what_cannot_be_split_is_named():
    with pytest.raises(ValueError, match=r"rows is 'y', and the mesh has the axes 'x'"):
        plan(axis="y")
    with pytest.raises(ValueError, match=r"mesh is 8; make one: jax\.make_mesh"):
        Plan(8)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match=r"plan is 8; give a port_jax\.training\.Plan"):
        fit(lambda s, b: (s, {}), state(w=(4, 2)), steps=1, batch=(), plan=8)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TrainingError, match=r"splits 'point', which is no parameter; those are points"):
        plan("point").place(state(points=(4, 2)))
    eight = jax.sharding.AbstractMesh((8,), ("x",))
    uneven = plan("points")
    object.__setattr__(uneven, "mesh", eight)
    with pytest.raises(TrainingError, match=r"parameter points has 12 rows, which 8 devices along 'x' do not divide; pad to a multiple"):
        uneven.shardings(state(points=(12, 2)))
    with pytest.raises(TrainingError, match=r"an array of the batch has 5 rows"):
        uneven.batch(np.ones((5, 2)))


def test_without_more_devices_nothing_changes():
    def count(state, batch):
        return state._replace(step=state.step + 1), {"loss": jnp.sum(batch) + state.params["w"].sum()}

    found = [fit(count, state(w=(4, 2)), steps=3, batches=lambda n: np.full(2, n), plan=p, progress=False) for p in (None, plan("w"))]
    assert found[0].history.steps["loss"] == found[1].history.steps["loss"]
