"""MuRP and MuRE, ibalazevic/multirelational-poincare (`reference_torch.models.murp` <-> `port_jax.models.MuRP`)."""

from __future__ import annotations

import numpy as np

from weights.mapping import curvature_settings
from weights.mapping.node_embeddings import NodeEmbeddings
from weights.mapping.port import Found, Port
from weights.mapping.probes import Call, Draw, Inputs, Outputs, Probe
from weights.mapping.rules import Rule, param
from weights.mapping.settings import Settings
from weights.types import Hyperparameters, Model, TorchModule

HYPERBOLIC = {"Eh.weight", "rvh.weight", "Wu", "bs", "bo"}
FLAT = {"E.weight", "rv.weight", "Wu", "bs", "bo"}


def recognise(found: Found) -> bool:
    """Exactly the keys of one of the two."""
    return set(found.tensors) in (HYPERBOLIC, FLAT)


def settle(found: Found, settings: Settings) -> None:
    """Everything from the keys and shapes; the code knows curvature -1 only."""
    hyperbolic = settings.settle("hyperbolic", "Eh.weight" in found.tensors, "keys")
    entities, dim = found.shapes["Eh.weight" if hyperbolic else "E.weight"]
    settings.settle("entities", entities, "shape of the entities")
    settings.settle("dim", dim, "shape of the entities")
    settings.settle("relations", found.shapes["Wu"][0], "shape of Wu")
    curvature_settings.unit(settings, "the original code has the unit ball only")


def rules(settings: Hyperparameters) -> list[Rule]:
    """Tables as they are, both models' under one name."""
    entity, translation = ("Eh", "rvh") if settings["hyperbolic"] else ("E", "rv")
    tables = [param(f"{entity}.weight", "params/Eh"), param(f"{translation}.weight", "params/rvh")]
    return [*tables, *(param(name, f"params/{name}") for name in ("Wu", "bs", "bo"))]


def build(settings: Hyperparameters) -> Model:
    """The flax module."""
    from port_jax.models.murp import MuRP as Module

    return Module(settings["entities"], settings["relations"], settings["dim"], settings["hyperbolic"])


def inputs(settings: Hyperparameters) -> tuple:
    """One triple."""
    return (np.zeros(1, np.int32),) * 3


def reference(settings: Hyperparameters) -> TorchModule:
    """The torch module."""
    from reference_torch.models import murp

    kind = murp.MuRP if settings["hyperbolic"] else murp.MuRE
    return kind(settings["entities"], settings["relations"], settings["dim"])


def draw(settings: Hyperparameters, draw: Draw) -> Inputs:
    """Triples."""
    counts = {"subjects": settings["entities"], "relations": settings["relations"], "objects": settings["entities"]}
    return dict(zip(counts, draw.covering(*counts.values()), strict=True))


def outputs(settings: Hyperparameters, call: Call, given: Inputs) -> Outputs:
    """Scores, and the entities themselves, so that every one of them has a gradient."""
    return {"scores": call("__call__", given["subjects"], given["relations"], given["objects"]), "entities": call("encode")}


MURP = Port(
    name="murp",
    recognise=recognise,
    settle=settle,
    rules=rules,
    model=build,
    inputs=inputs,
    torch=reference,
    probe=Probe(draw, outputs),
    code="murp",
    nodes=NodeEmbeddings(table="Eh"),
)


__all__ = ["MURP"]
