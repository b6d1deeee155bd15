"""A key dropped, renamed, repeated, transposed or of another size: each architecture's converter says which, and gives no model.

A square matrix that was transposed has the right shape. `verify` sees that one: see `test_verify.py`.
"""

from pathlib import Path

import pytest
import torch

from parity_tests import slow
from parity_tests.models import (
    test_gat,
    test_gcn,
    test_gil,
    test_hgcn,
    test_hnn,
    test_htgn,
    test_hybonet,
    test_hybonet_kg,
    test_hyptorch,
    test_kgemb,
    test_mlp,
    test_murp,
    test_poincare_embeddings,
    test_shallow,
)
from parity_tests.models.conversion import spoiled
from reference_torch.models.hgat import HGAT
from reference_torch.models.murp import MuRP
from weights.checkpoint import load
from weights.errors import ConversionError
from weights.models import ARCHITECTURES

HTGN = test_htgn.CONFIGS["attention, trained rows"]
LORENTZ = {"manifold": "lorentz", "model": "distance", "dim": 4}
HGAT_CONFIG = {"in_features": 5, "features": [4, 3], "heads": 2, "preset": "gil", "curvature": 0.7, "num_classes": 3, "arch": "hgat"}


def framed(test, name: str, key: str):
    config = test.FRAME.config(name)
    return (lambda: (getattr(test, "reference", test.FRAME.module)(config), config)), key


# Architecture -> (its module and configuration, the key of a matrix that is not square).
CASES = {
    "hgat": (lambda: (HGAT(**{k: v for k, v in HGAT_CONFIG.items() if k != "arch"}), HGAT_CONFIG), "layers.0.linear.weight"),
    "hgcn": framed(test_hgcn, "ball, links, trained, local", "encoder.layers.1.agg.att.linear.weight"),
    "hnn": framed(test_hnn, "ball, links, trained", "encoder.layers.0.linear.weight"),
    "shallow": framed(test_shallow, "classes, pretrained", "encoder.layers.0.linear.weight"),
    "gcn": framed(test_gcn, "classes", "encoder.layers.0.linear.weight"),
    "gat": framed(test_gat, "classes", "encoder.layers.0.attention_1.W"),
    "mlp": framed(test_mlp, "classes", "encoder.layers.0.linear.weight"),
    "hybonet": framed(test_hybonet, "classes, attention", "decoder.cls"),
    "htgn": (lambda: (test_htgn.reference(HTGN), HTGN), "layer2.linear.weight"),
    "gil": (lambda: (test_gil.reference(test_gil.BASE, [8]), test_gil.BASE), "encoder.layers.0.conv_e.linear.weight"),
    "poincare_embeddings": (lambda: (test_poincare_embeddings.module_of("lorentz", "distance"), LORENTZ), "lt.weight"),
    "hyptorch": (lambda: (test_hyptorch.module_of("trained"), {"c": 0.6}), "mlr.p_vals"),
    "kgemb": (lambda: test_kgemb.case("AttH"), "rel_diag.weight"),
    "murp": (lambda: (test_murp.module_of(MuRP), {}), "rvh.weight"),
    "hybonet_kg": (lambda: (test_hybonet_kg.module_of(), test_hybonet_kg.CONFIG), "relation_bias"),
}


def test_every_architecture_is_here():
    assert set(CASES) == set(ARCHITECTURES)


@pytest.mark.parametrize("arch", slow.all_but(lambda arch: arch != "gil", CASES))
def test_a_spoiled_key_is_refused(arch: str, tmp_path: Path):
    make, key = CASES[arch]
    module, config = make()
    state = dict(module.state_dict())
    path = tmp_path / "model.pth"
    torch.save(state, path)
    assert load(path, config=config).arch == arch
    assert state[key].shape[0] != state[key].shape[1]
    for how, bad in spoiled(state, key).items():
        if arch == "poincare_embeddings" and how == "longer":
            continue  # a table with one node more
        torch.save(bad, path)
        with pytest.raises(ConversionError) as error:
            load(path, config=config)
        message = str(error.value)
        assert str(path) in message, how
        assert not any(word in message for word in ("Traceback", "KeyError")), how
