"""A key dropped, renamed, repeated, transposed or of another size: each architecture's converter says which, and gives no model."""

import numpy as np
import pytest
import torch

from parity_tests.models import test_gil, test_htgn, test_hybonet_kg, test_hyptorch, test_kgemb, test_murp, test_poincare_embeddings
from reference_torch.models.murp import MuRP
from weights.checkpoint import load
from weights.errors import ConversionError

HTGN = test_htgn.CONFIGS["attention, trained rows"]
LORENTZ = {"manifold": "lorentz", "model": "distance"}
# Architecture -> (its module and configuration, the key of a matrix that is not square).
CASES = {
    "htgn": (lambda: (test_htgn.reference(HTGN), HTGN), "layer2.linear.weight"),
    "gil": (lambda: (test_gil.reference(test_gil.BASE), test_gil.BASE), "encoder.layers.0.conv_e.linear.weight"),
    "poincare_embeddings": (lambda: (test_poincare_embeddings.module_of("lorentz", "distance"), {**LORENTZ, "dim": 4}), "lt.weight"),
    "hyptorch": (lambda: (test_hyptorch.module_of("trained"), {"c": 0.6}), "mlr.p_vals"),
    "kgemb": (lambda: test_kgemb.case("AttH"), "rel_diag.weight"),
    "murp": (lambda: (test_murp.module_of(MuRP), {}), "rvh.weight"),
    "hybonet_kg": (lambda: (test_hybonet_kg.module_of(), test_hybonet_kg.CONFIG), "relation_bias"),
}


def spoiled(state: dict, key: str) -> dict[str, dict]:
    """The state_dict, spoiled at `key` in each way."""
    rest = {name: value for name, value in state.items() if name != key}
    twin = f"{key}_2"
    return {
        "dropped": rest,
        "renamed": {**rest, f"{key}s": state[key]},
        "repeated": {**state, twin: state[key].clone()},
        "transposed": {**state, key: state[key].T.contiguous()},
        "longer": {**state, key: torch.cat([state[key], state[key][:1]])},
        "not finite": {**state, key: torch.where(torch.arange(state[key].numel()).view_as(state[key]) == 3, torch.nan, state[key])},
    }


@pytest.mark.parametrize("arch", CASES)
def test_a_spoiled_key_is_refused(arch: str, tmp_path):
    make, key = CASES[arch]
    module, config = make()
    state = dict(module.state_dict())
    path = tmp_path / "model.pth"
    torch.save(state, path)
    assert load(path, config=config).arch == arch
    for how, bad in spoiled(state, key).items():
        if arch == "poincare_embeddings" and how == "longer":
            continue  # a table with one node more
        torch.save(bad, path)
        with pytest.raises(ConversionError) as error:
            load(path, config=config)
        assert str(path) in str(error.value), how
        assert np.all([word not in str(error.value) for word in ("Traceback", "KeyError")]), how
