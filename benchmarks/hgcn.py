"""HGCN training steps (forward, backward, RiemannianAdam): `python -m benchmarks hgcn [--quick]`.

Cora is classified on the hyperboloid; the links of disease_lp are predicted on the ball with attention, from the training pairs and as
many random pairs. The torch side is `reference_torch.models.hgcn.HGCN`, whose attention runs over the edges. A further case computes the
attention over all N x N pairs, as the authors of HGCN do. The graphs are read from the folder that the environment variable `DATA`
names. Random graphs of the same sizes replace missing ones, and the name of the row says so.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import training
from benchmarks.case import Case, Side
from benchmarks.powerlaw import powerlaw_edges
from port_jax.models import HGCN
from reference_torch.models.hgcn import HGCN as TorchHGCN

FOLDER = Path(os.environ.get("DATA") or Path(__file__).parents[2] / "shared" / "data") / "prepared"
CORA: dict[str, Any] = {"feat_dim": 1434, "dim": 16, "num_layers": 2, "task": "nc", "n_classes": 7, "manifold": "Hyperboloid",
                        "act": "relu"}  # fmt: skip
DISEASE: dict[str, Any] = {"feat_dim": 11, "dim": 16, "num_layers": 2, "task": "lp", "manifold": "PoincareBall", "act": "relu",
                           "use_att": True}  # fmt: skip
MODELS = {"cora": CORA, "disease_lp": DISEASE}
FILES = {"cora": "cora_nc.npz", "disease_lp": "disease_lp.npz"}


def cases(quick: bool = False) -> Iterator[Case]:
    """Cora, then disease_lp with attention over edges and over all pairs in torch; `quick` leaves out the last case."""
    yield Case(f"HGCN training step, hyperboloid, {name_of('cora')}", Side(torch_step, ("cora",)), Side(jax_step, ("cora",)), 8.0,
               Side(torch_compiled, ("cora",)), best_goal=5.0)  # fmt: skip
    work, ours = f"HGCN with attention, training step, ball, {name_of('disease_lp')}", Side(jax_step, ("disease_lp",))
    yield Case(f"{work}: edge by edge", Side(torch_step, ("disease_lp",)), ours, 3.0)
    if not quick:
        yield Case(f"{work}: torch over all N x N pairs", Side(torch_all_pairs, ("disease_lp",)), ours, 100.0)


def name_of(name: str) -> str:
    """The name of a graph, or what stands in for it."""
    return name if (FOLDER / FILES[name]).exists() else f"a random graph of {name}'s size"


def torch_step(name: str) -> Callable[[], None]:
    """The torch side, eager."""
    return training.torch_step(TorchHGCN(**MODELS[name]), problem(name))


def torch_compiled(name: str) -> Callable[[], None]:
    """The torch side with loss and derivative under torch.compile."""
    return training.torch_step(TorchHGCN(**MODELS[name]), problem(name), compiled=True)


def jax_step(name: str) -> Callable[[], None]:
    """The JAX side."""
    return training.jax_step(HGCN(**MODELS[name]), problem(name))


def torch_all_pairs(name: str) -> Callable[[], None]:
    """The torch side, eager, with attention scores for every pair of nodes and a dense adjacency."""
    model, found = TorchHGCN(**MODELS[name]), problem(name)
    for layer in model.encoder.layers:  # pyright: ignore[reportGeneralTypeIssues]
        layer.agg = AllPairs(layer.agg)
    adjacency = torch.zeros(len(found.features), len(found.features))
    adjacency[found.receivers, found.senders] = torch.from_numpy(found.weights)
    return training.torch_step(model, found, graph=adjacency)


class AllPairs(nn.Module):
    """exp_0(sum_j A_ij sigmoid(w . [u_i, u_j] + b) u_j) with u = log_0(x), over all j (HGCN, arXiv 1910.12933, eq. 8 and 9).

    It uses the parameters of the edge-wise aggregation that it replaces.
    """

    def __init__(self, edgewise: Any):
        super().__init__()
        self.space, self.c, self.att = edgewise.space, edgewise.c, edgewise.att

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        u = self.space.log0(x, self.c)
        n = len(u)
        pairs = torch.cat([u[:, None].expand(n, n, -1), u[None].expand(n, n, -1)], -1)
        weights = torch.sigmoid(self.att.linear(pairs))[..., 0] * adjacency
        return self.space.exp0(weights @ u, self.c)


def problem(name: str) -> training.Problem:
    """The graph with the normalised adjacency, features and targets that HGCN prepares, or a random graph of the same size."""
    path = FOLDER / FILES[name]
    if not path.exists():
        return random_problem(name)
    with np.load(path) as data:
        ends = data["adj_col"], data["adj_row"], data["adj_val"]
        if name == "disease_lp":
            return training.Problem(*ends, data["features"], pairs=link_pairs(*ends[:2]))
        x = np.zeros(tuple(data["features_shape"]), np.float32)
        rows = np.repeat(np.arange(len(x)), np.diff(data["features_indptr"]))
        x[rows, data["features_indices"]] = data["features_data"]
        return training.Problem(*ends, x, data["labels"])


def random_problem(name: str) -> training.Problem:
    """A power-law graph for cora or a random tree for disease_lp, with features of the same shape and the same share of zeros."""
    rng = np.random.default_rng(0)
    if name == "cora":
        nodes, (senders, receivers) = 2708, powerlaw_edges(2708, 13_264)
        x = (rng.random((nodes, 1433)) < 0.0127).astype(np.float32) / 18
    else:
        nodes = 2665
        parents = rng.integers(0, np.arange(1, nodes))
        loops, children = np.arange(nodes), np.arange(1, nodes)
        senders, receivers = np.concatenate([parents, children, loops]), np.concatenate([children, parents, loops])
        x = (rng.random((nodes, 11)) < 0.1).astype(np.float32)
    weights = (1 / np.bincount(receivers, minlength=nodes))[receivers].astype(np.float32)
    pairs = None if name == "cora" else link_pairs(senders, receivers)
    return training.Problem(senders, receivers, weights, x, rng.integers(0, 7, nodes), pairs)


def link_pairs(senders: np.ndarray, receivers: np.ndarray) -> np.ndarray:
    """Each edge once, followed by as many random pairs."""
    once = senders < receivers
    links = np.stack([senders[once], receivers[once]], 1)
    return np.concatenate([links, np.random.default_rng(1).integers(0, senders.max() + 1, links.shape)]).astype(np.int32)
