"""Heads of hyperbolic image embeddings, leymir/hyperbolic-image-embeddings
(`reference_torch.models.hyptorch.HypTorch` <-> `port_jax.models.HypTorch`)."""

from __future__ import annotations

import re

import numpy as np

from weights.errors import Usage
from weights.mapping import curvature_settings
from weights.mapping.node_embeddings import NodeEmbeddings, on_ball
from weights.mapping.port import Found, Port
from weights.mapping.probes import ROWS, Call, Draw, Inputs, Outputs, Probe
from weights.mapping.rules import Rule, constant, param
from weights.mapping.settings import Settings, same_flag, same_numbers
from weights.types import Hyperparameters, Model, TorchModule

HEAD = r"(tp|e2p)\.(c|xp)|mlr\.(a_vals|p_vals)"


def recognise(found: Found) -> bool:
    """A map into the ball with trained parameters, or the hyperbolic softmax."""
    return found.has(HEAD)


def settle(found: Found, settings: Settings) -> None:
    """Shapes of the heads from the file, a fixed c from the configuration. The backbone is carried along and not built."""
    shapes = found.shapes
    heads = [key for key in shapes if re.fullmatch(HEAD, key)]
    settings.settle("backbone", [key for key in shapes if not re.match(r"(tp|e2p|mlr)\.", key)], "keys", same=same_numbers)
    where = "e2p" if any(key.startswith("e2p.") for key in heads) else "tp"
    settings.settle("map", where, "keys")
    softmax, point = "mlr.a_vals" in shapes, f"{where}.xp"
    settings.settle("train_x", point in shapes, "keys", same=same_flag)
    trained = settings.settle("train_c", f"{where}.c" in shapes, "keys", same=same_flag)
    if softmax or point in shapes:
        key = "mlr.a_vals" if softmax else point
        settings.settle("dim", shapes[key][-1], f"shape of {key}")
    else:
        settings.settle("dim")
    settings.settle("num_classes", shapes["mlr.a_vals"][0] if softmax else None, "keys of mlr")
    start = settings.config.get("c", settings.config.get("start_c", settings.given.get("curvature")))
    if trained:
        settings.given.pop("curvature", None)
        curvature_settings.settle(settings, {f"{where}.c": found.value(f"{where}.c")}, 1, learned=True)
        if start is None:
            raise Usage(
                "the c that training began with, which scales the gradient, is not in the file",
                "Give --config with a file that contains 'c' (config={'c': ...})",
            )
        settings.values["start_c"], settings.sources["start_c"] = float(start), "config"
    else:
        if start is not None:
            settings.config["curvature"] = start
        curvature_settings.settle(settings, {}, 1)


def rules(settings: Hyperparameters) -> list[Rule]:
    """The heads unchanged; every other key is carried along."""
    where = settings["map"]
    return [param(f"{where}.{name}", f"params/{name}") for name in ("c", "xp")] + [
        *(param(f"mlr.{name}", f"params/{name}") for name in ("a_vals", "p_vals")),
        *(constant(key) for key in settings["backbone"]),
    ]


def build(settings: Hyperparameters) -> Model:
    """The flax module."""
    from port_jax.models.hyptorch import HypTorch as Module

    return Module(settings["dim"], settings["num_classes"], settings["curvature"][0], train_c=bool(settings["train_c"]),
                  train_x=bool(settings["train_x"]), start_c=settings.get("start_c"))  # fmt: skip


def inputs(settings: Hyperparameters) -> tuple:
    """One row of features."""
    return (np.zeros((1, settings["dim"]), np.float32),)


def reference(settings: Hyperparameters) -> TorchModule:
    """The torch module of the heads; the backbone is carried along, and neither side runs it."""
    from reference_torch.models.hyptorch import HypTorch as Module

    start = settings.get("start_c") or settings["curvature"][0]
    flags = {name: bool(settings[name]) for name in ("train_c", "train_x")}
    return Module(settings["dim"], settings["num_classes"], start, **flags)


def draw(settings: Hyperparameters, draw: Draw) -> Inputs:
    """Features as a backbone would give them."""
    return {"x": draw.normal(ROWS, settings["dim"])}


def outputs(settings: Hyperparameters, call: Call, given: Inputs) -> Outputs:
    """Points of the ball, and class logits where there is a softmax."""
    found = {"points": call("encode", given["x"])}
    return found if settings["num_classes"] is None else {**found, "logits": call("__call__", given["x"])}


HYPTORCH = Port(
    name="hyptorch",
    recognise=recognise,
    settle=settle,
    rules=rules,
    model=build,
    inputs=inputs,
    torch=reference,
    probe=Probe(draw, outputs),
    nodes=NodeEmbeddings(inputs=lambda settings, x, graph: [x], manifold=on_ball),
)


__all__ = ["HYPTORCH"]
