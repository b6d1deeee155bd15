"""GCN, HazyResearch/hgcn (`reference_torch.models.gcn.GCN` <-> `port_jax.models.GCN`)."""

from __future__ import annotations

from weights.mapping.port import Found
from weights.mapping.rules import Rule
from weights.mapping.settings import Settings
from weights.models import node_model
from weights.models.node_model import LAYER, dense, found_in, trained_curvature
from weights.types import Hyperparameters


def keys(found: Found) -> bool:
    """Linear maps alone."""
    known = r"(encoder\.layers\.\d+|decoder\.cls)\.linear\.(weight|bias)|((encoder|decoder)\.)?c"
    return found.has(r"(encoder\.layers\.0|decoder\.cls)\.linear\.(weight|bias)") and all(found_in(known, key) for key in found.tensors)


def settle(found: Found, settings: Settings) -> None:
    """As shared; biases are stored only if used. Classes come without the space, links do not."""
    node_model.settle(found, settings, bias=True)
    node_model.only_flat(settings, ("lp",))


def rules(settings: Hyperparameters) -> list[Rule]:
    """Weights transposed; a trained curvature is stored though the layers do not use it."""
    bias = bool(settings["bias"])
    table = [
        *dense(f"{LAYER}.linear", "params/layers_{i}/linear", bias),
        *dense("decoder.cls.linear", "params/decoder/linear", bias),
    ]
    return table + (trained_curvature() if settings["c"] is None else [])


GCN = node_model.architecture("GCN", keys, settle, rules)


__all__ = ["GCN", "keys", "rules", "settle"]
