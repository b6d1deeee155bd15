"""GAT, HazyResearch/hgcn (`reference_torch.models.gat.GAT` <-> `port_jax.models.GAT`)."""

from __future__ import annotations

from weights.mapping.port import Found
from weights.mapping.rules import Rule, param
from weights.mapping.settings import Settings
from weights.models import node_model
from weights.models.node_model import LAYER, trained_curvature
from weights.types import Hyperparameters


def keys(found: Found) -> bool:
    """Attention heads with a `W` of their own."""
    return found.has(r"(encoder\.layers\.0|decoder\.cls)\.attention_0\.W")


def settle(found: Found, settings: Settings) -> None:
    """Heads by the keys; the slope of LeakyReLU from the configuration. Links are those of flat space."""
    node_model.settle(found, settings, r"encoder\.layers\.(\d+)\.attention_0\.W", out_axis=1)
    heads = found.count(r"encoder\.layers\.0\.attention_(\d+)\.W")
    settings.settle("n_heads", *([heads, "keys of encoder.layers.0"] if heads else []), default=4)
    settings.settle("alpha", default=0.2)
    node_model.only_flat(settings, ("lp",))


def rules(settings: Hyperparameters) -> list[Rule]:
    """W is stored as [in, out] by torch as well."""
    places = ((LAYER, "params/layers_{i}"), ("decoder.cls", "params/decoder"))
    table = [param(f"{key}.attention_{{k}}.{name}", f"{path}/attention_{{k}}/{name}") for key, path in places for name in ("W", "a")]
    return table + (trained_curvature() if settings["c"] is None else [])


GAT = node_model.architecture("GAT", keys, settle, rules)


__all__ = ["GAT"]
