"""GIL, and the HGAT of the same code, CheriseZhu/GIL (`reference_torch.models.gil.GIL` <-> `port_jax.models.GIL`)."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from weights.errors import Unmatched
from weights.mapping import curvature_settings
from weights.mapping.node_embeddings import NodeEmbeddings, on_ball
from weights.mapping.port import Found, Port
from weights.mapping.probes import Draw, Inputs, Probe, on_nodes
from weights.mapping.rules import Rule, constant, linear, param, tied
from weights.mapping.settings import Settings, same_flag, same_numbers
from weights.types import Hyperparameters, Model, TorchModule

LAYER = r"(.*?)(\d+)\.(conv\.)?hy_linear\.weight"
BALL = r"decoder\.ball\.(c|isp_c)"


def layer_keys(found: Found) -> list[str]:
    """The prefixes of the hyperbolic attention layers, `encoder.layers.0.conv.` and so on, in the order of their
    numbers."""
    hits = [hit for key in found.tensors if (hit := re.fullmatch(LAYER, key))]
    return [hit[0].removesuffix("hy_linear.weight") for hit in sorted(hits, key=lambda hit: int(hit[2]))]


def recognise(found: Found) -> bool:
    """Layers with a `hy_linear`."""
    return bool(layer_keys(found))


def settle(found: Found, settings: Settings) -> None:
    """Widths, heads and concatenation from shapes, the rest from the configuration of the training script."""
    shapes, layers = found.shapes, layer_keys(found)
    kind = "GIL" if any(key.endswith("h_fusion.att") for key in shapes) else "HGAT"
    settings.settle("model", kind, "keys")
    settings.settle("layer_keys", layers, "keys", same=same_numbers)
    settings.settle("in_features", shapes[f"{layers[0]}hy_linear.weight"][1], f"shape of {layers[0]}hy_linear.weight")
    heads = settings.settle("n_heads", shapes[f"{layers[0]}att"][1], f"shape of {layers[0]}att")
    settings.settle("bias", f"{layers[0]}bias" in shapes, f"keys of {layers[0]}", same=same_flag)
    concat = bool(settings.settle("concat", *_concat(shapes, layers[0], heads), default=True, same=same_flag))
    widths = [shapes[f"{layer}att"][2] // 2 * (heads if concat else 1) for layer in layers]
    settings.settle("features", widths, "shapes of the layers", same=same_numbers)
    _decoder(found, settings, kind)
    if settings.config.get("c") is not None:
        settings.config.setdefault("curvature", settings.config["c"])
    trained = settings.settle("learnable_curvature", "c" in shapes, "keys")
    if trained:
        settings.config.pop("curvature", None)
        if "decoder.ball.isp_c" in found.tensors:  # geoopt took a copy of c's start, and the classifier computes with that
            raise Unmatched(
                "the file contains a trained 'c' and the classifier's own 'decoder.ball.isp_c'; the model here has one curvature",
                "Save it from the geoopt of the original code (0.1), which keeps one, or convert it as a tree (arch='tree')",
            )
    curvature_settings.settle(settings, {"c": found.value("c")} if trained else found.raw(BALL), 1)
    for name, value in {
        "act": "relu",
        "alpha": 0.2,
        "r": 2.0,
        "t": 1.0,
        "dropout": 0.0,
        "drop_h": 0.0,
        "drop_e": 0.0,
        "input_type": "eucl",
        "atten": True,
        "dist": True,
    }.items():
        settings.settle(name, default=value)
    if kind == "HGAT" and settings.config.get("model") == "HGAT":  # its code passes neither flag on
        settings.values.update(atten=True, dist=False)


def _concat(shapes: Mapping[str, tuple[int, ...]], layer: str, heads: int) -> tuple:
    if heads == 1:
        return True, "one head"
    if f"{layer}bias" not in shapes:
        return ()
    return shapes[f"{layer}bias"] == shapes[f"{layer}hy_linear.weight"][:1], f"shape of {layer}bias"


def _decoder(found: Found, settings: Settings, kind: str) -> None:
    shapes = found.shapes
    classes = shapes.get("decoder.scale", shapes.get("decoder.cls.linear.weight"))
    if not classes:  # links, or layers alone: a number of classes in the configuration has no effect
        settings.config.pop("n_classes", None)
    settings.settle("n_classes", classes[0] if classes else None, "keys of decoder")
    pubmed = settings.config.get("dataset") == "pubmed"
    settings.values["normalize_gates"], settings.sources["normalize_gates"] = pubmed, "dataset in the configuration"
    settings.settle("link_gates", "w_e.weight" in shapes, "keys")
    if kind == "GIL" and classes:
        heads = shapes["decoder.cls_e.att"][1]
        settings.settle("classifier_heads", heads, "shape of decoder.cls_e.att")
        known = (True, "one head") if heads == 1 else (shapes["decoder.cls_e.att"][2] // 2 != classes[0], "shape of decoder.cls_e.att")
        settings.settle("classifier_concat", *known)


def _attention(key: str, path: str, name: str, settings: Hyperparameters, trained: bool = True) -> list[Rule]:
    """One attention layer. Without bias the hyperbolic one still stores a bias, and without scores an `att`; neither
    is used."""
    weight, bias = linear(f"{key}{name}", f"{path}/linear")
    if not settings["bias"] and name == "hy_linear":
        bias = constant(f"{key}{name}.bias")
    scores = param(f"{key}att", f"{path}/att") if trained else constant(f"{key}att")
    return [weight, bias, scores, param(f"{key}bias", f"{path}/bias")]


def rules(settings: Hyperparameters) -> list[Rule]:
    """Linear maps transposed, attention vectors as they are; link gates of the HGAT baseline are stored and not
    used."""
    gil, scored = settings["model"] == "GIL", bool(settings["atten"])
    table: list[Rule] = []
    for i, layer in enumerate(settings["layer_keys"]):
        here, stem = f"params/layers_{i}", layer.removesuffix("conv.")
        table += _attention(layer, f"{here}/conv", "hy_linear", settings, scored)
        if gil:
            table += _attention(f"{stem}conv_e.", f"{here}/conv_e", "linear", settings)
            table += [param(f"{stem}{name}.att", f"{here}/{name}") for name in ("h_fusion", "e_fusion")]
            table += [tied(f"{stem}{name}.c", "c") for name in ("h_fusion", "e_fusion")]
    here = "params/decoder"
    if gil and settings["n_classes"]:
        table += _attention("decoder.cls_e.", f"{here}/cls_e", "linear", settings)
        table += _attention("decoder.cls_h.", f"{here}/cls_h", "hy_linear", settings, scored)
        table += [param(f"decoder.{name}", f"{here}/{name}") for name in ("scale", "point", "tangent")]
        table += [linear(f"decoder.{name}", f"{here}/{name}")[0] for name in ("w_h", "w_e")]
        table += [tied("decoder.ball.c", "c") if settings["learnable_curvature"] else constant("decoder.ball.{name:any}")]
        table += [constant("decoder.sphere.{name:any}")]
    elif settings["n_classes"]:
        table += linear("decoder.cls.linear", f"{here}/cls")
    elif settings["link_gates"]:
        table += [linear(name, f"params/{name}")[0] if gil else constant(f"{name}.weight") for name in ("w_h", "w_e")]
    if settings["learnable_curvature"]:
        table += [param("c", "params/c"), tied("encoder.c", "c"), tied("decoder.c", "c")]
    return table


def build(settings: Hyperparameters) -> Model:
    """The flax module."""
    from port_jax.models.gil import GIL as Module

    renamed = {"kind": "model", "heads": "n_heads", "negative_slope": "alpha", "num_classes": "n_classes"}
    names = (
        "in_features",
        "features",
        "learnable_curvature",
        "normalize_gates",
        "r",
        "t",
        "dropout",
        "drop_h",
        "drop_e",
    )
    head = {name: settings[name] for name in ("classifier_heads", "classifier_concat") if name in settings}
    return Module(
        **{name: settings[name] for name in names},
        **{new: settings[old] for new, old in renamed.items()},
        **head,
        use_bias=bool(settings["bias"]),
        concat=bool(settings["concat"]),
        attend=bool(settings["atten"]),
        distance=bool(settings["dist"]),
        curvature=settings["curvature"][0],
        activation=settings["act"] or "none",
        hyperbolic_input=settings["input_type"] == "hyper",
    )


def inputs(settings: Hyperparameters) -> tuple:
    """A graph without edges but one loop."""
    from port_jax.graphs import Graph

    zero = np.zeros(1, np.int32)
    return np.zeros((1, settings["in_features"]), np.float32), Graph.from_edges(zero, zero, num_nodes=1)


def reference(settings: Hyperparameters) -> TorchModule:
    """The torch module."""
    from reference_torch.models.gil import GIL as Module

    return Module(
        settings["in_features"],
        settings["features"],
        settings["n_heads"],
        kind=settings["model"],
        num_classes=settings["n_classes"],
        c=settings["curvature"][0],
        act=settings["act"] or "none",
        concat=bool(settings["concat"]),
        alpha=settings["alpha"],
        bias=bool(settings["bias"]),
        atten=bool(settings["atten"]),
        dist=bool(settings["dist"]),
        pubmed=settings["normalize_gates"],
        r=settings["r"],
        t=settings["t"],
        learnable_curvature=settings["learnable_curvature"],
    )


NODES = on_nodes(
    lambda settings: settings["in_features"],
    lambda settings: settings["n_classes"] is not None,
    scored=lambda settings: settings["n_classes"] is None or settings["model"] == "HGAT",
)


def draw(settings: Hyperparameters, draw: Draw) -> Inputs:
    """Features that stay inside the unit ball, on which the attention lives: with c below 1 those of length 1 or more may leave it."""
    given = NODES.draw(settings, draw)
    root = settings["curvature"][0] ** 0.5
    lengths = np.linalg.norm(given["x"], axis=-1, keepdims=True)
    if draw.path is None:
        if root < 1:
            given["x"] = given["x"] / np.maximum(1, lengths / 0.9)
    elif (np.tanh(root * lengths) >= root).any():
        raise Unmatched(
            f"a row of features has length {lengths.max():.3g}; c = {root**2:.3g} maps it out of the unit ball, where the original's "
            "attention is infinite and its gradients are NaN",
            "Give the features as in training (normalised to rows shorter than 1)",
            path=draw.path,
        )
    return given


PROBE = Probe(draw, NODES.outputs)
GIL = Port(
    name="gil",
    recognise=recognise,
    settle=settle,
    rules=rules,
    model=build,
    inputs=inputs,
    torch=reference,
    probe=PROBE,
    code="hgcn",
    nodes=NodeEmbeddings(manifold=on_ball),
)


__all__ = ["GIL"]
