"""Training steps of the other models: `python -m benchmarks architectures [--quick]`.

HyboNet and GIL classify the nodes of cora with the settings of their authors' code (16 channels, 4 heads), and HTGN predicts the links of
one snapshot of an airport-sized graph. AttH, RotH and MuRP score triples of a knowledge graph as large as WN18RR, with random triples, 50
random tails for each, and the batches of their authors. The torch sides are the models of `reference_torch` with the optimizer of their
authors: geoopt's RiemannianAdam, torch's Adam for AttH and RotH, geoopt's RiemannianSGD for MuRP.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from benchmarks import hgcn, training
from benchmarks.case import Case, Side
from benchmarks.powerlaw import powerlaw_edges
from port_jax import models
from port_jax.optim import riemannian_sgd
from reference_torch.models.gil import GIL
from reference_torch.models.htgn import HTGN
from reference_torch.models.hybonet import HyboNet
from reference_torch.models.kgemb import KGEmb
from reference_torch.models.murp import MuRP

GOAL = 3.0
NODES, EDGES, WIDTH = 3_188, 40_448, 32
ENTITIES, RELATIONS, NEGATIVES = 40_943, 22, 50
BATCHES = {"AttH": (500, 32), "RotH": (500, 32), "MuRP": (128, 40)}
"""Triples in a batch, and the dimension."""
RATES = {"AttH": 1e-3, "RotH": 1e-3, "MuRP": 10.0}


def cases(quick: bool = False) -> Iterator[Case]:
    """One case for each model; `quick` has a hundredth of the entities."""
    cora = hgcn.name_of("cora")
    graphs = {"HyboNet": cora, "GIL": cora, "HTGN": f"links, {NODES:,} nodes, {EDGES:,} edges"}
    for name, graph in graphs.items():
        yield Case(f"{name} training step, {graph}", Side(torch_graph_step, (name,)), Side(jax_graph_step, (name,)),
                   compiled=Side(torch_graph_step, (name, True)), best_goal=GOAL)  # fmt: skip
    entities = ENTITIES // 100 if quick else ENTITIES
    for name, (batch, dim) in BATCHES.items():
        work = f"{name} training step, {batch} triples with {NEGATIVES} false tails, {entities:,} x {dim}"
        args = name, entities
        yield Case(work, Side(torch_triples_step, args), Side(jax_triples_step, args), compiled=Side(torch_triples_step, (*args, True)),
                   best_goal=GOAL)  # fmt: skip


def graph_problem(name: str) -> training.Problem:
    """cora, or links of a power-law graph with as many random pairs."""
    if name != "HTGN":
        return hgcn.problem("cora")
    senders, receivers = powerlaw_edges(NODES, EDGES)
    x = 0.1 * np.random.default_rng(0).standard_normal((NODES, WIDTH), dtype=np.float32)
    return training.Problem(senders, receivers, None, x, pairs=hgcn.link_pairs(senders, receivers))


def torch_graph_step(name: str, compiled: bool = False) -> Callable[[], None]:
    """The torch side."""
    problem = graph_problem(name)
    width = problem.features.shape[1]
    make: dict[str, Callable[[], Any]] = {
        "HyboNet": lambda: HyboNet(width + 1, 16, 2, task="nc", n_classes=7),
        "GIL": lambda: GIL(width, [16, 16], 4, num_classes=7),
        "HTGN": lambda: HTGN(len(problem.features), width, 16, 16, fixed_curvature=False),
    }
    return training.torch_step(make[name](), problem, compiled=compiled)


def jax_graph_step(name: str) -> Callable[[], None]:
    """The JAX side."""
    problem = graph_problem(name)
    width = problem.features.shape[1]
    make: dict[str, Callable[[], Any]] = {
        "HyboNet": lambda: models.HyboNet(width + 1, 16, 2, task="nc", n_classes=7),
        "GIL": lambda: models.GIL(width, (16, 16), 4, num_classes=7),
        "HTGN": lambda: models.HTGN(width, (32, 16), learnable_curvature=True),
    }
    return training.jax_step(make[name](), problem)


def triples(name: str, entities: int) -> np.ndarray:
    """[B, 1 + NEGATIVES, 3]: a random triple, and the same with random tails."""
    rng, batch = np.random.default_rng(0), BATCHES[name][0]
    heads, relations = (rng.integers(0, n, (batch, 1)) for n in (entities, RELATIONS))
    tails = rng.integers(0, entities, (batch, 1 + NEGATIVES))
    return np.stack([np.broadcast_to(heads, tails.shape), np.broadcast_to(relations, tails.shape), tails], -1)


def torch_triples_step(name: str, entities: int, compiled: bool = False) -> Callable[[], None]:
    """The torch side: -log sigmoid of the scores of true triples and of the negated scores of false ones."""
    torch.manual_seed(0)
    batch, dim = BATCHES[name]
    given = torch.from_numpy(triples(name, entities)).reshape(-1, 3)
    if name == "MuRP":
        model: Any = MuRP(entities, RELATIONS, dim)
        optimizer: Any = geoopt.optim.RiemannianSGD(model.parameters(), lr=RATES[name])
        arguments: Any = given.unbind(-1)
    else:
        model = KGEmb(name, entities, RELATIONS, dim)
        optimizer, arguments = torch.optim.Adam(model.parameters(), lr=RATES[name]), (given,)

    def loss() -> torch.Tensor:
        scores = model(*arguments).reshape(batch, -1)
        log_sigmoid = torch.nn.functional.logsigmoid
        return -log_sigmoid(scores[:, 0]).mean() - log_sigmoid(-scores[:, 1:]).mean()

    return training.torch_training(loss, optimizer, compiled)


def jax_triples_step(name: str, entities: int) -> Callable[[], None]:
    """The JAX side."""
    batch, dim = BATCHES[name]
    given = jnp.asarray(triples(name, entities), jnp.int32).reshape(-1, 3)
    if name == "MuRP":
        model: Any = models.MuRP(entities, RELATIONS, dim)
        optimizer: Any = riemannian_sgd(RATES[name], manifolds=model.manifolds)
        arguments: Any = tuple(given.T)
    else:
        model = models.KGEmb(name, entities, RELATIONS, dim)
        optimizer, arguments = optax.adam(RATES[name]), (given,)

    def loss(params: Any, *arguments: Any) -> jax.Array:
        scores = model.apply({"params": params}, *arguments).reshape(batch, -1)
        return -jax.nn.log_sigmoid(scores[:, 0]).mean() - jax.nn.log_sigmoid(-scores[:, 1:]).mean()

    params = jax.jit(lambda key: model.init(key, *arguments)["params"])(jax.random.key(0))
    return training.jax_training(params, loss, optimizer, *arguments)
