"""A training step of Hypformer on cora: `python -m benchmarks hypformer [--quick]`.

The settings are those of its script for airport, but for its batch norm and a width of 64. The torch side is the model of
`reference_torch`, with geoopt's RiemannianAdam on both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from benchmarks import hgcn, training
from benchmarks.case import Case, Side
from port_jax import models
from reference_torch.models.hypformer import Hypformer

GOAL = 2.0
SETTINGS: dict[str, Any] = {
    "variant": "medium", "hidden_channels": 64, "out_channels": 7, "gnn_num_layers": 3, "gnn_use_bn": False, "gnn_use_init": True,
    "trans_use_residual": True, "graph_weight": 0.2, "k_out": 2.0, "decoder_type": "hyp",
}  # fmt: skip


def cases(quick: bool = False) -> Iterator[Case]:
    """One case, which is small enough for `quick`, too."""
    work = f"Hypformer training step, {hgcn.name_of('cora')}"
    yield Case(work, Side(torch_step), Side(jax_step), compiled=Side(torch_step, (True,)), best_goal=GOAL)


def torch_step(compiled: bool = False) -> Callable[[], None]:
    """The torch side."""
    problem = hgcn.problem("cora")
    return training.torch_step(Hypformer({**SETTINGS, "in_channels": problem.features.shape[1]}).eval(), problem, compiled=compiled)


def jax_step() -> Callable[[], None]:
    """The JAX side."""
    problem = hgcn.problem("cora")
    return training.jax_step(models.Hypformer(**SETTINGS, in_channels=problem.features.shape[1]), problem)
