"""A sample of the accuracy grid: port_jax is right to the conditioning, and nowhere less accurate than geoopt."""

from __future__ import annotations

import numpy as np
import pytest

from parity_tests.oracle import grid
from parity_tests.oracle.accuracy import SPACES, measure

SAMPLE = {
    "ball": ["dist", "expmap", "logmap", "transp", "mobius_sub", "dist2plane"],
    "sphere": ["dist", "expmap", "logmap", "transp"],
    "lorentz": ["dist", "dist0", "norm", "expmap", "expmap0", "logmap", "transp", "transp0back"],
}
ULP = 64
"""Errors beyond the condition number of a case, in eps."""


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("space", SPACES)
def test_sample(space, dtype):
    cases = grid.draw(space, dtype, SPACES[space], thin=23)
    wrong = []
    for name in SAMPLE[space]:
        row, _, _ = measure(space, name, cases, dtype)
        if not row.port_jax_conditioned <= ULP:
            wrong.append(f"{name}: {row.port_jax_conditioned:.3g} eps beyond the conditioning")
        for at in ("p50", "p99", "max"):
            mine, theirs = getattr(row, f"port_jax_{at}"), getattr(row, f"geoopt_{at}")
            # Two roundings of the same ill-conditioned number differ by chance: twice, and two ulp.
            if not mine <= 2 * theirs + 2:
                wrong.append(f"{name}: {at} error {mine:.3g} eps, geoopt {theirs:.3g}")
    assert not wrong, "\n".join(wrong)
