"""riemannian_adam against geoopt's RiemannianAdam: the same points after 1, 10, 100 and 1000 steps, over the table of options."""

from __future__ import annotations

from parity_tests.optim.option_table import Row, cases
from parity_tests.optim.trajectories import compare, part


@cases(
    "Adam",
    kept=(
        "lr 0.01, betas (0.8, 0.95), eps 0.001, weight_decay 0.1",
        "lr 0.03, betas (0.8, 0.95), weight_decay 0.1, amsgrad True, stabilize 3",
    ),
)
def test_trajectories_equal_geoopt(row: Row):
    """Each row on some manifolds; `make trajectories` runs all rows on all manifolds for 1000 steps."""
    _, wrong = compare(row, *part(row))
    assert not wrong, "\n".join(wrong)
