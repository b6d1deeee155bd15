"""All distances of points of the ball in 16 dimensions, with the vector-Jacobian product: `python -m benchmarks pairwise [--quick]`.

The torch side is geoopt's `dist` over broadcast points, x[:, None] against x[None]. Beside the times stands the largest relative error
of distances and gradients between points 1e-3 apart, against float64.
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
    """3,000 points on both sides; 20,000 in JAX, where torch would not fit."""
    both, alone = (600, 3_000) if quick else (BOTH, ALONE)
    yield Case(f"pairwise distances, value and gradient, {both:,} x {both:,}, 16 dimensions", Side(torch_pairs, (both,)),
               Side(jax_pairs, (both,)), 20.0)  # fmt: skip
    needed = f"{eager_gib(alone):.0f} GiB for what eager keeps; a matrix over the pairs has {alone**2 * 4 / 2**30:.1f}"
    free = free_gib()
    ours = 3 * alone**2 * 4 / 2**30
    if ours < 0.8 * free:
        yield Case(f"pairwise distances, value and gradient, {alone:,} x {alone:,}, 16 dimensions", None, Side(jax_pairs, (alone,)),
                   notes={"torch_needs": needed})  # fmt: skip


def eager_gib(n: int) -> float:
    """What eager geoopt keeps for the derivative of n x n distances: at least five arrays over pairs and coordinates in `mobius_add`
    (two products, their sum, the sum over the denominator, the square under the norm)."""
    return 5 * n * n * WIDTH * 4 / 2**30


def free_gib() -> float:
    """Memory that processes can still have."""
    with open("/proc/meminfo") as file:
        return int(file.read().split("MemAvailable:")[1].split()[0]) / 2**20


def points(n: int, dtype: type = np.float32) -> np.ndarray:
    """Points of the ball, up to nine tenths of its radius."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, WIDTH))
    x *= 0.9 * rng.random((n, 1)) / np.linalg.norm(x, axis=1, keepdims=True) / C**0.5
    return x.astype(dtype)


def neighbours() -> tuple[np.ndarray, np.ndarray]:
    """Pairs of points at 1e-3 of each other, in float32."""
    x = points(NEAR)
    w = np.random.default_rng(1).standard_normal(x.shape)
    return x, (x + 1e-3 * w / np.linalg.norm(w, axis=1, keepdims=True)).astype(np.float32)


def torch_pairs(n: int) -> Callable[[], Any]:
    """geoopt, eager."""
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
    """Largest relative error of the distances of `neighbours`, the truth in float64 by d = 2 arsinh(...)/sqrt(c)."""
    a, b = (x.astype(np.float64) for x in neighbours())
    square = C * ((a - b) ** 2).sum(-1) / ((1 - C * (a * a).sum(-1)) * (1 - C * (b * b).sum(-1)))
    truth = 2 / C**0.5 * np.arcsinh(np.sqrt(square))
    return float(np.abs(value / truth - 1).max())
