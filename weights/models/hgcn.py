"""HGCN, HazyResearch/hgcn (`reference_torch.models.hgcn.HGCN` <-> `port_jax.models.HGCN`)."""

from __future__ import annotations

from weights.mapping.port import Found
from weights.mapping.rules import Rule, linear, param, tied
from weights.mapping.settings import Settings, same_flag
from weights.models import node_model
from weights.models.node_model import LAYER, found_in, trained_curvature
from weights.types import Hyperparameters


def keys(found: Found) -> bool:
    """Hyperbolic linear maps, and classes if any."""
    known = r"(encoder\.layers\.\d+\.(linear|agg|hyp_act)|decoder)\..*|(encoder\.)?c"
    return found.has(r"encoder\.layers\.0\.linear\.(weight|bias)") and all(found_in(known, key) for key in found.tensors)


def settle(found: Found, settings: Settings) -> None:
    """Attention by the keys; local aggregation leaves no trace in the file."""
    node_model.settle(found, settings)
    settings.settle("use_att", found.has(r"encoder\.layers\.\d+\.agg\.att\.linear\.weight"), "keys", same=same_flag)
    settings.settle("local_agg", default=False)


def rules(settings: Hyperparameters) -> list[Rule]:
    """Layer i goes from its own curvature to that of the next layer, or to the model's."""
    here = "params/layers_{i}"
    table: list[Rule] = [
        *linear(f"{LAYER}.linear", f"{here}/linear"),
        *linear(f"{LAYER}.agg.att.linear", f"{here}/agg/att"),
        *linear("decoder.cls.linear", "params/decoder/linear"),
    ]
    if settings["c"] is None:
        depth = settings["num_layers"] - (settings["task"] == "nc")
        first = ["encoder.layers.0.linear.c", *(f"encoder.layers.{i}.hyp_act.c_out" for i in range(depth - 1)), "c"][-depth - 1 :]
        for i in range(depth):
            names = [f"encoder.layers.{i}.{name}" for name in ("linear.c", "agg.c", "hyp_act.c_in")]
            table += [
                param(first[i], f"params/manifolds_{i}/c"),
                *(tied(name, first[i]) for name in names if name != first[i]),
            ]
        table += trained_curvature(depth, [f"encoder.layers.{depth - 1}.hyp_act.c_out"])
    return table


HGCN = node_model.architecture("HGCN", keys, settle, rules)


__all__ = ["HGCN"]
