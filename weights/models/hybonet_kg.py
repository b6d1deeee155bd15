"""HyboNet for knowledge graphs, chenweize1998/fully-hyperbolic-nn kg
(`reference_torch.models.hybonet_kg.HyboNetKG` <-> `port_jax.models.HyboNetKG`)."""

from __future__ import annotations

import numpy as np

from weights.errors import Unmatched
from weights.mapping import curvature_settings
from weights.mapping.node_embeddings import NodeEmbeddings
from weights.mapping.port import Found, Port
from weights.mapping.probes import Call, Draw, Inputs, Outputs, Probe
from weights.mapping.rules import Rule, constant, param
from weights.mapping.settings import Settings
from weights.types import Hyperparameters, Model, TorchModule

PARAMETERS = ("emb_entity", "relation_bias", "relation_transform", "bias_head", "bias_tail")


def recognise(found: Found) -> bool:
    """Entities and relation matrices."""
    return {"emb_entity", "relation_transform"} <= set(found.tensors)


def settle(found: Found, settings: Settings) -> None:
    """Sizes and scale from the file, the margin and the bound on norms from the configuration.

    The authors' code of before February 2022 adds the bias to the time as well. Later versions never move that entry from its start, 0.
    """
    entities, dim = found.shapes["emb_entity"]
    settings.settle("entities", entities, "shape of emb_entity")
    settings.settle("dim", dim, "shape of emb_entity")
    settings.settle("relations", found.shapes["relation_transform"][0], "shape of relation_transform")
    settings.settle("max_scale", float(found.value("scale")), "scale")
    settings.settle("margin")
    settings.settle("max_norm", default=None)
    if any(np.any(bias[..., 0]) for bias in found.raw("relation_bias").values()):
        settings.settle("time_bias", True, "relation_bias, whose first column is not 0")
    else:
        settings.settle("time_bias", default=False)
    for key, k in found.raw(r"(.*\.)?manifold\.k").items():
        if float(k) != 1:
            raise Unmatched(f"{key!r} is {float(k)}; the score is that of the unit hyperboloid", "Convert as a tree: arch='tree'")
    curvature_settings.unit(settings, "the original code has the unit hyperboloid only")


def rules(settings: Hyperparameters) -> list[Rule]:
    """Parameters as they are, relation matrices [out, in] too; the scale is not trained."""
    return [
        *(param(name, f"params/{name}") for name in PARAMETERS),
        constant("scale"),
        constant("manifold.k"),
        constant("emb_entity.manifold.k"),
    ]


def build(settings: Hyperparameters) -> Model:
    """The flax module."""
    from port_jax.models.hybonet_kg import HyboNetKG as Module

    return Module(settings["entities"], settings["relations"], settings["dim"], margin=float(settings["margin"]),
                  max_scale=settings["max_scale"], max_norm=settings["max_norm"], time_bias=settings.get("time_bias", False))  # fmt: skip


def inputs(settings: Hyperparameters) -> tuple:
    """One triple."""
    one = np.zeros(1, np.int32)
    return one, one, one[:, None]


def reference(settings: Hyperparameters) -> TorchModule:
    """The torch module."""
    from reference_torch.models.hybonet_kg import HyboNetKG as Module

    return Module(
        settings["entities"],
        settings["relations"],
        settings["dim"],
        max_scale=settings["max_scale"],
        margin=float(settings["margin"]),
        time_bias=settings.get("time_bias", False),
    )


def draw(settings: Hyperparameters, draw: Draw) -> Inputs:
    """Heads, relations, and three tails for each."""
    heads, relations, *tails = draw.covering(settings["entities"], settings["relations"], *(settings["entities"],) * 3)
    return {"heads": heads, "relations": relations, "tails": np.stack(tails, 1)}


def outputs(settings: Hyperparameters, call: Call, given: Inputs) -> Outputs:
    """Scores, and the entities themselves, so that every one of them has a gradient."""
    return {"scores": call("__call__", given["heads"], given["relations"], given["tails"]), "entities": call("encode")}


HYBONET_KG = Port(
    name="hybonet_kg",
    recognise=recognise,
    settle=settle,
    rules=rules,
    model=build,
    inputs=inputs,
    torch=reference,
    probe=Probe(draw, outputs),
    code="hybonet",
    nodes=NodeEmbeddings(table="emb_entity"),
)


__all__ = ["HYBONET_KG"]
