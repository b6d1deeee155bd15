"""HELM-D's logits and a training step: `python -m benchmarks helm [--quick]`.

The model is L6_W390_A6 with a vocabulary of 32000. The step is the script's: gradients are cut together at norm 1, AdamW moves what is
flat, and RiemannianAdam the table of points. Tokens are random.
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
from port_jax.models import HELM
from port_jax.models.helm import sizes_of
from port_jax.optim import riemannian_adamw
from port_jax.optim.clip import clip_grad_norm
from reference_torch.models.helm import CLIP, optimizers_of
from reference_torch.models.helm import HELM as TorchHELM

GOAL = 1.0
"""Most of the time is that of products of matrices, which both libraries hand to the same kernels."""
LR = 4e-4
Work = tuple[str, int, int, int]
"""arch, vocabulary, tokens in a row, rows."""


def cases(quick: bool = False) -> Iterator[Case]:
    """Logits, and a training step; `quick` has a smaller model."""
    work: Work = ("L1_W90_A2", 500, 32, 4) if quick else ("L6_W390_A6", 32000, 128, 4)
    for name, theirs, ours in (("logits", torch_logits, jax_logits), ("training step", torch_training, jax_training)):
        arch, vocabulary, length, rows = work
        yield Case(f"HELM-D {arch}, {rows} x {length} tokens of {vocabulary}, {name}", Side(theirs, work), Side(ours, work), goal=GOAL)


def batch(vocabulary: int, length: int, rows: int) -> np.ndarray:
    """Token ids."""
    return np.random.default_rng(0).integers(0, vocabulary, (rows, length), dtype=np.int32)


def _torch(arch: str, vocabulary: int, length: int, rows: int) -> tuple[Any, Any]:
    torch.manual_seed(0)
    return TorchHELM(arch, vocabulary, length), torch.from_numpy(batch(vocabulary, length, rows)).long()


def _jax(arch: str, vocabulary: int, length: int, rows: int) -> tuple[Any, Any, Any]:
    sizes: dict[str, Any] = dict(sizes_of(arch))
    model, tokens = HELM(vocabulary, length, **sizes), jnp.asarray(batch(vocabulary, length, rows))
    return model, jax.jit(model.init)(jax.random.key(0), tokens), tokens


def torch_logits(*work: Any) -> Callable[[], Any]:
    """The torch side of logits."""
    module, tokens = _torch(*work)

    @torch.no_grad()
    def once() -> Any:
        return module(tokens)

    return once


def jax_logits(*work: Any) -> Callable[[], Any]:
    """The JAX side of logits."""
    model, variables, tokens = _jax(*work)
    run = jax.jit(model.apply)
    return lambda: jax.block_until_ready(run(variables, tokens))


def torch_training(*work: Any) -> Callable[[], Any]:
    """The torch side of a step."""
    module, tokens = _torch(*work)
    optimizers = optimizers_of(module, LR)

    def once() -> None:
        for optimizer in optimizers:
            optimizer.zero_grad()
        torch.nn.functional.cross_entropy(module(tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()).backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), CLIP)
        for optimizer in optimizers:
            optimizer.step()

    return once


def jax_training(*work: Any) -> Callable[[], Any]:
    """The JAX side of a step."""
    model, variables, tokens = _jax(*work)
    params, rest = variables["params"], {name: tree for name, tree in variables.items() if name != "params"}
    decays = {name: name != "token_embed" for name in params}
    adamw = riemannian_adamw(LR, weight_decay=0.01, stabilize=50, manifolds=model.manifolds, decays=decays)
    tx = optax.chain(clip_grad_norm(CLIP), adamw)
    state = tx.init(params)

    def step(params: Any, state: Any) -> Any:
        def loss(params: Any) -> Any:
            logits = model.apply({**rest, "params": params}, tokens)
            return optax.softmax_cross_entropy_with_integer_labels(logits[:, :-1], tokens[:, 1:]).mean()

        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    step = jax.jit(step, donate_argnums=(0, 1))

    def once() -> None:
        nonlocal params, state
        params, state = step(params, state)
        jax.block_until_ready(params)

    return once
