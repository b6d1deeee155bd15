"""The table of trajectories covers what it says, and its comparison sees what it is for."""

from __future__ import annotations

import inspect
import itertools

import numpy as np

from parity_tests.optim import option_table
from parity_tests.optim.option_table import KINDS, ROWS, rows_of, uncovered
from parity_tests.optim.spaces import SPACES
from parity_tests.optim.trajectories import nudged, part, spaces_of
from port_jax import manifolds


def test_every_pair_of_values_of_two_options_occurs_in_a_row(monkeypatch):
    assert not uncovered()
    for row in ROWS:
        assert set(row.options) <= set(KINDS[row.optimizer].values), row
    monkeypatch.setattr(option_table, "ROWS", tuple(r for r in ROWS if not {"eps", "amsgrad"} <= set(r.options)))
    assert "Adam: {'amsgrad': True, 'eps': 0.001}" in uncovered()


def test_every_manifold_is_in_the_table_and_meets_every_optimizer_in_the_suite():
    kinds = {type(space.of_port(np.float64)) for space in SPACES.values()}
    public = [getattr(manifolds, name) for name in manifolds.__all__]
    assert {k for k in public if inspect.isclass(k) and issubclass(k, manifolds.Manifold)} == kinds | {manifolds.Manifold}
    for optimizer, name in itertools.product(KINDS, SPACES):
        runs = [row for row in rows_of(optimizer) if name in part(row)[1]]
        assert len(runs) == any(name in spaces_of(row) for row in rows_of(optimizer)), (optimizer, name)
    assert all(part(row)[1] for row in ROWS)
    assert {part(rows_of(optimizer)[-1])[0] for optimizer in KINDS} == {1000}


def test_a_nudge_is_one_ulp_of_every_coordinate():
    for space in SPACES.values():
        copies = nudged(space.start)
        first = copies[0].view(np.float32)
        for copy in copies[1:]:
            step = np.abs(copy.view(np.float32) - first)
            assert (step > 0).all()
            assert (step <= np.spacing(np.abs(first))).all()
