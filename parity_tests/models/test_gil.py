"""GIL and its HGAT baseline in Flax against torch: node classification and links, every flag of the training script."""

from functools import partial

import numpy as np
import pytest
import torch

from parity_tests import slow
from parity_tests.models.cases_gil import CONFIGS, GRAPH, TORCH_GRAPH, WIDTHS, X, ours, reference, theirs
from parity_tests.models.conversion import (
    NODES,
    check_parity,
    check_round_trip,
    converted,
)
from weights.checkpoint import load
from weights.errors import ConversionError
from weights.proof.verify import verify

SHORT = {"classes, trained c", "links, pubmed, averaged heads"}  # one layer


@pytest.mark.parametrize("name", slow.all_but({"HGAT links, trained c"}, CONFIGS))
def test_forward_and_gradients(name: str, tmp_path):
    module = reference(CONFIGS[name], WIDTHS[:1] if name in SHORT else WIDTHS)
    ckpt = converted(module, CONFIGS[name], tmp_path)
    assert ckpt.arch == "gil"
    check_parity(module, ckpt, theirs, ours, single=name == "HGAT classes")
    check_round_trip(ckpt, tmp_path)


def test_a_trained_curvature_beside_a_fixed_one_is_refused(tmp_path):
    """geoopt from 0.2 on takes a copy of c's start into the classifier's ball; the original's version keeps the parameter."""
    state = reference(CONFIGS["classes, trained c"]).state_dict()
    assert state["decoder.ball.c"].data_ptr() == state["c"].data_ptr()
    state["decoder.ball.isp_c"] = state.pop("decoder.ball.c").clone()
    torch.save(state, tmp_path / "model.pth")
    with pytest.raises(ConversionError, match=r"decoder\.ball\.isp_c"):
        load(tmp_path / "model.pth", config=CONFIGS["classes, trained c"])


def test_curvature_comes_from_the_configuration(tmp_path):
    module = reference(CONFIGS["HGAT classes"])
    config = {key: value for key, value in CONFIGS["HGAT classes"].items() if key != "c"}
    with pytest.raises(ConversionError, match="curvature"):
        converted(module, config, tmp_path)
    assert converted(module, config, tmp_path, curvature=0.7).model.curvature == 0.7


def test_features_out_of_the_unit_ball_are_refused(tmp_path):
    """With c below 1, and only there. The original's formula, on float32, is infinite and has no gradient there."""
    config = {**CONFIGS["HGAT classes"], "c": 0.6}
    module = reference(config, WIDTHS[:1])
    ckpt = converted(module, config, tmp_path)
    wide = np.where(np.arange(NODES)[:, None] == 7, 3.0, X)
    encode = partial(ckpt.model.apply, ckpt.variables, method="encode")
    for apply in (lambda: module.encode(torch.as_tensor(wide), TORCH_GRAPH), lambda: encode(wide, GRAPH)):
        with pytest.raises(ValueError, match="out of the unit ball"):
            apply()
    np.savez(tmp_path / "graph.npz", edges=np.zeros((2, 1), int), features=wide)
    with pytest.raises(ConversionError, match=r"length 6.71; c = 0.6 maps it out of the unit ball"):
        verify(ckpt, tmp_path / "model.pth", tmp_path / "graph.npz", level="forward")
    wide[7] /= np.linalg.norm(wide[7])
    assert np.isfinite(encode(wide, GRAPH)).all()
    weight = torch.tensor(0.5, requires_grad=True)
    torch.tanh((weight * torch.atanh(torch.tensor(1.2).clamp(max=1 - 1e-15))).clamp(-15, 15)).backward()
    assert torch.isnan(torch.as_tensor(weight.grad))
