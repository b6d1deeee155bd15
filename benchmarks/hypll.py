"""The residual net of HypLL's tutorial, by midpoints and by Fréchet means: `python -m benchmarks hypll [--quick]`.

A training step on a batch of images with HypLL's RiemannianAdam. Batch norm takes the mean of all pixels of a batch; the Fréchet mean is a
loop that ends by a rule, on both sides at the same iteration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from flax.traverse_util import flatten_dict

from benchmarks.case import Case, Side
from port_jax.models import HypLLResNet
from port_jax.optim import from_torch
from reference_torch.models.hypll import HypLLResNet as TorchResNet
from reference_torch.optim.from_torch.hypll import RiemannianAdam

GOAL = 3.0
CHANNELS, DEPTHS, CLASSES, C = (4, 8, 16), (1, 1, 1), 10, 0.7


def cases(quick: bool = False) -> Iterator[Case]:
    """A training step by both means; `quick` has fewer and smaller images."""
    rows, size = (4, 8) if quick else (32, 32)
    for means, midpoint in (("midpoints", True), ("Fréchet means", False)):
        given = (rows, size, midpoint)
        named = f"HypLL residual net, {means}, {rows} images of {size} x {size}"
        yield Case(named, Side(torch_training, given), Side(jax_training, given), goal=GOAL)


def batch(rows: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Images with channels last, and labels."""
    random = np.random.default_rng(0)
    return 0.3 * random.standard_normal((rows, size, size, 3), dtype=np.float32), random.integers(0, CLASSES, rows)


def torch_training(rows: int, size: int, midpoint: bool) -> Callable[[], Any]:
    """The torch side."""
    torch.manual_seed(0)
    module = TorchResNet(CHANNELS, DEPTHS, CLASSES, in_channels=3, value=C, constraint="identity", use_midpoint=midpoint)
    optimizer = RiemannianAdam(module.parameters(), lr=1e-3)
    images, labels = (torch.from_numpy(a) for a in batch(rows, size))

    def once() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(module(images), labels).backward()
        optimizer.step()

    return once


def jax_training(rows: int, size: int, midpoint: bool) -> Callable[[], Any]:
    """The JAX side."""
    model = HypLLResNet(CHANNELS, DEPTHS, CLASSES, curvature=C, use_midpoint=midpoint)
    images, labels = (jnp.asarray(a) for a in batch(rows, size))
    params: Any = jax.jit(model.init)(jax.random.key(0), images)["params"]
    axes = {path: list(range(p.ndim - 1)) for path, p in dict[str, Any](flatten_dict(params, sep="/")).items() if path.endswith("kernel")}
    described = {"name": "hypll.RiemannianAdam", "lr": 1e-3}
    tx, state = from_torch(described, params=params, manifolds=model.manifolds, last_axes=axes)

    @jax.jit
    def step(params: Any, state: Any) -> Any:
        def loss(params: Any) -> Any:
            logits: Any = model.apply({"params": params}, images)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    def once() -> None:
        nonlocal params, state
        params, state = jax.block_until_ready(step(params, state))

    return once
