"""What `verify` runs a model on: inputs drawn once for both sides, and the outputs that are compared."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from weights.errors import Unmatched, Usage
from weights.mapping.graph_files import graph_data
from weights.types import Hyperparameters

NODES, EDGES, ROWS = 64, 256, 32
Inputs = dict[str, Any]
"""What a model runs on, by name: numpy arrays, `Edges`, dicts of them, or None."""
Outputs = dict[str, Any]
"""What a model gives, by name: arrays of the side that ran it, or tuples of them."""
Argument = Any
"""An input as the side takes it that runs: an array, a graph, a dict of arrays, or None."""
Call = Callable[..., Any]
"""call("encode", x, graph) runs that method of the torch module or of the flax one."""


@dataclass(frozen=True)
class Resumed:
    """What the authors' code computed as it went on from the file, with one batch. losses [n]: each before its step. after: by torch's key,
    tensors after the last step. groups: the keys of each group of the optimizer, in its order; None if they were not recorded.
    clip: the norm at which the training code cuts all gradients together before a step (torch's `clip_grad_norm_`); None: it does not.
    """

    losses: np.ndarray
    after: dict[str, np.ndarray]
    groups: list[list[str]] | None = None
    clip: float | None = None

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray], clip: float | None = None) -> Resumed | None:
        """From `resume_losses`, `after<n>/<key>` and `groups`, which is text of JSON; None where no steps were recorded."""
        if "resume_losses" not in arrays:
            return None
        losses = arrays["resume_losses"]
        first = f"after{len(losses)}/"
        after = {name.removeprefix(first): array for name, array in arrays.items() if name.startswith(first)}
        groups = json.loads(str(arrays["groups"])) if "groups" in arrays else None
        return cls(losses, after, groups, clip)


@dataclass(frozen=True)
class Recorded:
    """What the authors' code computed. inputs, outputs: by the probe's names, of an output perhaps only the first rows. loss: a number of
    the whole outputs, on jax. resumed: steps on that loss, if some were recorded. training: training(model, variables, inputs) gives the
    outputs on which these steps were taken, and the variables that they write, such as running statistics; None where the steps were taken
    on the outputs in evaluation.
    """

    inputs: Inputs
    outputs: dict[str, np.ndarray]
    loss: Callable[[Outputs], Any] | None = None
    resumed: Resumed | None = None
    training: Callable[[Any, Any, Inputs], tuple[Outputs, Any]] | None = None


@dataclass(frozen=True)
class Probe:
    """What an architecture is compared on.

    draw: its inputs, from the settings. outputs: its outputs, from the settings, `call` and the inputs; `call` runs a method on
    either side, so that one function serves both. recorded: reads arrays that the authors' code has written, by the names that the
    code base has for them.
    """

    draw: Callable[[Hyperparameters, Draw], Inputs]
    outputs: Callable[[Hyperparameters, Call, Inputs], Outputs]
    recorded: Callable[[Hyperparameters, Mapping[str, np.ndarray]], Recorded] | None = None


@dataclass(frozen=True)
class Edges:
    """A graph that belongs to neither side: `receivers` aggregate from `senders`."""

    senders: np.ndarray
    receivers: np.ndarray
    num_nodes: int
    weights: np.ndarray | None = None
    features: np.ndarray | None = None


class Draw:
    """Random inputs by a seed, on a random graph or the user's; or on the graph of `given` inputs."""

    def __init__(self, seed: int, graph: str | Path | None = None, given: Mapping[str, Any] | None = None):
        self.random = np.random.default_rng(seed)
        self.path = None if graph is None else Path(graph)
        self.given = given or {}
        self.asked = False

    def normal(self, *shape: int, scale: float = 1.0) -> np.ndarray:
        """Normal numbers of this shape, in rows of length about `scale`."""
        return scale * self.random.standard_normal(shape) / np.sqrt(shape[-1])

    def covering(self, *counts: int) -> list[np.ndarray]:
        """For each count n all indices from 0 to n - 1 in random order, again and again up to the length of the longest, or `ROWS`.

        So every row of a table is compared: two that were exchanged do not hide in a sample.
        """
        length = max(ROWS, *counts)
        return [np.concatenate([self.random.permutation(n) for _ in range(-(-length // n))])[:length] for n in counts]

    def distinct(self, below: int, columns: int) -> np.ndarray:
        """Indices [rows, columns], different within a row if there are enough; every one below `below`, in `ROWS` rows at least."""
        rounds = [self.random.permutation(below) for _ in range(-(-ROWS * columns // below))]
        return np.concatenate([np.resize(order, (-(-below // columns), columns)) for order in rounds])

    def pairs(self, nodes: int) -> np.ndarray:
        """Pairs [32, 2] of distinct nodes: torch's gradient of a distance is NaN between a point and itself."""
        first = self.random.integers(0, nodes, ROWS)
        return np.stack([first, (first + self.random.integers(1, max(nodes, 2), ROWS)) % nodes], 1)

    def graph(self, width: int, nodes: int | None = None, *, weighted: bool = False, edge_features: int = 0) -> tuple[Edges, np.ndarray]:
        """Edges and features [nodes, width]: the user's, cut to that width, or random ones.

        `nodes` is the number that the model was trained for, if it has one. `weighted`: rows of the adjacency with self loops,
        each divided by its sum, unless the user's file has weights.
        """
        self.asked = True
        if "graph" in self.given:
            edges = _as_edges(self.given["graph"])
            return edges, self.normal(edges.num_nodes, width)
        if self.path is None:
            count, weights = nodes or NODES, None
            senders, receivers = self.random.integers(0, count, (2, max(EDGES, 4 * count)))
            features = self.normal(count, width)
        else:
            senders, receivers, weights, features = _read(self.path, width)
            count = nodes or len(features)
            if features.shape != (count, width):
                raise Unmatched(
                    f"features have shape {features.shape}; the model takes {(count, width)}",
                    "Give the graph that the model was trained on",
                    path=self.path,
                )
        if not weighted:
            weights = None
        elif weights is None:
            loops = np.arange(count)
            senders, receivers = np.concatenate([senders, loops]), np.concatenate([receivers, loops])
            weights = 1 / np.bincount(receivers, minlength=count)[receivers]
        extra = self.random.standard_normal((len(senders), edge_features)) if edge_features else None
        return Edges(senders=senders, receivers=receivers, num_nodes=count, weights=weights, features=extra), features


def drawn(
    probe: Probe, settings: Hyperparameters, seed: int, graph: str | Path | None = None, given: Mapping[str, Any] | None = None
) -> Inputs:
    """The inputs: those `given` by name, the others drawn.

    Raises Usage if a graph is given to a model that takes none, Unmatched for an input that the model does not take.
    """
    draw = Draw(seed, graph, given)
    inputs = probe.draw(settings, draw)
    if graph is not None and not draw.asked:
        raise Usage("the model takes no graph", "Omit --graph")
    if unknown := sorted(set(given or {}) - set(inputs)):
        raise Unmatched(f"an input is named {unknown[0]!r}; the model takes {', '.join(inputs)}", "Give it one of these names")
    return {**inputs, **{name: _as_edges(value) if isinstance(inputs[name], Edges) else value for name, value in (given or {}).items()}}


def _as_edges(value: Any) -> Edges:
    """A graph from edges, a dense adjacency (row receives from column), or an edge index [2, E] (row 0 sends)."""
    if isinstance(value, Edges):
        return value
    array = np.asarray(value)
    if array.ndim == 2 and array.shape[0] == array.shape[1]:
        receivers, senders = np.nonzero(array)
        return Edges(senders=senders, receivers=receivers, num_nodes=len(array), weights=array[receivers, senders].astype(np.float64))
    if array.ndim == 2 and len(array) == 2 and array.dtype.kind in "iu":
        return Edges(senders=array[0], receivers=array[1], num_nodes=int(array.max(initial=-1)) + 1)
    raise Unmatched(f"the graph has shape {array.shape}", "Give an adjacency matrix [N, N], dense or sparse, or an edge index [2, E]")


def for_jax(value: Argument, dtype: str | None) -> Argument:
    """Inputs as JAX takes them, floating numbers in the precision compared; None: as they are."""
    import jax.numpy as jnp

    from port_jax.graphs import Graph

    if isinstance(value, Edges):
        weights, features = (for_jax(part, dtype) for part in (value.weights, value.features))
        return Graph.from_edges(value.senders, value.receivers, num_nodes=value.num_nodes, weights=weights, edge_features=features)
    if isinstance(value, Mapping):
        return {name: for_jax(part, dtype) for name, part in value.items()}
    return value if value is None else jnp.asarray(value, dtype if np.asarray(value).dtype.kind == "f" else None)


def on_nodes(
    width: Callable[[Hyperparameters], int],
    classified: Callable[[Hyperparameters], bool],
    *,
    nodes: str = "",
    weighted: bool = False,
    scored: Callable[[Hyperparameters], bool] = lambda settings: True,
) -> Probe:
    """The probe of a model over a graph: embeddings, link scores and class logits, each where the model gives them."""

    def draw(settings: Hyperparameters, draw: Draw) -> Inputs:
        graph, x = draw.graph(width(settings), settings.get(nodes), weighted=weighted)
        return {"x": x, "graph": graph, "pairs": draw.pairs(graph.num_nodes)}

    def outputs(settings: Hyperparameters, call: Call, given: Inputs) -> Outputs:
        h = call("encode", given["x"], given["graph"])
        found = {"embeddings": h}
        if scored(settings):
            found["scores"] = call("score", h, given["pairs"])
        if classified(settings):
            found["logits"] = call("__call__", given["x"], given["graph"])
        return found

    def recorded(settings: Hyperparameters, arrays: Mapping[str, np.ndarray]) -> Recorded:
        nodes = len(arrays["features"])
        graph = Edges(senders=arrays["adj_col"], receivers=arrays["adj_row"], num_nodes=nodes, weights=arrays["adj_val"])
        inputs, found = {"x": arrays["features"], "graph": graph}, {"embeddings": arrays["embeddings"]}
        if classified(settings):
            found["logits"] = arrays["logits"]
            return Recorded(inputs, found, lambda out: _negative_log_likelihood(out["logits"], arrays["labels"], arrays["idx_train"]))
        inputs["pairs"] = np.concatenate([arrays["val_edges"], arrays["val_edges_false"]])
        found["scores"] = arrays["val_scores"]
        true = len(arrays["val_edges"])
        return Recorded(inputs, found, lambda out: _link_loss(out["scores"], true))

    return Probe(draw, outputs, recorded)


def _negative_log_likelihood(logits: Any, labels: np.ndarray, chosen: np.ndarray) -> Any:
    """The mean of -log softmax(logits)[label] over the chosen nodes, some of which may repeat."""
    import jax

    return -jax.nn.log_softmax(logits)[chosen, labels[chosen]].mean()


def _link_loss(scores: Any, true: int) -> Any:
    """-(mean log sigmoid(s) of the first `true` pairs + mean log sigmoid(-s) of the others)."""
    import jax

    return -(jax.nn.log_sigmoid(scores[:true]).mean() + jax.nn.log_sigmoid(-scores[true:]).mean())


def _read(path: Path, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray]:
    """Senders, receivers, weights and features, as `embed` and training read them; of airport.npz as many features as the model takes."""
    data = graph_data(path, "lp")
    if data.features.shape[1] != width:
        data = graph_data(path, "nc")
    senders, receivers, weights, _ = data.graph.host_arrays()
    return senders, receivers, None if weights is None else weights.astype(np.float64), data.features.astype(np.float64)


__all__ = ["ROWS", "Argument", "Call", "Draw", "Edges", "Inputs", "Outputs", "Probe", "Recorded", "Resumed", "drawn", "for_jax", "on_nodes"]
