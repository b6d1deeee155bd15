"""riemannian_sgd against geoopt's RiemannianSGD: the same points after 1, 10, 100 and 1000 steps, over the table of options."""

from __future__ import annotations

from parity_tests.optim.option_table import Row, cases
from parity_tests.optim.trajectories import compare, part


@cases("SGD", kept=("lr 0.0005, momentum 0.9",))
def test_trajectories_equal_geoopt(row: Row):
    """Each row on some manifolds; `make trajectories` runs all rows on all manifolds for 1000 steps."""
    _, wrong = compare(row, *part(row))
    assert not wrong, "\n".join(wrong)
