"""A sample of the accuracy grid: port_jax is right to the conditioning, and nowhere less accurate than geoopt."""

from __future__ import annotations

import numpy as np
import pytest

from parity_tests.oracle import grid
from parity_tests.oracle.accuracy import SPACES, measure

SAMPLE = {
    "ball": ["dist", "expmap", "logmap", "transp", "mobius_sub", "dist2plane"],
    "sphere": ["dist", "expmap", "logmap", "transp", "gyration", "mobius_coadd"],
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


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_transport_between_far_points(dtype):
    """Angles between points 20 and more from the origin are of a few ulp: what depends on them must do so everywhere alike."""
    cases = [c for c in grid.draw("lorentz", dtype, thin=7) if c["r"] >= 0.5 and c["d"] >= 3]
    row, _, _ = measure("lorentz", "transp", cases, dtype)
    assert row.port_jax_conditioned <= ULP, row


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["gyration", "mobius_coadd"])
def test_sphere_near_poles(name, dtype):
    """y near x/(k|x|²), where x + y is at infinity, and near it in norm only, where the coadded point is when y is near x."""
    rng = np.random.default_rng(0)
    cases = []
    for k in (0.3, 1.0, 20.0):
        for off in (1e-1, 1e-3, 1e-6, 1e-10):
            x, aside, v = (rng.standard_normal(3) for _ in range(3))
            x *= (1 if name == "mobius_coadd" else 1.7) / np.sqrt(k * (x @ x))
            y = x / (k * (x @ x)) + off * aside / np.sqrt(k)
            arrays = {"x": x, "y": y, "v": v}
            cases.append({n: a.astype(dtype) for n, a in arrays.items()} | {"k": dtype(k)})
    row, _, _ = measure("sphere", name, cases, dtype)
    assert row.port_jax_conditioned <= ULP, row
