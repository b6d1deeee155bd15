"""Poincare and Lorentz embeddings and entailment cones, facebookresearch/poincare-embeddings
(`reference_torch.models.poincare_embeddings` <-> `port_jax.models.PoincareEmbeddings`)."""

from __future__ import annotations

import numpy as np

from weights.mapping import curvature_settings
from weights.mapping.node_embeddings import NodeEmbeddings
from weights.mapping.port import Found, Port
from weights.mapping.probes import Call, Draw, Inputs, Outputs, Probe
from weights.mapping.rules import Rule, param
from weights.mapping.settings import Settings
from weights.types import Hyperparameters, Model, TorchModule


def recognise(found: Found) -> bool:
    """Nothing but one table `lt.weight`."""
    return list(found.tensors) == ["lt.weight"]


def settle(found: Found, settings: Settings) -> None:
    """Size and dimension from the table, manifold and energy from the `conf` that the file carries."""
    size, width = found.shapes["lt.weight"]
    settings.settle("size", size, "shape of lt.weight")
    manifold = settings.settle("manifold")
    settings.settle("dim", width - (manifold == "lorentz"), "shape of lt.weight")
    curvature_settings.unit(settings, "the original code has curvature -1 only")
    settings.settle("model", default="distance")  # files from before there were two models do not have it


def rules(settings: Hyperparameters) -> list[Rule]:
    """The table as it is."""
    return [param("lt.weight", "params/embedding")]


def build(settings: Hyperparameters) -> Model:
    """The flax module."""
    from port_jax.models.poincare_embeddings import PoincareEmbeddings as Module

    return Module(settings["size"], settings["dim"], manifold=settings["manifold"], energy=settings["model"])


def inputs(settings: Hyperparameters) -> tuple:
    """One pair."""
    return (np.zeros((1, 2), np.int32),)


def reference(settings: Hyperparameters) -> TorchModule:
    """The torch module."""
    from reference_torch.models.poincare_embeddings import PoincareEmbeddings as Module

    return Module(settings["size"], settings["dim"], manifold=settings["manifold"], energy=settings["model"])


def draw(settings: Hyperparameters, draw: Draw) -> Inputs:
    """A point and four others in each row."""
    return {"rows": draw.distinct(settings["size"], 5)}


def outputs(settings: Hyperparameters, call: Call, given: Inputs) -> Outputs:
    """Energies, and the points themselves, so that every one of them has a gradient."""
    return {"energies": call("__call__", given["rows"]), "points": call("encode")}


POINCARE_EMBEDDINGS = Port(
    name="poincare_embeddings",
    recognise=recognise,
    settle=settle,
    rules=rules,
    model=build,
    inputs=inputs,
    torch=reference,
    probe=Probe(draw, outputs),
    nodes=NodeEmbeddings(table="embedding"),
)


__all__ = ["POINCARE_EMBEDDINGS"]
