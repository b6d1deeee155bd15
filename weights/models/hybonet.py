"""HyboNet for graphs, chenweize1998/fully-hyperbolic-nn (`reference_torch.models.hybonet.HyboNet` <-> `port_jax.models.HyboNet`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from weights.errors import Unmatched
from weights.mapping import curvature_settings
from weights.mapping.node_embeddings import NodeEmbeddings
from weights.mapping.port import Found, Port
from weights.mapping.probes import on_nodes
from weights.mapping.rules import TRANSPOSE, Rule, constant, param
from weights.mapping.settings import Settings, same_flag
from weights.types import Hyperparameters, Model, TorchModule, Variables

if TYPE_CHECKING:
    from port_jax.manifolds.base import Manifold

FIELDS = ("feat_dim", "dim", "num_layers", "task", "n_classes", "act", "bias", "use_att", "dropout")
LINEAR = r"encoder\.layers\.(\d+)\.linear\.weight\.weight"


def recognise(found: Found) -> bool:
    """Linear maps inside linear maps, with a scale."""
    return "encoder.layers.0.linear.weight.weight" in found.tensors and "encoder.layers.0.linear.scale" in found.tensors


def settle(found: Found, settings: Settings) -> None:
    """All but activation and dropout from the keys and shapes. The code computes with k = 1, which the file has to confirm."""
    shapes = found.shapes
    for key, k in found.raw(r"(.*\.)?manifold\.k").items():
        if not np.all(k == 1):
            raise Unmatched(f"the key {key!r} is {k}; HyboNet's maps are defined for k = 1 only", "Such a model has no counterpart")
    depth = found.count(LINEAR)
    task = settings.settle("task", "nc" if "decoder.cls" in shapes else "lp", "keys of decoder")
    settings.settle("num_layers", depth + (task == "nc"), "keys of encoder.layers")
    dim, feat_dim = shapes["encoder.layers.0.linear.weight.weight"]
    settings.settle("feat_dim", feat_dim, "shape of encoder.layers.0")
    settings.settle("dim", dim, "shape of encoder.layers.0")
    settings.settle("n_classes", *([shapes["decoder.cls"][0], "shape of decoder.cls"] if task == "nc" else []), default=None)
    settings.settle("bias", "encoder.layers.0.linear.weight.bias" in shapes, "keys", same=same_flag)
    settings.settle("use_att", "encoder.layers.0.agg.scale" in shapes, "keys", same=same_flag)
    curvature_settings.unit(settings, "HyboNet's maps are defined for k = 1 only")
    settings.settle("act", default=None)
    settings.settle("dropout", default=0.0)


def rules(settings: Hyperparameters) -> list[Rule]:
    """Weights transposed, scales and points as they are; each module's own k is carried along."""
    table: list[Rule] = [
        constant("manifold.k"),
        constant("{at:deep}.manifold.k"),
        param("decoder.cls", "params/decoder/cls"),
    ]
    table.append(param("decoder.bias", "params/decoder/bias"))
    for name in ("linear", "agg.key_linear", "agg.query_linear"):
        key, path = f"encoder.layers.{{i}}.{name}", f"params/layers_{{i}}/{name.replace('.', '/')}"
        table += [
            param(f"{key}.weight.weight", f"{path}/kernel", TRANSPOSE),
            param(f"{key}.weight.bias", f"{path}/bias"),
            param(f"{key}.scale", f"{path}/scale"),
        ]
    return table + [param(f"encoder.layers.{{i}}.agg.{name}", f"params/layers_{{i}}/agg/{name}") for name in ("bias", "scale")]


def groups(settings: Hyperparameters, keys: Sequence[str]) -> list[list[str]]:
    """The parameters that decay, and those that do not: biases, scales and points of the hyperboloid. k is in neither group."""
    trained = [key for key in keys if not key.endswith("manifold.k")]
    still = [key for key in trained if "bias" in key or "scale" in key or key == "decoder.cls"]
    return [[key for key in trained if key not in still], still]


def build(settings: Hyperparameters) -> Model:
    """The flax module."""
    from port_jax.models.hybonet import HyboNet as Module

    return Module(**_arguments(settings))


def reference(settings: Hyperparameters) -> TorchModule:
    """The torch module."""
    from reference_torch.models.hybonet import HyboNet as Module

    return Module(**_arguments(settings))


def _arguments(settings: Hyperparameters) -> dict[str, Any]:
    return {name: bool(settings[name]) if name in ("bias", "use_att") else settings[name] for name in FIELDS if name in settings}


def inputs(settings: Hyperparameters) -> tuple:
    """Zero features on one loop."""
    from port_jax.graphs import Graph

    loop = np.zeros(1, np.int32)
    return np.zeros((1, settings["feat_dim"] - 1), np.float32), Graph.from_edges(loop, loop, num_nodes=1, weights=np.ones(1, np.float32))


def encoded_on(model: Model, variables: Variables) -> Manifold:
    """The unit hyperboloid."""
    from port_jax.manifolds import Lorentz

    return Lorentz(1.0)


PROBE = on_nodes(lambda settings: settings["feat_dim"] - 1, lambda settings: settings["task"] == "nc", weighted=True)
HyboNet = Port(
    name="hybonet",
    recognise=recognise,
    settle=settle,
    rules=rules,
    model=build,
    inputs=inputs,
    groups=groups,
    torch=reference,
    probe=PROBE,
    code="hybonet",
    nodes=NodeEmbeddings(normalized=True, manifold=encoded_on),
)


__all__ = ["HyboNet"]
