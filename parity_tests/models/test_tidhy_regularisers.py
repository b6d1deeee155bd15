"""Each of TiDHy's regularisers alone, and each change that follows an update, against the original: values and derivatives."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from parity_tests import draws, slow
from parity_tests.models.cases_tidhy import REGULARISED, config_of, module_of, settings
from parity_tests.models.cases_tidhy_training import beside
from parity_tests.models.conversion import converted
from port_jax.models.tidhy_training import Training, regularisers, settled
from reference_torch.models import tidhy_training as original
from weights.checkpoint import Checkpoint

ALONE: dict[str, dict[str, float]] = {
    "cos_eta": {"cos_eta": 3.0},
    "Orth_alpha_r2": {"Orth_alpha_r2": 2.0},
    "Orth_alpha_spat": {"Orth_alpha_spat": 0.7},
    "L1_alpha": {"L1_alpha": 0.3},
    "L1_alpha_spat": {"L1_alpha_spat": 0.4},
    "L1_alpha_W": {"L1_alpha_W": 0.6},
    "Lnuc_alpha": {"Lnuc_alpha": 0.2},
    "L0_alpha, a switch for a count times L1_alpha": {"L0_alpha": 0.5, "L1_alpha": 0.3},
}
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "full": ("as it is", {}),
    "low rank": ("low rank, dynamic bias, thresholds, L1", {"mix_dim": 6}),
    "deep decoder": ("as it is", {"nonlin_decoder": True, "decoder_hid_dims": [7, 4]}),
}
WITHOUT = dict.fromkeys((name for name in {"cos_eta", "Orth_alpha_r2", *REGULARISED} if "alpha" in name or "eta" in name), 0.0)


def pair(shape: str, folder: Path, **more: Any) -> tuple[Any, Checkpoint, dict[str, Any]]:
    """A module of this shape, some of whose dynamics are 0 or nearly so, its conversion, and its settings."""
    variant, own = SHAPES[shape]
    given = settings(variant, **{**own, **WITHOUT, **more})
    module = module_of(given)
    with torch.no_grad():
        module.temporal.view(-1)[:3] = torch.tensor([0.0, 5e-5, -2e-4])
    return module, converted(module, config_of(given), folder), given


BOTH = [pytest.param(name, shape, id=f"{name}, {shape}") for name in ALONE for shape in SHAPES]


@pytest.mark.parametrize(("name", "shape"), slow.all_but(lambda case: case.values[1] == "low rank", BOTH))
def test_each_regulariser_alone(name: str, shape: str, tmp_path: Path):
    """Both sums by random cotangents, with GradNorm, where both are asked for apart, and without."""
    rng = draws.rng(0)
    for balanced in (True, False):
        module, ckpt, given = pair(shape, tmp_path, grad_norm=balanced, **ALONE[name])
        cotangents = rng.normal(size=2)
        want = original.regularisers(module, given)
        sum(float(c) * value for c, value in zip(cotangents, want)).backward()  # pyright: ignore[reportAttributeAccessIssue]
        have, back = jax.vjp(partial(regularisers, ckpt.model, options=Training.of(given)), ckpt.variables["params"])
        np.testing.assert_allclose(have, [float(value.detach()) for value in want], rtol=1e-13)
        (slopes,) = back(type(have)(*(jnp.asarray(c) for c in cotangents)))
        assert (name == "L1_alpha_W" and balanced) == (not any(have)), "a regulariser that is asked for acts"
        for key, slope in beside(ckpt, slopes).items():
            p = module.get_parameter(key)
            theirs = np.zeros(p.shape) if p.grad is None else p.grad.numpy()
            np.testing.assert_allclose(slope, theirs, rtol=1e-11, atol=1e-14 * max(1.0, np.abs(theirs).max()), err_msg=key)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("change", [{"L0_alpha": 0.5}, {"normalize_temporal": True}, {"normalize_spatial": True}, {}])
def test_each_change_after_an_update_alone(change: dict[str, Any], shape: str, tmp_path: Path):
    module, ckpt, given = pair(shape, tmp_path, **change)
    start = beside(ckpt, ckpt.variables["params"])
    original.settled(module, given)
    mine = beside(ckpt, settled(ckpt.variables["params"], Training.of(given)))
    moved = {key for key, p in module.named_parameters() if (p.detach().numpy() != start[key]).any()}
    assert moved == {"normalize_spatial": {"spatial_decoder.0.weight"}}.get(next(iter(change), ""), {"temporal"} if change else set())
    for key, p in module.named_parameters():
        np.testing.assert_allclose(mine[key], p.detach(), rtol=1e-14, err_msg=key)


def test_factors_that_fill_no_matrices_have_no_nuclear_norms(tmp_path: Path):
    """Four factors of 3 x 2 numbers are no whole number of 3 x 3 matrices: the original stops there, and the port says what to do."""
    module, ckpt, given = pair("low rank", tmp_path, mix_dim=4, Lnuc_alpha=0.2)
    with pytest.raises(RuntimeError, match="invalid for input of size 24"):
        original.regularisers(module, given)
    with pytest.raises(ValueError, match="give Lnuc_alpha=0"):
        regularisers(ckpt.model, ckpt.variables["params"], Training.of(given))
