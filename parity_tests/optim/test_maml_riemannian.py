"""The MAML example: a start that adapts to every task, where joint training leaves slow tasks unsolved."""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parity_tests import draws

PATH = Path(__file__).parents[2] / "examples" / "maml_riemannian.py"


def load():
    spec = importlib.util.spec_from_file_location("maml_riemannian", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow  # the test below has its derivatives
def test_the_start_it_learns_adapts_where_that_of_joint_training_does_not():
    maml = load()
    rng = draws.rng(0)
    centres = jnp.concatenate([jnp.tile(jnp.array([0.5, 0.2]), (4, 1)), jnp.tile(jnp.array([-0.4, -0.3]), (4, 1))])
    goals = maml.BALL.expmap0(centres + 0.02 * rng.normal(size=(8, 2)))
    tasks = (goals, jnp.repeat(jnp.array([1.0, 0.1]), 4))

    def after(before):
        learned = maml.train(jnp.array([0.3, -0.3]), tasks, maml.adapt if before else lambda p, t: p)
        return jax.vmap(lambda t: maml.loss(maml.adapt(learned, t), t))(tasks).mean()

    after = jax.jit(after, static_argnums=0)
    assert float(after(True)) < 0.005
    assert float(after(False)) > 0.05


def test_it_differentiates_through_the_inner_steps():
    """Against central differences, with respect to the start."""
    maml = load()
    task = (jnp.array([0.4, -0.1]), 0.6)

    def adapted_loss(start):
        return maml.loss(maml.adapt(start, task), task)

    start, direction, h = jnp.array([-0.2, 0.5]), jnp.array([0.6, -0.8]), 1e-6

    @jax.jit
    def along(start):
        there, back = (adapted_loss(start + step * direction) for step in (h, -h))
        return (there - back) / (2 * h), jax.grad(adapted_loss)(start) @ direction

    difference, slope = along(start)
    np.testing.assert_allclose(slope, difference, rtol=1e-7)
    assert len(PATH.read_text().splitlines()) < 40
