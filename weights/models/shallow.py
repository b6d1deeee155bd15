"""Shallow embeddings, HazyResearch/hgcn (`reference_torch.models.shallow.Shallow` <-> `port_jax.models.Shallow`)."""

from __future__ import annotations

from weights.mapping.port import Found
from weights.mapping.rules import Rule, param
from weights.mapping.settings import Settings, same_flag
from weights.models import node_model
from weights.models.node_model import LAYER, dense, trained_curvature
from weights.types import Hyperparameters


def keys(found: Found) -> bool:
    """A table `encoder.lt`."""
    return "encoder.lt" in found.tensors


def settle(found: Found, settings: Settings) -> None:
    """A pretrained table is followed by layers, or named by the configuration; a trained one is the whole encoder."""
    shapes = found.shapes
    rows, width = shapes["encoder.lt"]
    depth = found.count(r"encoder\.layers\.(\d+)\.linear\.weight")
    given = bool(depth or settings.config.get("pretrained_embeddings"))
    settings.settle("n_nodes", rows, "shape of encoder.lt")
    settings.values["pretrained"], settings.sources["pretrained"] = width if given else None, "keys and configuration"
    task = settings.settle("task", "nc" if any(key.startswith("decoder.cls.") for key in shapes) else "lp", "keys of decoder")
    known = [depth + (task == "nc"), "keys of encoder.layers"] if given else []
    settings.settle("num_layers", *(known if known or "num_layers" in settings.config else [1, "without effect"]))
    first = shapes.get("encoder.layers.0.linear.weight")
    settings.settle("feat_dim", *([first[1] - width, "shape of encoder.layers.0"] if first and first[1] > width else []))
    settings.settle(
        "use_feats",
        *([first[1] > width, "shape of encoder.layers.0"] if first else []),
        default=True,
        same=same_flag,
    )
    classes = shapes.get("decoder.cls.linear.weight")
    dim = width if not given else shapes[f"encoder.layers.{depth - 1}.linear.weight"][0] if depth else classes[1] if classes else width
    settings.settle("dim", dim, "shapes")
    settings.settle("n_classes", *([classes[0], "shape of decoder.cls"] if classes else []), default=None)
    settings.settle("manifold")
    node_model.settle_curvature(found, settings)
    settings.settle("act", default="relu")
    stored = any(key.endswith(".linear.bias") for key in shapes)
    settings.settle("bias", *([stored, "keys"] if depth or classes else []), default=True, same=same_flag)
    for name, value in (("dropout", 0.0), ("r", 2.0), ("t", 1.0)):
        settings.settle(name, default=value)


def rules(settings: Hyperparameters) -> list[Rule]:
    """The table as it is; a pretrained one is a parameter that gets no gradient."""
    bias = bool(settings["bias"])
    table = [param("encoder.lt", "params/lt"), *dense(f"{LAYER}.linear", "params/layers_{i}/linear", bias)]
    table += dense("decoder.cls.linear", "params/decoder/linear", bias)
    return table + (trained_curvature() if settings["c"] is None else [])


Shallow = node_model.architecture("Shallow", keys, settle, rules, node_table="lt")


__all__ = ["Shallow"]
