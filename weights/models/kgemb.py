"""RotH, RefH and AttH, HazyResearch/KGEmb (`reference_torch.models.kgemb.KGEmb` <-> `port_jax.models.KGEmb`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from weights.mapping.node_embeddings import NodeEmbeddings
from weights.mapping.port import Found, Port
from weights.mapping.probes import Call, Draw, Inputs, Outputs, Probe
from weights.mapping.rules import Rule, constant, param
from weights.mapping.settings import Settings
from weights.types import Hyperparameters, Model, Params, TorchModule

if TYPE_CHECKING:
    from port_jax.manifolds.base import Manifold

TABLES = ("entity", "rel", "rel_diag", "bh", "bt")


def recognise(found: Found) -> bool:
    """KGEmb's tables with a curvature beside them."""
    return {"c", "gamma", *(f"{name}.weight" for name in TABLES)} <= set(found.tensors)


def settle(found: Found, settings: Settings) -> None:
    """Sizes from the tables. RotH and RefH have the same shapes, and the kind of bias is not stored: the
    configuration says."""
    shapes = found.shapes
    attention = "context_vec.weight" in shapes
    settings.settle("model", *(("AttH", "context_vec") if attention else ()))
    settings.settle("rank", shapes["entity.weight"][1], "shape of entity.weight")
    settings.settle("entities", shapes["entity.weight"][0], "shape of entity.weight")
    relations = settings.settle("relations", shapes["rel.weight"][0], "shape of rel.weight")
    several = shapes["c"][0] > 1 or relations == 1
    settings.settle("multi_c", several, "shape of c", same=lambda a, b: bool(a) == bool(b) or relations == 1)
    settings.settle("bias")
    settings.settle("gamma", float(found.value("gamma").reshape(-1)[0]), "gamma")


def rules(settings: Hyperparameters) -> list[Rule]:
    """Tables as they are; gamma is not trained."""
    tables = [param(f"{name}.weight", f"params/{name}") for name in (*TABLES, "context_vec")]
    return [*tables, param("c", "params/c"), constant("gamma")]


def build(settings: Hyperparameters) -> Model:
    """The flax module."""
    from port_jax.models.kgemb import KGEmb as Module

    return Module(
        settings["model"],
        settings["entities"],
        settings["relations"],
        settings["rank"],
        bias=settings["bias"],
        multi_c=bool(settings["multi_c"]),
        gamma=settings["gamma"],
    )


def inputs(settings: Hyperparameters) -> tuple:
    """One triple."""
    return (np.zeros((1, 3), np.int32),)


def reference(settings: Hyperparameters) -> TorchModule:
    """The torch module."""
    from reference_torch.models.kgemb import KGEmb as Module

    return Module(
        settings["model"],
        settings["entities"],
        settings["relations"],
        settings["rank"],
        bias=settings["bias"],
        multi_c=bool(settings["multi_c"]),
        gamma=settings["gamma"],
    )


def draw(settings: Hyperparameters, draw: Draw) -> Inputs:
    """Triples (head, relation, tail)."""
    counts = (settings["entities"], settings["relations"], settings["entities"])
    return {"triples": np.stack(draw.covering(*counts), 1)}


def outputs(settings: Hyperparameters, call: Call, given: Inputs) -> Outputs:
    """Scores of the triples, and of every entity as the tail of the first ones."""
    return {"scores": call("__call__", given["triples"]), "tails": call("score_tails", given["triples"][:4])}


def ball(params: Params) -> Manifold | None:
    """The ball that entities are mapped to; None where each relation has its own."""
    from port_jax.manifolds import PoincareBall

    c = np.asarray(params["c"])
    return PoincareBall(float(np.logaddexp(0, c.astype(np.float64)).item())) if c.size == 1 else None


KGEMB = Port(
    name="kgemb",
    recognise=recognise,
    settle=settle,
    rules=rules,
    model=build,
    inputs=inputs,
    torch=reference,
    probe=Probe(draw, outputs),
    nodes=NodeEmbeddings(table="entity", tangents=ball),
)


__all__ = ["KGEMB"]
