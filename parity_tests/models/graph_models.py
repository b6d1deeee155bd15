"""Graphs, outputs and mutations that the tests of node models share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch

from port_jax.graphs import Graph
from reference_torch.graphs.graph import Graph as TorchGraph

NODES, FEATURES, CLASSES = 17, 5, 3
RNG = np.random.default_rng(5)
X = 0.4 * RNG.normal(size=(NODES, FEATURES))
X[3] = 0  # a padded row
PAIRS = RNG.integers(0, NODES, (25, 2))
PAIRS[0] = 4  # a node with itself


def graphs(seed: int = 0) -> tuple[Graph, TorchGraph]:
    """Weighted edges, some of them loops, some repeated, and two nodes that receive nothing."""
    rng = np.random.default_rng(seed)
    senders, receivers = rng.integers(0, NODES, 60), rng.integers(2, NODES, 60)
    senders[:5] = receivers[:5]
    senders[5:8], receivers[5:8] = senders[8:11], receivers[8:11]
    weights = rng.uniform(0.1, 0.6, 60)
    ours = Graph.from_edges(senders, receivers, num_nodes=NODES, weights=weights)
    return ours, TorchGraph(torch.as_tensor(senders), torch.as_tensor(receivers), NODES, torch.as_tensor(weights))


GRAPH, TORCH_GRAPH = graphs()


def theirs(module: Any, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """Embeddings, link scores, and class logits where there are classes."""
    x = torch.as_tensor(X).to(dtype)
    graph = TorchGraph(TORCH_GRAPH.senders, TORCH_GRAPH.receivers, NODES, TORCH_GRAPH.weights.to(dtype))
    h = module.encode(x, graph)
    logits = () if module.decoder is None else (module(x, graph),)
    return h, module.score(h, torch.as_tensor(PAIRS)), *logits


def ours(model: Any, variables: Any, dtype: Any) -> tuple[Any, ...]:
    """The same of the translation."""
    x = jnp.asarray(X, dtype)
    h = model.apply(variables, x, GRAPH, method="encode")
    logits = (model.apply(variables, x, GRAPH),) if model.task == "nc" else ()
    return h, model.apply(variables, h, PAIRS, method="score"), *logits


def mutations(state: dict[str, torch.Tensor], key: str) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    """The state_dict with one key dropped, renamed, repeated, transposed, and of another shape."""
    rest = {k: v for k, v in state.items() if k != key}
    yield "dropped", rest
    yield "renamed", {**rest, key + "_": state[key]}
    yield "repeated", {**state, key + ".copy": state[key]}
    yield "transposed", {**rest, key: state[key].T.contiguous()}
    yield "another shape", {**rest, key: torch.cat([state[key], state[key][:1]])}


def refusals(
    state: dict[str, torch.Tensor], key: str, folder: Path, load: Callable[[Path], Any], error: type[Exception]
) -> list[str]:
    """The mutations that `load` takes without an error."""
    taken = []
    for name, mutated in mutations(dict(state), key):
        path = folder / f"{name}.pth"
        torch.save(mutated, path)
        try:
            load(path)
        except error:
            continue
        taken.append(name)
    return taken
