"""HGAT training steps (forward, backward, RiemannianAdam): `python -m benchmarks hgat [--quick]`.

The model has two layers with four heads of width 16, the preset htgn, and the ball with a learnable curvature. The loss is the cross
entropy on all nodes, in float32. JAX donates parameters and optimizer state. The torch side is `reference_torch.models.hgat.HGAT` with
geoopt's RiemannianAdam; its compiled form compiles the forward and backward passes.
"""

from __future__ import annotations

import os
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
SIZES = {"airport-sized": (3_188, 40_448), "power-law": (169_343, 1_335_586)}
GOALS = {"airport-sized": 5.0, "power-law": 4.0}


def cases(quick: bool = False) -> Iterator[Case]:
    """One case for each graph; `quick` makes the large graph 20 times smaller."""
    for name, args in sizes(quick).items():
        yield case(name, *args)


def case(name: str, nodes: int, edges: int) -> Case:
    """One size."""
    args, goal = (nodes, edges), GOALS.get(name)
    work, (moved, multiplied) = f"HGAT training step, {name}, {nodes:,} nodes, {edges:,} edges", floor(nodes, edges)
    return Case(work, Side(torch_step, args), Side(jax_step, args), goal, Side(torch_compiled, args), moved, best_goal=goal,
                multiplied=multiplied)  # fmt: skip


def sizes(quick: bool = False) -> dict[str, tuple[int, int]]:
    """Nodes and edges by name; `quick` makes the large graph 20 times smaller."""
    return {name: (n // 20, e // 20) if quick and n > 100_000 else (n, e) for name, (n, e) in SIZES.items()}


def floor(nodes: int, edges: int) -> tuple[int, int]:
    """The bytes that any training step reads and writes, and the multiplications and additions of its matrix products.

    For each layer, with u = W x of D channels in H heads: the sum over neighbours gathers u once for each edge; its derivatives gather u
    again and the cotangent once (3 E D). The weights of the edges are written and read forward and backward (4 E H), with the ends of the
    edges (3 gathers, 2 E indices). Each array of nodes (x, u, the sum, and their cotangents) is written once and read once
    (4 N (in + D) + 2 N D). A product by W costs 2 N in D, and its two derivatives as much each; the first layer's input needs none.
    """
    moved = multiplied = 0
    heads, width = CONFIG["heads"], WIDTH
    for number, channels in enumerate(CONFIG["features"]):
        d = heads * channels
        moved += 4 * (edges * (3 * d + 4 * heads + 3 * 2) + nodes * (4 * (width + d) + 2 * d))
        multiplied += (2 if number == 0 else 3) * 2 * nodes * width * d
        width = d if number + 1 < len(CONFIG["features"]) else channels
    return moved, multiplied + 3 * 2 * nodes * width * CLASSES


def threads() -> int:
    """As many as this process has cores."""
    return len(os.sched_getaffinity(0))


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
