"""Dialects of the step count: what follows from a count of the group beside the bias corrections."""

import jax
import numpy as np
import pytest

from parity_tests import draws
from parity_tests.optim.from_torch import loops
from parity_tests.optim.from_torch.loops import PATHS, SHAPES, ball, gradients, run, tree
from parity_tests.optim.from_torch.runs import plain
from port_jax.manifolds import Euclidean
from port_jax.manifolds.base import pytree
from port_jax.optim import from_torch


@pytree
class Marked(Euclidean):
    """A flat space whose projection shows when it is applied."""

    def projx(self, x):
        return x + 100


@pytest.mark.parametrize(("make", "once"), [(loops.OldGeoopt, 8), (loops.MiddleGeoopt, 1), (loops.Hybonet, 1)])
def test_points_are_stabilized_when_the_groups_count_says_so(make, once):
    loop = make(loops.tensors(draws.rng(3), ball(0.7)[0], SHAPES), [None] * 4, stabilize=12 if once > 1 else 3)
    start = run(loop, 0, 2)
    kind = "hybonet.RiemannianAdam" if make is loops.Hybonet else "RiemannianAdam"
    tx, state = from_torch(plain(loop.state_dict()), params=tree(start), names=PATHS, manifolds=Marked(), optimizer=kind)
    move, params, jumped = jax.jit(tx.update), tree(start), []
    for step in range(2, 10):
        updates, state = move(tree(gradients(start, step)), state, params)
        jumped.append(bool(np.abs(updates["points"]).min() > 50))
    assert jumped == [once * n % (12 if once > 1 else 3) == 0 for n in range(3, 11)]
