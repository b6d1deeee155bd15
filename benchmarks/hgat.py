"""HGAT training steps (forward, backward, RiemannianAdam): `python -m benchmarks hgat [--quick]`.

The model has two layers with four heads of width 16, the preset htgn, and the ball with a learnable curvature. The loss is the cross
entropy on all nodes, in float32. JAX donates parameters and optimizer state. The torch side is `reference_torch.models.hgat.HGAT` with
geoopt's RiemannianAdam; its compiled form compiles the forward and backward passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks import training
from benchmarks.case import Case, Side
from benchmarks.powerlaw import powerlaw_edges
from port_jax.models import HGAT
from reference_torch.models.hgat import HGAT as TorchHGAT

CLASSES, WIDTH = 8, 32
CONFIG: dict[str, Any] = {"in_features": WIDTH, "features": (16, 16), "heads": 4, "preset": "htgn", "num_classes": CLASSES,
                          "classifier": "hyperplanes", "learnable_curvature": True}  # fmt: skip
SIZES = {"airport-sized": (3_188, 40_448, 5.0), "power-law": (169_343, 1_335_586, 4.0)}


def cases(quick: bool = False) -> Iterator[Case]:
    """One case for each graph; `quick` makes the large graph 20 times smaller."""
    for name, (nodes, edges, goal) in SIZES.items():
        if quick and nodes > 100_000:
            nodes, edges = nodes // 20, edges // 20
        args = (nodes, edges)
        compiled, work = Side(torch_compiled, args), f"HGAT training step, {name}, {nodes:,} nodes, {edges:,} edges"
        yield Case(work, Side(torch_step, args), Side(jax_step, args), goal, compiled)


def problem(nodes: int, edges: int) -> training.Problem:
    """Random features and labels on a power-law graph."""
    senders, receivers = powerlaw_edges(nodes, edges)
    rng = np.random.default_rng(0)
    x = 0.1 * rng.standard_normal((nodes, WIDTH), dtype=np.float32)
    return training.Problem(senders, receivers, None, x, rng.integers(0, CLASSES, nodes))


def torch_step(nodes: int, edges: int) -> Callable[[], None]:
    """The torch side, eager."""
    return training.torch_step(TorchHGAT(**CONFIG), problem(nodes, edges))


def torch_compiled(nodes: int, edges: int) -> Callable[[], None]:
    """The torch side under torch.compile."""
    return training.torch_step(TorchHGAT(**CONFIG), problem(nodes, edges), compiled=True)


def jax_step(nodes: int, edges: int) -> Callable[[], None]:
    """The JAX side."""
    return training.jax_step(HGAT(**CONFIG), problem(nodes, edges))
