"""HGAT (`reference_torch.models.hgat.HGAT` <-> `port_jax.models.HGAT`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from weights.mapping import curvature_settings
from weights.mapping.node_embeddings import NodeEmbeddings
from weights.mapping.port import Found, Port
from weights.mapping.probes import Argument, Call, Draw, Inputs, Outputs, Probe
from weights.mapping.rules import TRANSPOSE, Rule, constant, linear, param, tied
from weights.mapping.settings import Settings, same_numbers
from weights.types import Hyperparameters, Model, TorchModule

if TYPE_CHECKING:
    from jaxtyping import Array

    from port_jax.graphs import Graph

RAW = r"manifolds\.\d+\.(isp_c|k)"
PLAIN = {
    "activation": "relu",
    "final_activation": "none",
    "negative_slope": 0.2,
    "r": 2.0,
    "t": 1.0,
    "dropout": 0.0,
    "attention_dropout": 0.0,
}


def recognise(found: Found) -> bool:
    """Layers with a linear map of their own under `layers.0`, and curvatures under `manifolds`."""
    return found.has(RAW) and "layers.0.linear.weight" in found.tensors


def settle(found: Found, settings: Settings) -> None:
    """Widths, heads and switches from shapes; activations and decoder constants from the configuration."""
    shapes = found.shapes
    depth = found.count(r"layers\.(\d+)\.linear\.weight")
    weights = [shapes[f"layers.{i}.linear.weight"] for i in range(depth) if f"layers.{i}.linear.weight" in shapes]
    settings.settle("manifold", "PoincareBall" if "manifolds.0.isp_c" in shapes else "Lorentz", "keys of manifolds.0")
    preset = settings.settle("preset", *_preset(shapes))
    heads = settings.settle("heads", *_heads(shapes, preset, depth))
    settings.settle("in_features", weights[0][1], "shape of layers.0.linear.weight")
    per_head = 1 if preset == "markov_blanket" else heads
    settings.settle("features", [w[0] // per_head for w in weights], "shapes of layers.*.linear.weight", same=same_numbers)
    settings.settle("bias", "layers.0.linear.bias" in shapes, "keys of layers.0")
    settings.settle("distance", *_distance(shapes, preset), default=False)
    for name, key in (("node_features", "layers.0.att_node_i"), ("edge_features", "layers.0.att_edge")):
        settings.settle(name, shapes[key][-1] if key in shapes else 0, "keys of layers.0")
    settings.settle("num_nodes", shapes["embedding"][0] if "embedding" in shapes else None, "keys")
    classes = shapes.get("decoder.cls.weight", shapes.get("decoder.points"))
    settings.settle("num_classes", classes[0] if classes else None, "keys of decoder")
    settings.settle("classifier", *(["hyperplanes" if "decoder.points" in shapes else "linear", "keys of decoder"] if classes else []),
                    default="linear")  # fmt: skip
    learned = settings.settle("learnable_curvature", default=False)
    curvature_settings.settle(settings, found.raw(RAW), depth + 1, learned=learned)
    for name, value in PLAIN.items():
        settings.settle(name, default=value)


def _preset(shapes: Mapping[str, tuple[int, ...]]) -> tuple:
    """By the attention weights of layer 0. With one head `htgn` and `markov_blanket` look alike: the configuration says."""
    if "layers.0.att" in shapes:
        return "gil", "keys of layers.0"
    if "layers.0.att_i" not in shapes:
        return "hat", "keys of layers.0"
    if any(f"layers.0.{name}" in shapes for name in ("att_dist", "att_node_i", "att_edge", "message.weight")):
        return "markov_blanket", "keys of layers.0"
    _, heads, width = shapes["layers.0.att_i"]
    if heads == 1:
        return ()
    rows = shapes["layers.0.linear.weight"][0]
    return "markov_blanket" if rows == width else "htgn", "shapes of layers.0"


def _heads(shapes: Mapping[str, tuple[int, ...]], preset: str, depth: int) -> tuple:
    for key in ("layers.0.att_i", "layers.0.att"):
        if len(shapes.get(key, ())) == 3:
            return shapes[key][1], f"shape of {key}"
    last = f"layers.{depth - 1}"
    if preset == "hat" and f"{last}.bias" in shapes:  # the last layer averages its heads, so its bias has the width of one
        return shapes[f"{last}.linear.weight"][0] // shapes[f"{last}.bias"][0], f"shapes of {last}"
    return ()


def _distance(shapes: Mapping[str, tuple[int, ...]], preset: str) -> tuple:
    return ("layers.0.att_dist" in shapes, "keys of layers.0") if preset == "markov_blanket" else ()


def rules(settings: Hyperparameters) -> list[Rule]:
    """The table: weights of linear maps transposed, curvatures raw."""
    raw = "isp_c" if settings["manifold"] == "PoincareBall" else "k"
    layer, here = "layers.{i}", "params/layers_{i}"
    curved = f"manifolds.{{l}}.{raw}"
    last = len(settings["features"])
    return [
        param(curved, f"params/manifolds_{{l}}/{raw}") if settings["learnable_curvature"] else constant(curved),
        param("embedding", "params/embedding"),
        *linear(f"{layer}.linear", f"{here}/linear"),
        param(f"{layer}.{{name:any}}", f"{here}/{{name:any}}"),
        param(f"{layer}.message.weight", f"{here}/message", TRANSPOSE),
        *linear("decoder.cls", "params/decoder/cls"),
        param("decoder.points", "params/decoder/points"),
        tied("decoder.ball.isp_c", f"manifolds.{last}.isp_c") if raw == "isp_c" else constant("decoder.ball.k"),
    ]


def build(settings: Hyperparameters) -> Model:
    """The flax module."""
    from port_jax.models.hgat import HGAT as Module

    return Module(**settings)


def inputs(settings: Hyperparameters) -> tuple:
    """A graph without edges, of the model's widths."""
    from port_jax.graphs import Graph

    nodes = settings["num_nodes"] or 1
    edges = np.zeros(1, np.int32)
    features = np.zeros((1, settings["edge_features"]), np.float32) if settings["edge_features"] else None
    graph = Graph.from_edges(edges, edges, num_nodes=nodes, edge_features=features)
    x = None if settings["num_nodes"] else np.zeros((nodes, settings["in_features"]), np.float32)
    return x, graph, np.zeros((nodes, settings["node_features"]), np.float32) if settings["node_features"] else None


def reference(settings: Hyperparameters) -> TorchModule:
    """The torch module."""
    from reference_torch.models.hgat import HGAT as Module

    return Module(**settings)


def draw(settings: Hyperparameters, draw: Draw) -> Inputs:
    """Features, or the trained table instead; features of nodes and edges where the model takes them."""
    graph, x = draw.graph(settings["in_features"], settings["num_nodes"], edge_features=settings["edge_features"])
    extra = draw.normal(graph.num_nodes, settings["node_features"]) if settings["node_features"] else None
    return {"x": None if settings["num_nodes"] else x, "graph": graph, "extra": extra, "pairs": draw.pairs(graph.num_nodes)}


def outputs(settings: Hyperparameters, call: Call, given: Inputs) -> Outputs:
    """Embeddings, link scores, and class logits where there are classes."""
    h = call("encode", given["x"], given["graph"], given["extra"])
    found = {"embeddings": h, "scores": call("score", h, given["pairs"])}
    return found if settings["num_classes"] is None else {**found, "logits": call("classify", h)}


def encoder_inputs(settings: Hyperparameters, x: Array, graph: Graph) -> list[Argument]:
    """Features, or None where the model has a table of its own."""
    return [None if settings["num_nodes"] else x, graph]


HGAT = Port(
    name="hgat",
    recognise=recognise,
    settle=settle,
    rules=rules,
    model=build,
    inputs=inputs,
    torch=reference,
    probe=Probe(draw, outputs),
    nodes=NodeEmbeddings(table="embedding", start=True, inputs=encoder_inputs),
)


__all__ = ["HGAT"]
