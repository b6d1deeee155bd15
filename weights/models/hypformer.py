"""Hypformer, Graph-and-Geometric-Learning/hyperbolic-transformer (`reference_torch.models.hypformer.Hypformer` <->
`port_jax.models.Hypformer`)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from weights.errors import Unmatched, Usage
from weights.mapping import curvature_settings
from weights.mapping.node_embeddings import NodeEmbeddings
from weights.mapping.port import Found, Port
from weights.mapping.probes import Call, Draw, Edges, Inputs, Outputs, Probe, Recorded, Resumed
from weights.mapping.rules import Rule, buffer, constant, linear, param, tied
from weights.mapping.settings import Settings, same_flag
from weights.types import Config, Hyperparameters, Model, TorchModule

VARIANTS = ("medium", "large", "Hypformer")
"""The folders of the code."""
DIFFERENCES = (
    "medium has midpoints of its transformer on the hyperboloid of k_in and logits with a product divided by k; large and Hypformer have "
    "the hyperboloid of k_out, logits that are at most 0, and 1e-6 beside norm_scale; Hypformer has full attention without division by k"
)
FIRST = "trans_conv.fcs.0.linear.weight"
RADIUS = r"(.*\.)?(manifold(_\w+)?|bias)\.k"
"""The keys of radii; `bias.k` is that of a manifold which the code gives a layer in the place of a switch."""
DEFAULTS: dict[str, Mapping[str, Any]] = {
    "medium": {"use_graph": True, "graph_weight": 0.5, "gnn_use_bn": True, "gnn_use_residual": True, "gnn_use_weight": False,
               "gnn_use_act": True, "gnn_dropout": 0.5, "trans_use_bn": False, "trans_use_residual": False, "trans_use_act": False,
               "trans_dropout": 0.0},
    "large": {"use_graph": False, "graph_weight": 0.8, "gnn_use_bn": False, "gnn_use_residual": False, "gnn_use_weight": False,
              "gnn_use_act": False, "gnn_dropout": 0.0, "trans_use_bn": False, "trans_use_residual": False, "trans_use_act": False,
              "trans_dropout": 0.0},
    "Hypformer": {"use_graph": False, "trans_use_bn": True, "trans_use_residual": True, "trans_use_act": True, "trans_dropout": 0.5},
}  # fmt: skip
"""What the command line of each variant, or its constructor, has for what a configuration leaves out."""
GRAPH = ("graph_weight", "gnn_dropout", "gnn_use_bn", "gnn_use_residual", "gnn_use_weight", "gnn_use_act")
TRANSFORMER = ("trans_dropout", "trans_use_bn", "trans_use_residual", "trans_use_act")
SIZES = ("in_channels", "hidden_channels", "out_channels", "gnn_num_layers", "trans_num_layers", "trans_num_heads")
WORDS = ("variant", "attention_type", "decoder_type")
NUMBERS = ("graph_weight", "gnn_dropout", "trans_dropout", "k_in", "k_out", "power_k")
FLAGS = ("use_graph", "gnn_use_bn", "gnn_use_residual", "gnn_use_weight", "gnn_use_init", "gnn_use_act", "trans_heads_concat",
         "trans_use_weight", "trans_use_bn", "trans_use_residual", "trans_use_act", "add_positional_encoding")  # fmt: skip


def recognise(found: Found) -> bool:
    """A transformer with a second map of its features, and two decoders."""
    keys = (FIRST, "trans_conv.positional_encoding.linear.weight", "manifold_in.k")
    return all(key in found.tensors for key in keys) and found.has(r"decode_trans\.(cls|weight)")


def settle(found: Found, settings: Settings) -> None:
    """Sizes and radii from shapes and tensors, and what leaves no trace in the keys from the configuration, the variant first of all."""
    shapes, graph = found.shapes, "graph_conv.fcs.0.weight" in found.tensors
    variant = _variant(settings, graph)
    left = DEFAULTS[variant]
    width, ambient = _matrix(shapes, FIRST)
    settings.settle("in_channels", ambient - 1, f"shape of {FIRST}")
    settings.settle("hidden_channels", width, f"shape of {FIRST}")
    decoder = settings.settle("decoder_type", "hyp" if "decode_trans.cls" in shapes else "euc", "keys of decode_trans")
    last = "decode_trans.cls" if decoder == "hyp" else "decode_trans.weight"
    settings.settle("out_channels", _matrix(shapes, last)[0], f"shape of {last}")
    _settle_transformer(found, settings, left)
    if variant == "large":
        drawn = bool(settings.settle("use_graph", default=left["use_graph"], same=same_flag))
    else:
        drawn = bool(settings.settle("use_graph", graph, "keys", same=same_flag))
    if graph:
        settings.settle("gnn_num_layers", found.count(r"graph_conv\.convs\.(\d+)\..*"), "keys of graph_conv")
        both = _matrix(shapes, "graph_conv.convs.0.W.weight")[1] > width if settings.values["gnn_num_layers"] else False
        settings.settle("gnn_use_init", both, "shape of graph_conv.convs.0.W.weight", same=same_flag)
    for name in GRAPH if drawn else ():
        settings.settle(name, default=left[name], same=same_flag if name in FLAGS else _same)
    _settle_radii(found, settings)


def _same(a: object, b: object) -> bool:
    return a == b


def _variant(settings: Settings, graph: bool) -> str:
    if "variant" not in settings.config and "variant" not in settings.given:
        choices = ", ".join(map(repr, VARIANTS))
        raise Usage(
            "variant is neither in the file nor in the configuration. Hypformer's code has three folders, whose models differ in numbers "
            f"and not in keys: {DIFFERENCES}",
            f"Give --config with a file that contains 'variant', one of {choices} (config={{'variant': ...}})",
        )
    variant = settings.settle("variant", default="medium")
    if variant not in VARIANTS:
        raise Unmatched(f"variant is {variant!r}; Hypformer's code has {', '.join(VARIANTS)}", "Correct 'variant' in --config")
    if graph if variant == "Hypformer" else (variant == "large" and not graph):
        raise Unmatched(
            f"variant is {variant!r}, whose models {'never' if graph else 'always'} have a graph network, and the file has "
            f"{'one' if graph else 'none'}",
            "Correct 'variant' in --config",
        )
    return variant


def _matrix(shapes: Mapping[str, tuple[int, ...]], key: str) -> tuple[int, int]:
    if len(shapes.get(key, ())) != 2:
        raise Unmatched(f"{key} is missing, or is no matrix", "Give the whole model's state_dict")
    rows, columns = shapes[key]
    return rows, columns


def _settle_transformer(found: Found, settings: Settings, left: Mapping[str, Any]) -> None:
    kind = settings.settle("attention_type", default="linear_focused")
    if kind not in ("linear_focused", "full"):
        raise Unmatched(f"attention_type is {kind!r}; Hypformer's code has linear_focused and full", "Correct 'attention_type' in --config")
    count = settings.settle("trans_num_layers", found.count(r"trans_conv\.convs\.(\d+)\..*"), "keys of trans_conv.convs")
    if count:
        settings.settle("trans_num_heads", found.count(r"trans_conv\.convs\.0\.Wk\.(\d+)\..*"), "keys of trans_conv.convs.0")
        for name, part in (("trans_use_weight", "Wv.0.linear.weight"), ("trans_heads_concat", "final_linear.weight")):
            settings.settle(name, f"trans_conv.convs.0.{part}" in found.tensors, "keys of trans_conv.convs.0", same=same_flag)
    settings.settle("power_k", default=2.0)
    settings.settle("add_positional_encoding", default=True, same=same_flag)
    for name in TRANSFORMER:
        settings.settle(name, default=left[name], same=same_flag if name in FLAGS else _same)


def _settle_radii(found: Found, settings: Settings) -> None:
    """The squared radii k_in and k_out, which are not trained. The code ignores k_hidden, and has k_out for it."""
    for name in ("k_in", "k_out"):
        key = f"manifold_{name[2:]}.k"
        if key not in found.tensors:
            raise Unmatched(f"the file has no {key}", "Give the whole model's state_dict")
        own = Settings(settings.config, settings.given)
        if name in own.config:
            own.config["curvature"] = own.config[name]
        curvature_settings.settle(own, {key: found.value(key)}, 1)
        settings.values[name], settings.sources[name] = own.values["curvature"][0], key
        settings.in_file.add(name)
    hidden = found.raw(r"manifold_hidden\.k").get("manifold_hidden.k")
    if hidden is None or not np.array_equal(found.value("manifold_out.k"), hidden):
        raise Unmatched(
            "manifold_hidden.k is missing or differs from manifold_out.k, which Hypformer's code has in its place",
            "Convert a model of another code by a port of your own (--port)",
        )
    settings.values["curvature"] = [settings.values["k_in"], settings.values["k_out"]]
    settings.sources["curvature"] = "the radii"
    settings.in_file.add("curvature")


def rules(settings: Hyperparameters) -> list[Rule]:
    """Linear maps transposed. What the settings leave unused has no gradient and no optimizer's state, and is carried along."""
    transformer, conv, to = "trans_conv", "trans_conv.convs.{i}", "params/trans_conv/convs_{i}"
    found = [*_radii(), *linear(f"{transformer}.fcs.{{i}}.linear", f"params/{transformer}/fcs_{{i}}/linear")]
    found += _used(
        settings["add_positional_encoding"], f"{transformer}.positional_encoding.linear",
        linear(f"{transformer}.positional_encoding.linear", f"params/{transformer}/positional_encoding/linear"),
    )  # fmt: skip
    found += _used(settings["trans_use_bn"], f"{transformer}.bns.{{i}}.layer", [
        param(f"{transformer}.bns.{{i}}.layer.{theirs}", f"params/{transformer}/bns_{{i}}/norm/{ours}")
        for theirs, ours in (("weight", "scale"), ("bias", "bias"))
    ])  # fmt: skip
    for name in ("Wk", "Wq", "Wv"):
        found += linear(f"{conv}.{name}.{{h}}.linear", f"{to}/{name}_{{h}}/linear")
    full = settings["attention_type"] == "full"
    for name in ("scale", "bias", "norm_scale"):
        key = f"{conv}.{name}"
        found.append(param(key, f"{to}/{name}") if full == (name != "norm_scale") else constant(key))
    for name in ("v_map_mlp", "final_linear"):
        found += _used(not full, f"{conv}.{name}", linear(f"{conv}.{name}", f"{to}/{name}"))
    return found + _graph(settings) + _decoders(settings)


def _used(used: object, key: str, rules: Sequence[Rule]) -> list[Rule]:
    return list(rules) if used else [constant(f"{key}.{{name:deep}}")]


def _radii() -> list[Rule]:
    """Three hyperboloids under the names of all modules that keep one."""
    names = {
        "in": ("trans_conv.manifold_in", "trans_conv.fcs.0.manifold", "trans_conv.positional_encoding.manifold"),
        "hidden": (
            "trans_conv.manifold_hidden", "trans_conv.fcs.0.bias", "trans_conv.fcs.1.manifold", "trans_conv.positional_encoding.bias",
            "trans_conv.convs.{i}.manifold", "trans_conv.convs.{i}.{name:any}.{h}.manifold", "trans_conv.bns.{i}.manifold",
            "trans_conv.dropout.manifold", "trans_conv.activation.manifold",
        ),
        "out": ("trans_conv.manifold_out", "trans_conv.fcs.1.bias", "decode_graph.manifold", "decode_trans.manifold"),
    }  # fmt: skip
    repeated = [tied(f"{key}.k", f"manifold_{to}.k") for to, keys in names.items() for key in keys]
    return [*(constant(f"manifold_{to}.k") for to in names), *repeated]


def _graph(settings: Hyperparameters) -> list[Rule]:
    key, to = "graph_conv.bns.{i}", "graph_conv/bns_{i}"
    if not settings["use_graph"]:
        return [constant("graph_conv.{name:deep}")]
    found = [*linear("graph_conv.fcs.{i}", "params/graph_conv/fcs_{i}"), constant(f"{key}.num_batches_tracked")]
    used = settings["gnn_use_init"] or settings["gnn_use_weight"]
    found += _used(used, "graph_conv.convs.{i}.W", linear("graph_conv.convs.{i}.W", "params/graph_conv/convs_{i}/W"))
    if not settings["gnn_use_bn"]:
        return found + [constant(f"{key}.{name}") for name in ("weight", "bias", "running_mean", "running_var")]
    return [
        *found,
        param(f"{key}.weight", f"params/{to}/scale"),
        param(f"{key}.bias", f"params/{to}/bias"),
        *(buffer(f"{key}.running_{name}", f"batch_stats/{to}/{name}") for name in ("mean", "var")),
    ]


def _decoders(settings: Hyperparameters) -> list[Rule]:
    if settings["decoder_type"] == "hyp":
        table = [param(f"decode_trans.{name}", f"params/decode_trans/{name}") for name in ("cls", "bias")]
        return table + _used(settings["use_graph"], "decode_graph.linear", linear("decode_graph.linear", "params/decode_graph/linear"))
    table = list(linear("decode_trans", "params/decode_trans"))
    return table + _used(settings["use_graph"], "decode_graph", linear("decode_graph", "params/decode_graph"))


def build(settings: Hyperparameters) -> Model:
    """The flax module."""
    from port_jax.models.hypformer import Hypformer as Module

    kinds = {int: SIZES, str: WORDS, float: NUMBERS, bool: FLAGS}
    return Module(**{name: kind(settings[name]) for kind, names in kinds.items() for name in names if name in settings})


def inputs(settings: Hyperparameters) -> tuple:
    """Zero features on one loop."""
    from port_jax.graphs import Graph

    loop = np.zeros(1, np.int32)
    return np.zeros((1, settings["in_channels"]), np.float32), Graph.from_edges(loop, loop, num_nodes=1)


def reference(settings: Hyperparameters) -> TorchModule:
    """The torch module."""
    from reference_torch.models.hypformer import Hypformer as Module

    return Module(settings)


def groups(settings: Hyperparameters, keys: Sequence[str]) -> list[list[str]]:
    """The parameters of its two optimizers: all that are flat, with those that have no gradient; and the points of the classes."""
    still = re.compile(rf"{RADIUS}|.*\.(running_\w+|num_batches_tracked)")
    flat = [key for key in keys if key != "decode_trans.cls" and not still.fullmatch(key)]
    return [flat, ["decode_trans.cls"]] if settings["decoder_type"] == "hyp" else [flat]


def optimizer(config: Config) -> object:
    """That of the flat parameters; a file whose decoder is flat has no other."""
    return {"adam": "Adam", "sgd": "SGD"}.get(str(config.get("optimizer_type", "adam")))


def draw(settings: Hyperparameters, draw: Draw) -> Inputs:
    """Features and a graph, which a model without a graph network does not look at."""
    graph, x = draw.graph(settings["in_channels"])
    return {"x": x, "graph": graph}


def outputs(settings: Hyperparameters, call: Call, given: Inputs) -> Outputs:
    """The transformer's points, the states of the graph network, and the logits of both."""
    found = {"embeddings": call("encode", given["x"], given["graph"])}
    if settings["use_graph"]:
        found["graph_embeddings"] = call("encode_graph", given["x"], given["graph"])
    return {**found, "logits": call("classify", *found.values())}


def recorded(settings: Hyperparameters, arrays: Mapping[str, np.ndarray]) -> Recorded:
    """What the authors' code computed on an `edge_index`, whose row 0 sends, and ten steps in evaluation."""
    senders, receivers = arrays["edge_index"]
    chosen, graph = arrays["idx_train"], Edges(senders=senders, receivers=receivers, num_nodes=len(arrays["features"]))
    found = {name: arrays[name] for name in ("embeddings", "graph_embeddings", "logits") if name in arrays}
    kept = {name: array for name, array in arrays.items() if not name.endswith("num_batches_tracked")}  # flax counts no batches

    def loss(out: Outputs) -> Any:
        import jax

        return -jax.nn.log_softmax(out["logits"])[chosen, arrays["labels"][chosen]].mean()

    return Recorded({"x": arrays["features"], "graph": graph}, found, loss, Resumed.of(kept))


def encoded_on(model: Model, variables: Any) -> Any:
    """The hyperboloid of k_out."""
    from port_jax.manifolds import Lorentz

    return Lorentz(model.k_out)


HYPFORMER = Port(
    name="hypformer",
    recognise=recognise,
    settle=settle,
    rules=rules,
    model=build,
    inputs=inputs,
    torch=reference,
    groups=groups,
    optimizer=optimizer,
    probe=Probe(draw, outputs, recorded),
    nodes=NodeEmbeddings(manifold=encoded_on),
)


__all__ = ["HYPFORMER"]
