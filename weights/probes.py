"""What `verify` runs a model on: the same inputs, named outputs, and the same optimizer on both sides."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from weights.checkpoint import Checkpoint
from weights.errors import Unmatched, Unreadable

NODES, EDGES, PAIRS = 64, 256, 32


@dataclass(frozen=True)
class Probe:
    """A graph, features and pairs of nodes. `torch` and `jax` give the outputs by name, in float64 or float32."""

    senders: np.ndarray
    receivers: np.ndarray
    num_nodes: int
    features: np.ndarray | None
    node_features: np.ndarray | None
    edge_features: np.ndarray | None
    pairs: np.ndarray
    seed: int

    def torch(self, module: Any, dtype: Any) -> dict[str, Any]:
        """Embeddings, class logits (where they differ from these) and link scores of the torch module."""
        import torch

        from reference_torch.graphs.graph import Graph

        def floats(array: np.ndarray | None) -> Any:
            return None if array is None else torch.as_tensor(array, dtype=dtype)

        graph = Graph(
            torch.as_tensor(self.senders),
            torch.as_tensor(self.receivers),
            self.num_nodes,
            None,
            floats(self.edge_features),
        )
        x, extra = floats(self.features), floats(self.node_features)
        h = module.encode(x, graph, extra)
        outputs = {"embeddings": h, "scores": module.score(h, torch.as_tensor(self.pairs))}
        return outputs if module.decoder is None else {**outputs, "logits": module.classify(h)}

    def inputs(self, dtype: str) -> tuple[Any, Any, Any]:
        """The graph, features and node features as JAX takes them; arguments of `jax`, so that they are not compiled in."""
        import jax.numpy as jnp

        from port_jax.graphs import Graph

        def floats(array: np.ndarray | None) -> Any:
            return None if array is None else jnp.asarray(array, dtype)

        graph = Graph.from_edges(
            self.senders, self.receivers, num_nodes=self.num_nodes, edge_features=floats(self.edge_features)
        )
        return graph, floats(self.features), floats(self.node_features)

    def jax(self, model: Any, variables: Any, inputs: tuple[Any, Any, Any]) -> dict[str, Any]:
        """The same of the flax module."""
        graph, x, extra = inputs
        h = model.apply(variables, x, graph, extra, method="encode")
        outputs = {"embeddings": h, "scores": model.apply(variables, h, self.pairs, method="score")}
        return outputs if model.num_classes is None else {**outputs, "logits": model.apply(variables, h, method="classify")}


def probe_of(checkpoint: Checkpoint, graph: str | Path | None, seed: int) -> Probe:
    """Inputs that fit the model: the user's graph, or a random one whose features have norm about 1."""
    random = np.random.default_rng(seed)
    settings = checkpoint.settings
    width, trained = settings["in_features"], settings.get("num_nodes")
    features = None
    if graph is not None:
        senders, receivers, features = _read(Path(graph))
        nodes = trained or len(features)
        if features.shape[1] < width and trained is None:
            raise Unmatched(
                f"features have width {features.shape[1]}; the model takes {width}",
                "Give the graph it was trained on",
                path=graph,
            )
        features = features[:, :width]
    else:
        nodes = trained or NODES
        senders, receivers = random.integers(0, nodes, (2, max(EDGES, 4 * nodes)))
        features = random.standard_normal((nodes, width)) / np.sqrt(width)
    if len(senders) and max(senders.max(), receivers.max()) >= nodes:
        raise Unmatched(
            f"an edge names node {max(senders.max(), receivers.max())}; there are {nodes}",
            "Give the graph it was trained on",
            path=graph,
        )

    def draw(count: int, name: str) -> np.ndarray | None:
        return random.standard_normal((count, settings[name])) if settings.get(name) else None

    return Probe(senders, receivers, nodes, None if trained else features, draw(nodes, "node_features"),
                 draw(len(senders), "edge_features"), random.integers(0, nodes, (PAIRS, 2)), seed)  # fmt: skip


def _read(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as data:
            edges = data["edges"].astype(np.int64)
            if "features" in data:
                features = data["features"]
            else:
                from scipy.sparse import csr_matrix

                indices, indptr = data["features_indices"], data["features_indptr"]
                values = data["features_data"] if "features_data" in data else np.ones(len(indices), np.float32)
                features = csr_matrix((values, indices, indptr), shape=tuple(data["features_shape"])).toarray()
    except (OSError, ValueError, KeyError) as error:
        raise Unreadable(f"not a graph ({error})", "An .npz with edges [2, E] and features [N, F]", path=path) from None
    both = np.concatenate([edges, edges[::-1]], 1)
    return both[0], both[1], features


def torch_optimizer(checkpoint: Checkpoint, module: Any, dtype: Any) -> Any:
    """The torch optimizer over the module's parameters, in the file's groups, with the file's state."""
    import geoopt
    import torch

    from weights.exporter import torch_tree
    from weights.optim.counts import GROUP, integer
    from weights.source import at
    from weights.tensors import Tensor

    plan = checkpoint.plan
    assert plan is not None
    classes: dict[str, Any] = {"RiemannianAdam": geoopt.optim.RiemannianAdam, "RiemannianSGD": geoopt.optim.RiemannianSGD,
                               "Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW, "SGD": torch.optim.SGD}  # fmt: skip
    found = dict(module.named_parameters())
    groups = [{"params": [found[plan.keys[i]] for i in listed]} for listed in plan.listed]
    optimizer = classes[plan.table](groups, lr=1.0)
    raw = at(torch_tree(checkpoint), checkpoint.source.optimizer_at)

    def plain(value: Any) -> Any:
        if isinstance(value, Tensor):
            return torch.from_numpy(np.array(value.array()))
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return [plain(v) for v in value] if isinstance(value, list) else value

    fresh = optimizer.state_dict()
    groups = [{**new, **plain(old)} for new, old in zip(fresh["param_groups"], raw["param_groups"])]
    states = plain(raw["state"])
    if plan.table == "RiemannianAdam":  # 0.5.1 counts beside the parameter
        for group, kind in zip(groups, plan.dialects):
            for index in group["params"]:
                if kind == GROUP and states.get(index):
                    states[index]["step"] = integer(group["step"], "step")
    optimizer.load_state_dict({"state": states, "param_groups": groups})
    for state in optimizer.state.values():
        for name, value in state.items():
            if name != "step":
                state[name] = value.to(dtype) if torch.is_tensor(value) else value
            elif (
                plan.table == "RiemannianAdam"
            ):  # torch makes a float32 tensor of the count, and 0.999 ** t then has 24 bits
                state[name] = int(value)
    return optimizer
