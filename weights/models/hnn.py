"""HNN, HazyResearch/hgcn (`reference_torch.models.hnn.HNN` <-> `port_jax.models.HNN`)."""

from __future__ import annotations

from weights.mapping.port import Found
from weights.mapping.rules import Rule, linear
from weights.mapping.settings import Settings
from weights.models import node_model
from weights.models.node_model import LAYER, found_in, trained_curvature
from weights.types import Hyperparameters


def keys(found: Found) -> bool:
    """Hyperbolic linear maps without aggregation."""
    known = r"(encoder\.layers\.\d+\.(linear|hyp_act)|decoder)\..*|(encoder\.)?c"
    return found.has(r"encoder\.layers\.0\.linear\.(weight|bias)") and all(found_in(known, key) for key in found.tensors)


def settle(found: Found, settings: Settings) -> None:
    """As shared."""
    node_model.settle(found, settings)


def rules(settings: Hyperparameters) -> list[Rule]:
    """One curvature under every name."""
    table: list[Rule] = [
        *linear(f"{LAYER}.linear", "params/layers_{i}/linear"),
        *linear("decoder.cls.linear", "params/decoder/linear"),
    ]
    if settings["c"] is None:
        table += trained_curvature(0, [f"{LAYER}.linear.c", f"{LAYER}.hyp_act.c_in", f"{LAYER}.hyp_act.c_out"])
    return table


HNN = node_model.architecture("HNN", keys, settle, rules)


__all__ = ["HNN"]
