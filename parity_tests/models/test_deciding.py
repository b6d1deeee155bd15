"""Settings are in the file, in the configuration or given: a gap names the option, a conflict both sides, the report the source."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from parity_tests.models import cases_hgcn, cases_hnn, cases_shallow
from parity_tests.models.small_models import CASES as MODELS
from weights.checkpoint import load
from weights.errors import ConversionError, Unmatched, Usage
from weights.models import ARCHITECTURES


@dataclass(frozen=True)
class Case:
    """gaps: settings that the file does not have, with the name in the error. conflicts: wrong values of what it does have."""

    gaps: dict[str, str] = field(default_factory=dict)
    conflicts: dict[str, Any] = field(default_factory=dict)


SPACE = {"manifold": "manifold"}
CASES = {
    "hgat": Case({}, {"heads": 4, "features": [4, 4], "num_classes": 5, "manifold": "Lorentz", "curvature": 0.9}),
    "hgcn": Case(SPACE, {"dim": 9, "feat_dim": 9, "num_layers": 3, "task": "nc", "use_att": 0}),
    "hnn": Case(SPACE, {"dim": 9, "feat_dim": 9, "num_layers": 3, "task": "nc"}),
    "shallow": Case(SPACE, {"n_nodes": 99, "dim": 9, "n_classes": 9, "use_feats": 0}),
    "gcn": Case(SPACE, {"dim": 9, "n_classes": 9, "bias": 0}),
    "gat": Case(SPACE, {"dim": 9, "n_heads": 4, "n_classes": 9}),
    "mlp": Case(SPACE, {"dim": 9, "n_classes": 9, "bias": 0}),
    "hybonet": Case({}, {"dim": 9, "feat_dim": 9, "n_classes": 9, "use_att": 0, "bias": 0}),
    "htgn": Case({}, {"heads": 1, "nhid": 9, "nout": 9, "aggregation": "deg", "fixed_curvature": 1}),
    "gil": Case({}, {"n_heads": 2, "n_classes": 9, "concat": 0, "bias": 0, "model": "HGAT"}),
    "poincare_embeddings": Case(SPACE, {"dim": 9, "size": 99}),
    "hypll": Case({}, {"net": "resnet", "channels": [9, 9], "hidden": [9], "classes": 9}),
    "poincare_resnet": Case({}, {"channel_dims": [9], "depths": [4], "classes": 9, "in_channels": 9, "init_c": 0.123}),
    "hyptorch": Case({"c": "'c'"}, {"dim": 9, "num_classes": 9, "train_c": False, "train_x": False}),
    "kgemb": Case({"bias": "bias"}, {"rank": 8, "gamma": 1.0, "multi_c": False, "model": "RotH", "entities": 3}),
    "murp": Case({}, {"dim": 9, "entities": 3, "relations": 3, "hyperbolic": False}),
    "tidhy": Case(
        {},
        {
            "mix_dim": 9,
            "r_dim": 9,
            "r2_dim": 9,
            "hyper_hid_dim": 9,
            "input_dim": 9,
            "dyn_bias": True,
            "low_rank_temp": True,
            "nonlin_decoder": True,
        },
    ),
    "meru": Case(
        {"class": "class", "heads": "heads", "textual": "textual_heads"},
        {"width": 9, "patch_size": 9, "image_size": 9, "depth": 9, "embed_dim": 9},
    ),
    "helm": Case({}, {"vocab_size": 9, "context_length": 9}),
    "hcnn": Case(
        {},
        {"embedding_dim": 9, "classes": 9, "in_channels": 9, "num_blocks": [9], "block": "bottleneck", "decoder_manifold": "lorentz"},
    ),
    "hypformer": Case(
        {"variant": "variant"},
        {
            "in_channels": 9,
            "hidden_channels": 9,
            "out_channels": 9,
            "trans_num_layers": 9,
            "trans_num_heads": 9,
            "trans_use_weight": 0,
            "trans_heads_concat": 1,
            "gnn_num_layers": 9,
            "gnn_use_init": 0,
            "use_graph": 0,
            "decoder_type": "euc",
        },
    ),
    "hybonet_kg": Case({"margin": "margin"}, {"dim": 9, "entities": 3, "relations": 3, "max_scale": 9.0}),
}
CURVED = {  # what a curvature that the file contradicts, or cannot take, is refused with
    "hgat": "gives curvature", "gil": "gives curvature", "hypll": "gives curvature",
    "poincare_resnet": "gives curvature",
    "hgcn": "gives curvature", "hnn": "gives curvature", "hybonet": "k = 1", "htgn": "c.0.",
    "kgemb": "contains the curvatures", "murp": "unit ball", "hybonet_kg": "unit hyperboloid", "poincare_embeddings": "curvature -1",
    "meru": "contains the curvatures", "hcnn": "gives curvature", "hypformer": "gives curvature", "helm": "gives curvature",
}  # fmt: skip


def test_every_architecture_is_here():
    assert set(CASES) == set(ARCHITECTURES)


@pytest.mark.parametrize("arch", CASES)
def test_gaps_and_conflicts_name_the_option(arch: str, tmp_path: Path):
    case, (make, _) = CASES[arch], MODELS[arch]
    module, config = make()
    path = tmp_path / "model.pth"
    torch.save(module.state_dict(), path)
    bare = {name: value for name, value in config.items() if name not in case.conflicts}
    report = load(path, config=bare, arch=arch).report["settings"]
    for name in case.conflicts:
        assert report[name]["from"] not in ("config", "option", "default"), f"{name}: {report[name]}"
    for name, option in case.gaps.items():
        assert report.get(name, {"from": "config"})["from"] == "config", name
        with pytest.raises(Usage, match=option) as error:
            load(path, config={k: v for k, v in config.items() if k != name}, arch=arch)
        assert "Give" in error.value.remedy, name
    for name, value in case.conflicts.items():
        with pytest.raises(ConversionError) as error:
            load(path, config={**config, name: value}, arch=arch)
        assert isinstance(error.value, Unmatched), f"{name}: {error.value}"
        assert name in str(error.value), f"{name}: {error.value}"


@pytest.mark.parametrize("arch", CURVED)
def test_a_curvature_that_does_not_fit_is_refused(arch: str, tmp_path: Path):
    module, config = MODELS[arch][0]()
    torch.save(module.state_dict(), tmp_path / "model.pth")
    with pytest.raises(ConversionError, match=CURVED[arch]):
        load(tmp_path / "model.pth", config=config, curvature=0.123)


FIXED = {
    "hgcn": (cases_hgcn.reference, cases_hgcn.FRAME.config("ball, classes")),
    "hnn": (cases_hnn.FRAME.module, cases_hnn.FRAME.config("hyperboloid, classes")),
    "shallow": (cases_shallow.reference, cases_shallow.FRAME.config("links on the ball")),
}


@pytest.mark.parametrize("arch", FIXED)
def test_a_fixed_curvature_is_never_assumed(arch: str, tmp_path: Path):
    """HGCN's files have none: without a configuration that does, it is asked for, and the report says who gave it."""
    make, config = FIXED[arch]
    torch.save(make(config).state_dict(), tmp_path / "model.pth")
    bare = {k: v for k, v in config.items() if k != "c"}
    with pytest.raises(Usage, match="curvature"):
        load(tmp_path / "model.pth", config=bare)
    with pytest.raises(Unmatched, match="null"):
        load(tmp_path / "model.pth", config={**bare, "c": None})
    found = load(tmp_path / "model.pth", config=bare, curvature=0.37)
    assert (found.model.c, found.report["settings"]["c"]["from"]) == (0.37, "option")


# What is no parameter of its own: (architecture, key) -> its role. A fixed curvature of HGCN's code is in no file at all: see above.
ROLES = {
    ("hgcn", "encoder.c"): "tied",  # one parameter under several names
    ("hgcn", "encoder.layers.1.hyp_act.c_in"): "tied",
    ("hgat", "manifolds.0.isp_c"): "constant",  # a fixed curvature, raw
    ("hybonet", "encoder.manifold.k"): "constant",  # a buffer, once for each module
    ("hybonet_kg", "scale"): "constant",  # frozen parameters
    ("hypll", "pool.manifold.c.value"): "tied",
    ("poincare_resnet", "conv_ball.isp_c"): "constant",  # an untrained parameter
    ("poincare_resnet", "bn.norm.running_mean"): "constant",  # a buffer that nothing reads
    ("kgemb", "gamma"): "constant",
    ("meru", "visual.pos_embed"): "buffer",  # a frozen parameter
    ("meru", "textual.attn_mask"): "constant",
    ("helm", "attn_mask"): "constant",
    ("helm", "freqs_complex"): "buffer",  # complex numbers
    ("helm", "token_embed.add_pos.scale"): "constant",  # a parameter that the forward pass leaves out
    ("helm", "ln_final.c"): "tied",
    ("hcnn", "decoder.ball.isp_c"): "tied",
    ("hcnn", "encoder.conv1.1.num_batches_tracked"): "constant",  # flax counts no batches
    ("hypformer", "trans_conv.convs.0.scale"): "constant",  # a parameter that linear attention leaves out
    ("hypformer", "trans_conv.fcs.0.bias.k"): "tied",
    ("hypformer", "graph_conv.bns.0.num_batches_tracked"): "constant",
    ("htgn", "feat"): "constant",  # a parameter that the forward pass leaves out
    ("gil", "decoder.ball.c"): "constant",  # a buffer
    ("shallow", "encoder.lt"): "parameter",  # frozen where pretrained: the model stops its gradient
}


@pytest.mark.parametrize(("arch", "key"), ROLES)
def test_what_is_no_parameter_has_a_rule(arch: str, key: str, tmp_path: Path):
    module, config = MODELS[arch][0]()
    torch.save(module.state_dict(), tmp_path / "model.pth")
    report = load(tmp_path / "model.pth", config=config).report
    assert next(t["role"] for t in report["tensors"] if t["key"] == key) == ROLES[arch, key]
