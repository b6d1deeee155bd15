"""A run of the accuracy table in torch with geoopt, which imports nothing of JAX."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from geoopt import ManifoldParameter
from geoopt.optim import RiemannianAdam
from torch.nn import functional as F

from benchmarks.accuracy_problems import POOL, Problem, Settings, config, metric
from reference_torch.graphs.graph import Graph
from reference_torch.models.hgat import HGAT
from reference_torch.models.hgcn import HGCN
from reference_torch.models.hybonet import HyboNet

THEIRS: dict[str, Any] = {"HGCN": HGCN, "HGAT": HGAT, "HyboNet": HyboNet}


def train(model_name: str, given: Problem, settings: Settings, seed: int, steps: int, every: int) -> float:
    """The same training in torch with geoopt."""
    torch.manual_seed(seed)
    model = THEIRS[model_name](**config(model_name, given, settings))
    x, graph, train = torch.as_tensor(given.x), Graph.from_arrays(given.graph), torch.as_tensor(given.train).long()
    false = None if given.false is None else torch.as_tensor(given.false).long()
    labels = None if given.labels is None else torch.as_tensor(given.labels).long()
    spared = {name for name, p in model.named_parameters() if settings.matrices_only and (p.ndim < 2 or isinstance(p, ManifoldParameter))}
    groups = [{"params": [p for name, p in model.named_parameters() if (name in spared) == apart], "weight_decay": decay}
              for apart, decay in ((False, settings.weight_decay), (True, 0.0))]  # fmt: skip
    optimizer = RiemannianAdam([group for group in groups if group["params"]], lr=settings.lr, stabilize=10)
    best, test, waited = -np.inf, np.nan, 0
    for number in range(steps):
        model.train()
        optimizer.zero_grad()
        if given.task == "nc":
            assert labels is not None
            loss = F.cross_entropy(model(x, graph)[train], labels[train])
        else:
            assert false is not None
            h = model.encode(x, graph)
            near, other = model.score(h, train), model.score(h, false[number % POOL])
            if model_name == "HyboNet":
                loss = -F.logsigmoid(near).mean() - F.logsigmoid(-other).mean()
            else:
                loss = F.binary_cross_entropy(near, torch.ones_like(near)) + F.binary_cross_entropy(other, torch.zeros_like(other))
        loss.backward()
        if settings.clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        optimizer.step()
        if (number + 1) % every == 0:
            found = _metric(model, given, x, graph, "val")
            waited = 0 if found > best else waited + 1
            if found > best:
                best, test = found, _metric(model, given, x, graph, "test")
            if waited >= settings.patience // every:
                break
    return test


def _metric(model: Any, given: Problem, x: torch.Tensor, graph: Graph, part: str) -> float:
    model.eval()
    with torch.no_grad():
        if given.task == "nc":
            return metric(given, part, None, model(x, graph).numpy())
        h = model.encode(x, graph)
        return metric(given, part, lambda pairs: model.score(h, torch.as_tensor(pairs).long()).numpy(), None)
