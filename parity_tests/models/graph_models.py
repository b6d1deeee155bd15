"""What the tests of node models share: a graph, outputs, and the frame of a model's tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import torch

from parity_tests import draws
from parity_tests.models.conversion import check_parity, check_round_trip, converted, encoded_and_called, randomised
from port_jax.graphs import Graph
from reference_torch.graphs.graph import Graph as TorchGraph

NODES, FEATURES, CLASSES = 17, 5, 3
RNG = draws.stream(5)
X = 0.4 * RNG.normal(size=(NODES, FEATURES))
X[3] = 0  # a padded row
PAIRS = RNG.integers(0, NODES, (25, 2))
PAIRS[0] = 4  # a node with itself


def graphs(seed: int = 0) -> tuple[Graph, TorchGraph]:
    """Weighted edges, some of them loops, some repeated, and two nodes that receive nothing."""
    rng = draws.rng(seed)
    senders, receivers = rng.integers(0, NODES, 60), rng.integers(2, NODES, 60)
    senders[:5] = receivers[:5]
    senders[5:8], receivers[5:8] = senders[8:11], receivers[8:11]
    weights = rng.uniform(0.1, 0.6, 60)
    ours = Graph.from_edges(senders, receivers, num_nodes=NODES, weights=weights)
    return ours, TorchGraph(torch.as_tensor(senders), torch.as_tensor(receivers), NODES, torch.as_tensor(weights))


GRAPH, TORCH_GRAPH = graphs()


def dense_adjacency() -> torch.Tensor:
    """A[i, j] of edges j -> i; repeated edges add up."""
    dense = torch.zeros(NODES, NODES, dtype=torch.float64)
    return dense.index_put((TORCH_GRAPH.receivers, TORCH_GRAPH.senders), TORCH_GRAPH.weights, accumulate=True)


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
    h, out = encoded_and_called(model, variables, x, GRAPH)
    return h, model.apply(variables, h, PAIRS, method="score"), *((out,) if model.task == "nc" else ())


@dataclass(frozen=True)
class Frame:
    """What the tests of one model of HGCN's code base are made of: its settings by the name of each configuration."""

    kind: type[torch.nn.Module]
    configs: dict[str, dict[str, Any]]
    scale: float = 1.0
    """Of the weights, beside noise of 0.15."""
    base: dict[str, Any] = field(default_factory=lambda: {"dim": 4, "bias": 1, "dropout": 0.0, "r": 2.0, "t": 0.7, "act": "relu"})
    carried: tuple[str, ...] = ("model",)
    """Settings that the training script writes and the model does not take."""

    def config(self, name: str) -> dict[str, Any]:
        """The configuration as the training script writes it: one more feature on the hyperboloid."""
        config = {"model": self.kind.__name__, **self.base, **self.configs[name]}
        return {**config, "feat_dim": FEATURES + (config["manifold"] in ("Hyperboloid", "Lorentz"))}

    def module(self, config: dict[str, Any], **own: Any) -> Any:
        """A random model."""
        draws.seed_torch(3)
        return randomised(self.kind(**{k: v for k, v in config.items() if k not in self.carried}, **own), self.scale)

    def check(self, name: str, folder: Path, module: Any = None, single: bool = True) -> Any:
        """Converted, compared forward and backward, and sent back."""
        config = self.config(name)
        module = self.module(config) if module is None else module
        ckpt = converted(module, config, folder)
        assert ckpt.arch == self.kind.__name__.lower()
        check_parity(module, ckpt, theirs, ours, single=single)
        check_round_trip(ckpt, folder)
        return ckpt
