"""How the embeddings of a model's nodes are found: in a table that was trained, or by its encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from weights.mapping.probes import Argument
from weights.types import Hyperparameters, Model, Params, Variables

if TYPE_CHECKING:
    from jaxtyping import Array

    from port_jax.graphs import Graph
    from port_jax.manifolds.base import Manifold


@dataclass(frozen=True)
class NodeEmbeddings:
    """What `weights.embeddings` needs to know of an architecture. The defaults are those of a model that encodes features on a graph.

    table: the parameter that has a row for each node, as a path below "params"; empty if there is no such parameter.
    rows: of a table of another shape, its rows [nodes, width]; None where the table has them.
    start: whether the layers start from the table, so that the encoder's output is taken if a graph is given.
    tangents: for a table of tangents at the origin of a ball, that ball, from the parameters; None if there are several balls.
    normalized: whether the code trains on D^-1 (A + I), with features prepared beforehand.
    inputs: the arguments of `encode` from settings, features and graph; features of nodes follow them if the model takes any.
    manifold: where the output of `encode` lies, from the flax module and its variables.
    arrays: the names of arrays that it encodes in place of a graph, images for example, of which some are given. encoded: their points
    [N, d] by these names, from the flax module, its variables and the arrays of a file by their names.
    """

    table: str = ""
    rows: Callable[[np.ndarray], np.ndarray] | None = None
    start: bool = False
    tangents: Callable[[Params], Manifold | None] | None = None
    normalized: bool = False
    inputs: Callable[[Hyperparameters, Array, Graph], list[Argument]] = lambda settings, x, graph: [x, graph]
    manifold: Callable[[Model, Variables], Manifold] = lambda model, variables: model.manifold_at(-1, variables["params"])
    arrays: Sequence[str] = ()
    encoded: Callable[[Model, Variables, Mapping[str, np.ndarray]], dict[str, Any]] = lambda model, variables, arrays: {}


ENCODED = NodeEmbeddings()
"""Of a model that has no table of nodes and encodes features on a graph."""


def on_ball(model: Model, variables: Variables) -> Manifold:
    """The ball of a model that has only one, as its method `ball` gives it."""
    return model.apply(variables, method=lambda module: module.ball())


__all__ = ["ENCODED", "NodeEmbeddings", "on_ball"]
