"""HTGN, marlin-codes/HTGN (`reference_torch.models.htgn.HTGN` <-> `port_jax.models.HTGN`); its layers alone, too."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from weights.mapping import curvature_settings
from weights.mapping.node_embeddings import NodeEmbeddings
from weights.mapping.port import Found, Port
from weights.mapping.probes import Argument, Call, Draw, Inputs, Outputs, Probe
from weights.mapping.rules import TRANSPOSE, Rule, constant, linear, param
from weights.mapping.settings import Settings, same_flag, same_numbers
from weights.types import Hyperparameters, Model, TorchModule, Variables

if TYPE_CHECKING:
    from jaxtyping import Array

    from port_jax.graphs import Graph
    from port_jax.manifolds.base import Manifold

WINDOW = 3
"""Hidden states that `verify` runs the model on."""
LAYER = r"(.*?\D)?(\d+)\.agg\.(att_i|mlp\.0\.weight)"


def layer_keys(found: Found) -> list[str]:
    """The prefixes of the graph convolutions, `layer1.` and `layer2.` in the original, in the order of their
    numbers."""
    hits = [hit for key in found.tensors if (hit := re.fullmatch(LAYER, key))]
    return [f"{hit[1] or ''}{hit[2]}." for hit in sorted(hits, key=lambda hit: int(hit[2]))]


def recognise(found: Found) -> bool:
    """Convolutions whose aggregation has HTGN's attention vectors, or the unused `mlp` of its degree aggregation."""
    return bool(layer_keys(found))


def settle(found: Found, settings: Settings) -> None:
    """Widths and heads from shapes, curvature rows from `c`; what the code decides by flags from the configuration."""
    shapes, layers = found.shapes, layer_keys(found)
    settings.settle("layer_keys", layers, "keys", same=same_numbers)
    attention = f"{layers[0]}agg.att_i" in shapes
    settings.settle("aggregation", "att" if attention else "deg", f"keys of {layers[0]}agg")
    recurrent = settings.settle("recurrent", "gru.weight_ih" in shapes, "keys")
    first = f"{layers[0]}linear.weight"
    if attention:
        heads = settings.settle("heads", shapes[f"{layers[0]}agg.att_i"][1], f"shape of {layers[0]}agg.att_i")
        widths = [shapes[f"{layer}agg.att_i"][2] for layer in layers]
    else:  # the flag is there and has no effect
        settings.config.pop("heads", None)
        heads = settings.settle("heads", 1, "degree aggregation")
        widths = [shapes[f"{layer}linear.weight"][0] for layer in layers]
    settings.settle("features", widths, "shapes of the layers", same=same_numbers)
    settings.settle("num_nodes", shapes["feat"][0] if "feat" in shapes else None, "feat")
    if recurrent:
        settings.settle("in_features", shapes["linear.weight"][1], "shape of linear.weight")
        settings.settle("nout", widths[-1], "shapes of the layers")
        settings.settle("nhid", shapes["Q"][1], "shape of Q")
        settings.settle("use_hta", default=True, same=same_flag)
        settings.settle("trainable_feat", default=False, same=same_flag)
        settings.settle("concat_last", False, "width of gru")
    else:
        settings.settle("in_features", shapes[first][1], f"shape of {first}")
        alone = len(layers) == 1 and heads > 1
        known: tuple = () if alone else (False, "the last layer averages its heads")
        settings.settle("concat_last", *known, default=False)
    _curvature(found, settings, len(layers) + 1)
    settings.settle("dropout", 0.0, "not stored") if not settings.has_config else settings.settle("dropout", default=0.0)


def _curvature(found: Found, settings: Settings, balls: int) -> None:
    """Rows of `c`. All start equal, so rows that differ were trained; a configuration then has the
    start, not the value."""
    if "curvature" not in settings.config and settings.config.get("c") is not None:
        settings.config["curvature"] = settings.config["c"]
    rows = found.value("c").reshape(-1) if "c" in found.tensors else np.zeros(0)
    trained = bool(len(rows) and (rows != rows[0]).any())
    if trained:
        fixed = settings.settle("fixed_curvature", False, "rows of c", same=same_flag)
    elif len(rows) and "fixed_curvature" in {**settings.config, **settings.given}:
        fixed = settings.settle("fixed_curvature", same=same_flag)
    else:
        fixed = settings.settle("fixed_curvature", True, "rows of c" if len(rows) else "keys")
    if not fixed:
        settings.config.pop("curvature", None)
    curvature_settings.settle(settings, {f"c[{i}]": np.asarray(row) for i, row in enumerate(rows)}, balls)


def rules(settings: Hyperparameters) -> list[Rule]:
    """Linear maps and gates transposed. Tensors that the forward pass does not use are carried along: agg.bias, agg.mlp, an
    unused feat, Q or r."""
    table: list[Rule] = []
    for i, layer in enumerate(settings["layer_keys"]):
        here = f"params/layers_{i}"
        table += linear(f"{layer}linear", f"{here}/linear")
        if settings["aggregation"] == "att":
            table += [param(f"{layer}agg.{name}", f"{here}/{name}") for name in ("att_i", "att_j")]
        else:
            table += [constant(f"{layer}agg.{name}") for name in ("bias", "mlp.0.weight", "mlp.0.bias")]
    table.append(constant("c") if settings["fixed_curvature"] else param("c", "params/c"))
    if settings["recurrent"]:
        table += linear("linear", "params/linear")
        table += [param(f"gru.weight_{g}", f"params/gru/weight_{g}", TRANSPOSE) for g in ("ih", "hh")]
        table += [param(f"gru.bias_{g}", f"params/gru/bias_{g}") for g in ("ih", "hh")]
        used = {"feat": settings["trainable_feat"], "Q": settings["use_hta"], "r": settings["use_hta"]}
        table += [param(name, f"params/{name}") if on else constant(name) for name, on in used.items()]
    return table


def build(settings: Hyperparameters) -> Model:
    """The flax module."""
    from port_jax.models.htgn import HTGN as Module

    names = (
        "in_features",
        "features",
        "heads",
        "aggregation",
        "curvature",
        "recurrent",
        "num_nodes",
        "concat_last",
        "dropout",
    )
    extra = (
        {
            "use_hta": bool(settings["use_hta"]),
            "trainable_feat": bool(settings["trainable_feat"]),
            "attention_width": settings["nhid"],
        }
        if settings["recurrent"]
        else {}
    )
    return Module(**{name: settings[name] for name in names}, learnable_curvature=not settings["fixed_curvature"], **extra)


def inputs(settings: Hyperparameters) -> tuple:
    """A graph without edges but one loop."""
    from port_jax.graphs import Graph

    trained = settings["recurrent"] and settings["trainable_feat"]
    nodes = settings["num_nodes"] if trained else 1
    graph = Graph.from_edges(np.zeros(1, np.int32), np.zeros(1, np.int32), num_nodes=nodes)
    return None if trained else np.zeros((1, settings["in_features"]), np.float32), graph


def reference(settings: Hyperparameters) -> TorchModule:
    """The torch module."""
    from reference_torch.models.htgn import HTGN as Module
    from reference_torch.models.htgn import Convolutions

    if not settings["recurrent"]:
        return Convolutions(
            [key.removesuffix(".") for key in settings["layer_keys"]],
            settings["in_features"],
            settings["features"],
            heads=settings["heads"],
            aggregation=settings["aggregation"],
            concat_last=bool(settings["concat_last"]),
            curvature=settings["curvature"],
            fixed_curvature=bool(settings["fixed_curvature"]),
        )
    return Module(
        settings["num_nodes"],
        settings["in_features"],
        settings["nhid"],
        settings["nout"],
        heads=settings["heads"],
        aggregation=settings["aggregation"],
        curvature=1.0,
        fixed_curvature=bool(settings["fixed_curvature"]),
        trainable_feat=bool(settings["trainable_feat"]),
        use_hta=bool(settings["use_hta"]),
    )


def draw(settings: Hyperparameters, draw: Draw) -> Inputs:
    """Features, or the trained ones instead, and the hidden states of three steps before, inside of the last ball."""
    graph, x = draw.graph(settings["in_features"], settings["num_nodes"])
    size = 0.3 / settings["curvature"][-1] ** 0.5
    hiddens = draw.normal(WINDOW, graph.num_nodes, settings["features"][-1], scale=size)
    hiddens /= np.maximum(1, np.linalg.norm(hiddens, axis=-1, keepdims=True) / (2 * size))
    trained = settings["recurrent"] and settings["trainable_feat"]
    return {"x": None if trained else x, "graph": graph, "hiddens": hiddens, "pairs": draw.pairs(graph.num_nodes)}


def outputs(settings: Hyperparameters, call: Call, given: Inputs) -> Outputs:
    """Embeddings, link scores and the temporal consistency."""
    if not settings["recurrent"]:
        h = call("encode", given["x"], given["graph"])
        return {"embeddings": h, "scores": call("score", h, given["pairs"])}
    h = call("encode", given["x"], given["graph"], given["hiddens"])
    return {"embeddings": h, "scores": call("score", h, given["pairs"]), "htc": call("htc", h, given["hiddens"][-1])}


def encoder_inputs(settings: Hyperparameters, x: Array, graph: Graph) -> list[Argument]:
    """Features, or None where the model has trained ones."""
    return [None if settings["recurrent"] and settings["trainable_feat"] else x, graph]


def encoded_on(model: Model, variables: Variables) -> Manifold:
    """The last ball."""
    return model.apply(variables, method=lambda module: module.ball(len(model.features)))


HTGN = Port(
    name="htgn",
    recognise=recognise,
    settle=settle,
    rules=rules,
    model=build,
    inputs=inputs,
    optimizer=lambda config: "RiemannianAdam",
    torch=reference,
    probe=Probe(draw, outputs),
    nodes=NodeEmbeddings(inputs=encoder_inputs, manifold=encoded_on),
)


__all__ = ["HTGN"]
