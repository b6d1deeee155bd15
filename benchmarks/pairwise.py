"""All pairwise distances of points on the ball in 16 dimensions, and their gradient: `python -m benchmarks pairwise [--quick]`.

The torch side calls geoopt's `dist` on broadcast points, x[:, None] and x[None]. The rows in results.json also have the largest relative
error of the distances between points that are 1e-3 apart, compared with float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks.case import Case, Side
from port_jax.manifolds import PoincareBall
from port_jax.pairwise import pairwise_dist

C, WIDTH = 0.7, 16
BOTH, ALONE = 3_000, 20_000
NEAR = 256


def cases(quick: bool = False) -> Iterator[Case]:
    """3,000 points on both sides, and 20,000 points in JAX alone, for which torch would need too much memory."""
    both, alone = (600, 3_000) if quick else (BOTH, ALONE)
    yield case(both)._replace(goal=20.0)
    matrix = alone**2 * 4 / 2**30
    needed = f"{eager_gib(alone):.0f} GiB for the arrays that eager mode keeps; one matrix over the pairs has {matrix:.1f} GiB"
    free = free_gib()
    ours = 3 * matrix
    if ours < 0.8 * free:
        yield Case(f"pairwise distances, value and gradient, {alone:,} x {alone:,}, 16 dimensions", None, Side(jax_pairs, (alone,)),
                   notes={"torch_needs": needed})  # fmt: skip


def case(n: int) -> Case:
    """n x n distances: they are written, and their cotangents are read; 2 W operations for each pair in the products of both."""
    work = f"pairwise distances, value and gradient, {n:,} x {n:,}, {WIDTH} dimensions"
    moved, multiplied = 4 * 2 * n * n, 3 * 2 * n * n * WIDTH
    return Case(work, Side(torch_pairs, (n,)), Side(jax_pairs, (n,)), moved=moved, multiplied=multiplied)


def eager_gib(n: int) -> float:
    """The memory that eager geoopt keeps for the derivative of n x n distances.

    `mobius_add` alone keeps at least five arrays over pairs and coordinates: two products, their sum, the sum divided by the denominator,
    and the square inside the norm.
    """
    return 5 * n * n * WIDTH * 4 / 2**30


def free_gib() -> float:
    """The memory that is still available to processes."""
    with open("/proc/meminfo") as file:
        return int(file.read().split("MemAvailable:")[1].split()[0]) / 2**20


def points(n: int, dtype: type = np.float32) -> np.ndarray:
    """Points of the ball, up to 0.9 of its radius."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, WIDTH))
    x *= 0.9 * rng.random((n, 1)) / np.linalg.norm(x, axis=1, keepdims=True) / C**0.5
    return x.astype(dtype)


def neighbours() -> tuple[np.ndarray, np.ndarray]:
    """Pairs of points that are 1e-3 apart, in float32."""
    x = points(NEAR)
    w = np.random.default_rng(1).standard_normal(x.shape)
    return x, (x + 1e-3 * w / np.linalg.norm(w, axis=1, keepdims=True)).astype(np.float32)


def torch_pairs(n: int) -> Callable[[], Any]:
    """geoopt's dist, eager."""
    ball = geoopt.PoincareBall(C)
    x, g = torch.from_numpy(points(n)).requires_grad_(), torch.from_numpy(cotangent(n))

    def step() -> None:
        ball.dist(x[:, None], x[None]).backward(g)
        x.grad = None

    a, b = neighbours()
    value = ball.dist(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    step.facts = {"torch_error_near": error(value)}  # pyright: ignore[reportFunctionMemberAccess]
    return step


def jax_pairs(n: int) -> Callable[[], Any]:
    """port_jax.pairwise."""
    ball = PoincareBall(C)
    x, g = jnp.asarray(points(n)), jnp.asarray(cotangent(n))

    @jax.jit
    def both(x: jax.Array, g: jax.Array) -> Any:
        value, pull = jax.vjp(lambda x: pairwise_dist(ball, x), x)
        return value, pull(g)

    def step() -> None:
        jax.block_until_ready(both(x, g))

    a, b = neighbours()
    value = np.asarray(jnp.diagonal(pairwise_dist(ball, jnp.asarray(a), jnp.asarray(b))))
    step.facts = {"jax_error_near": error(value)}  # pyright: ignore[reportFunctionMemberAccess]
    return step


def cotangent(n: int) -> np.ndarray:
    return np.random.default_rng(2).standard_normal((n, n), dtype=np.float32)


def error(value: np.ndarray) -> float:
    """The largest relative error of the distances of `neighbours`; the exact values are d = 2 arsinh(...) / sqrt(c) in float64."""
    a, b = (x.astype(np.float64) for x in neighbours())
    square = C * ((a - b) ** 2).sum(-1) / ((1 - C * (a * a).sum(-1)) * (1 - C * (b * b).sum(-1)))
    truth = 2 / C**0.5 * np.arcsinh(np.sqrt(square))
    return float(np.abs(value / truth - 1).max())
