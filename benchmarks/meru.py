"""MERU's encoders and a training step: `python -m benchmarks meru [--quick]`.

The vision transformer is S of patch 16, the text transformer the authors'; the step includes AdamW. Images and texts are random.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from benchmarks.case import Case, Side
from port_jax.models import MERU
from port_jax.models.meru_training import optimizer
from reference_torch.models.meru import MERU as TorchMERU
from reference_torch.models.meru import optimizer_of

GOAL = 1.0
"""Most of the time is that of products of matrices, which both libraries hand to the same kernels."""
SIZES: dict[str, Any] = {"image_size": 224, "patch_size": 16, "width": 384, "depth": 12, "heads": 12, "embed_dim": 512, "vocab_size": 49408,
                         "context_length": 77, "textual_width": 512, "textual_layers": 12, "textual_heads": 8}  # fmt: skip
SMALL: dict[str, Any] = {**SIZES, "image_size": 64, "depth": 2, "textual_layers": 2, "vocab_size": 500}
SPACE: dict[str, Any] = {"curv_init": 1.0, "learn_curv": True, "entail_weight": 0.2}


def cases(quick: bool = False) -> Iterator[Case]:
    """Images encoded, texts encoded, and a training step; `quick` has smaller models and batches."""
    sizes, rows = (SMALL, 4) if quick else (SIZES, 16)
    for work, theirs, ours in (("images encoded", torch_images, jax_images), ("texts encoded", torch_texts, jax_texts),
                               ("training step", torch_training, jax_training)):  # fmt: skip
        args = (tuple(sizes.items()), rows)
        yield Case(f"MERU S, {rows} rows, {work}", Side(theirs, args), Side(ours, args), goal=GOAL)


def batch(sizes: dict[str, Any], rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Images and texts of the full context."""
    rng, size = np.random.default_rng(0), sizes["image_size"]
    tokens = rng.integers(1, sizes["vocab_size"] - 1, (rows, sizes["context_length"]), dtype=np.int32)
    tokens[:, -1] = sizes["vocab_size"] - 1
    return rng.random((rows, 3, size, size), np.float32), tokens


def _torch(sizes: Any, rows: int) -> tuple[Any, Any, Any]:
    torch.manual_seed(0)
    images, tokens = batch(dict(sizes), rows)
    return TorchMERU({**dict(sizes), **SPACE, "class": "MERU"}), torch.from_numpy(images), torch.from_numpy(tokens).long()


def _jax(sizes: Any, rows: int) -> tuple[Any, Any, Any, Any]:
    images, tokens = map(jnp.asarray, batch(dict(sizes), rows))
    model = MERU(**dict(sizes), **SPACE)
    return model, jax.jit(model.init)(jax.random.key(0), images, tokens), images, tokens


def torch_images(sizes: Any, rows: int) -> Callable[[], Any]:
    """The torch side of images."""
    module, images, _ = _torch(sizes, rows)

    @torch.no_grad()
    def once() -> Any:
        return module.encode_image(images)

    return once


def jax_images(sizes: Any, rows: int) -> Callable[[], Any]:
    """The JAX side of images."""
    model, variables, images, _ = _jax(sizes, rows)
    encode = jax.jit(lambda variables, images: model.apply(variables, images, method="encode_image"))
    return lambda: jax.block_until_ready(encode(variables, images))


def torch_texts(sizes: Any, rows: int) -> Callable[[], Any]:
    """The torch side of texts."""
    module, _, tokens = _torch(sizes, rows)

    @torch.no_grad()
    def once() -> Any:
        return module.encode_text(tokens)

    return once


def jax_texts(sizes: Any, rows: int) -> Callable[[], Any]:
    """The JAX side of texts."""
    model, variables, _, tokens = _jax(sizes, rows)
    encode = jax.jit(lambda variables, tokens: model.apply(variables, tokens, method="encode_text"))
    return lambda: jax.block_until_ready(encode(variables, tokens))


def torch_training(sizes: Any, rows: int) -> Callable[[], Any]:
    """The torch side of a step."""
    module, images, tokens = _torch(sizes, rows)
    adamw, scheduler = optimizer_of(module)

    def once() -> None:
        adamw.zero_grad()
        module(images, tokens)["loss"].backward()
        adamw.step()
        scheduler.step()

    return once


def jax_training(sizes: Any, rows: int) -> Callable[[], Any]:
    """The JAX side of a step."""
    model, variables, images, tokens = _jax(sizes, rows)
    tx, rest = optimizer(model), {name: tree for name, tree in variables.items() if name != "params"}
    params = variables["params"]
    state = tx.init(params)

    def step(params: Any, state: Any) -> Any:
        slopes = jax.grad(lambda p: model.apply({**rest, "params": p}, images, tokens)["loss"])(params)
        updates, state = tx.update(slopes, state, params)
        return optax.apply_updates(params, updates), state

    step = jax.jit(step, donate_argnums=(0, 1))

    def once() -> None:
        nonlocal params, state
        params, state = step(params, state)
        jax.block_until_ready(params)

    return once
