"""What the tables of HGCN's code base share: settings under its names, curvatures under several keys, dense layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from weights.errors import Unmatched
from weights.mapping import curvature_settings
from weights.mapping.node_embeddings import NodeEmbeddings
from weights.mapping.port import Found, Port
from weights.mapping.probes import on_nodes
from weights.mapping.rules import Rule, linear, param, tied
from weights.mapping.settings import Settings, same_flag
from weights.types import Hyperparameters, Model, TorchModule

LAYER = "encoder.layers.{i}"
OWN: dict[str, tuple[str, ...]] = {
    "hgcn": ("use_att", "local_agg"),
    "gat": ("n_heads", "alpha"),
    "shallow": ("n_nodes", "use_feats", "pretrained"),
}
"""Settings that only one of the models has."""
SHARED = ("feat_dim", "dim", "num_layers", "task", "n_classes", "manifold", "c", "act", "bias", "dropout", "r", "t")


def settle(found: Found, settings: Settings, weight: str = r"encoder\.layers\.(\d+)\.linear\.weight", *, out_axis: int = 0,
           bias: bool = False) -> None:  # fmt: skip
    """Widths, depth and task from the shapes; the space, its curvature and the activation from the configuration.

    `weight` is the pattern of the layers' weights, `out_axis` their axis of outputs; `bias`: whether biases are stored only if used.
    """
    shapes = found.shapes
    depth = found.count(weight)
    classifier = [key for key in shapes if key.startswith("decoder.cls.")]
    task = settings.settle("task", "nc" if classifier else "lp", "keys of decoder")
    settings.settle("num_layers", depth + (task == "nc"), "keys of encoder.layers")
    edges(found, settings, weight, out_axis)
    settings.settle("manifold")
    settle_curvature(found, settings)
    settings.settle("act", default="relu")
    stored = [key for key in shapes if key.endswith(".linear.bias")]
    settings.settle("bias", *([bool(stored), "keys"] if bias and depth else []), default=True, same=same_flag)
    for name, value in (("dropout", 0.0), ("r", 2.0), ("t", 1.0)):
        settings.settle(name, default=value)


def only_flat(settings: Settings, tasks: Sequence[str] = ("nc", "lp")) -> None:
    """Refuses a curved space for models without a map into it, for the tasks that read their embeddings as points of it.

    HGCN's code takes whatever such a model gives for points; its numbers then are those of its clamps.
    """
    manifold, task = settings.values["manifold"], settings.values["task"]
    if manifold != "Euclidean" and task in tasks:
        raise Unmatched(
            f"manifold is {manifold!r}, and the embeddings of this model are flat vectors, which are no points of it",
            "Convert a model that was trained with manifold 'Euclidean', or HNN or HGCN, which map into the space",
        )


def edges(found: Found, settings: Settings, weight: str, out_axis: int = 0) -> None:
    """feat_dim, dim and n_classes: the widths at which the layers begin and end."""
    first = [shape for key, shape in found.shapes.items() if found_in(weight, key)]
    heads = found.count(r"encoder\.layers\.0\.attention_(\d+)\.W") or 1
    last = [shape for key, shape in found.shapes.items() if found_in(r"(decoder)\.cls\.(linear\.weight|attention_0\.W)", key)]
    settings.settle("feat_dim", *([first[0][1 - out_axis], "shape of encoder.layers.0"] if first else []))
    width = first[-1][out_axis] * heads if first else None
    settings.settle("dim", *([width, "shapes of encoder.layers"] if width else []))
    settings.settle("n_classes", *([last[0][out_axis], "shape of decoder.cls"] if last else []), default=None)


def found_in(pattern: str, key: str) -> bool:
    """Whether a key fits a regular expression from end to end."""
    import re

    return re.fullmatch(pattern, key) is not None


def settle_curvature(found: Found, settings: Settings) -> None:
    """Settles c: None if the file contains trained curvatures, else the configuration's or the caller's; flat space needs none."""
    stated = settings.config.get("c")
    if "c" in found.tensors:
        raw = {"c": found.value("c")}
        curvature_settings.settle(settings, raw, 1, learned=True)
        settings.values["c"], settings.sources["c"] = None, "keys"
        return
    if stated is not None:
        settings.config.setdefault("curvature", stated)
    elif "c" in settings.config and settings.given.get("curvature") is None and settings.values["manifold"] != "Euclidean":
        raise Unmatched(
            "the configuration says c is trained (null), and the file has no key 'c'",
            "Correct the configuration, or give --curvature (curvature=...)",
        )
    if settings.values["manifold"] == "Euclidean" and settings.config.get("curvature") is None and settings.given.get("curvature") is None:
        settings.values["c"], settings.sources["c"] = 1.0, "without effect in flat space"
        return
    (c,) = curvature_settings.settle(settings, {}, 1)
    settings.values["c"], settings.sources["c"] = c, settings.sources["curvature"]


def dense(key: str, path: str, bias: bool) -> list[Rule]:
    """A linear map; the rule of its bias only where there is one."""
    return list(linear(key, path)[: 2 if bias else 1])


def trained_curvature(last: int = 0, names: Sequence[str] = ()) -> list[Rule]:
    """The model's curvature, under its three names and those of `names`."""
    return [
        param("c", f"params/manifolds_{last}/c"),
        tied("encoder.c", "c"),
        tied("decoder.c", "c"),
        *(tied(name, "c") for name in names),
    ]


def build(name: str) -> Callable[[Hyperparameters], Model]:
    """Makes the flax module from the settings."""
    stem = name.lower()

    def made(settings: Hyperparameters) -> Model:
        module = getattr(import_module(f"port_jax.models.{stem}"), name)
        return module(**arguments(stem, settings))

    return made


def reference(name: str) -> Callable[[Hyperparameters], TorchModule]:
    """Makes the torch module from the settings."""
    stem = name.lower()

    def made(settings: Hyperparameters) -> TorchModule:
        module = getattr(import_module(f"reference_torch.models.{stem}"), name)
        return module(**arguments(stem, settings))

    return made


def arguments(stem: str, settings: Hyperparameters) -> dict[str, Any]:
    """The settings that the model takes, switches as booleans."""
    switches = ("bias", "use_att", "local_agg", "use_feats")
    return {k: bool(settings[k]) if k in switches else settings[k] for k in (*SHARED, *OWN.get(stem, ())) if k in settings}


def inputs(settings: Hyperparameters) -> tuple:
    """Zero features on a graph of loops."""
    from port_jax.graphs import Graph

    nodes = settings.get("n_nodes", 1)
    loops = np.zeros(1, np.int32)
    x = np.zeros((nodes, settings["feat_dim"] - (settings["manifold"] == "Hyperboloid")), np.float32)
    return x, Graph.from_edges(loops, loops, num_nodes=nodes, weights=np.ones(1, np.float32))


PROBE = on_nodes(
    lambda settings: settings["feat_dim"] - (settings["manifold"] == "Hyperboloid"),
    lambda settings: settings["task"] == "nc",
    nodes="n_nodes",
    weighted=True,
)


def architecture(name: str, keys: Callable[[Found], bool], settle: Callable[[Found, Settings], None],
                 rules: Callable[[Hyperparameters], Sequence[Rule]], node_table: str = "") -> Port:  # fmt: skip
    """An architecture of this code base: its files name the model in the configuration, and several have the same keys."""

    def recognise(found: Found) -> bool:
        return keys(found) and found.config.get("model", name) == name

    return Port(
        name=name.lower(),
        recognise=recognise,
        settle=settle,
        rules=rules,
        model=build(name),
        inputs=inputs,
        torch=reference(name),
        probe=PROBE,
        code="hgcn",
        nodes=NodeEmbeddings(table=node_table, normalized=True),
    )


__all__ = ["LAYER", "architecture", "dense", "edges", "found_in", "only_flat", "settle", "settle_curvature", "trained_curvature"]
