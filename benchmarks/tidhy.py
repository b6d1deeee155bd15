"""TiDHy, which optimises inside of its forward pass: `python -m benchmarks tidhy [--quick]`.

A training step with GradNorm and a record of a batch of sequences, in the sizes of the authors' defaults, with a fixed number of iterations
at each time step so that both sides do the same work. The step includes the update of the parameters and of the weights of the losses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks.case import Case, Side
from port_jax.models import TiDHy
from port_jax.models.tidhy_training import Training, collections, optimizer, training_step
from port_jax.training import train_state
from reference_torch.models.tidhy import TiDHy as TorchTiDHy
from reference_torch.models.tidhy_training import Trainer, optimizer_of

GOAL = 5.0
WIDTH = 20
SIZES = {"input_dim": WIDTH, "r_dim": 10, "r2_dim": 5, "mix_dim": 15, "hyper_hid_dim": 50, "rank": 2, "loss_type": "MSE",
         "low_rank_temp": False, "dyn_bias": False, "nonlin_decoder": False, "decoder_hid_dims": None, "use_r2_decoder": False}  # fmt: skip
OPTIONS = {"max_iter": 2000, "tol": 0.01, "batch_converge": True, "lr_r": 0.05, "lr_r2": 0.05, "temp_weight": 2.0, "L1_inf_r": 0.0,
           "L1_inf_r2": 0.0, "L1_inf_w": 0.0, "lmda_r": 0.0, "lmda_r2": 0.0, "grad_norm_inf": False, "grad_alpha_inf": 1.0,
           "lr_weights_inf": 0.005, **vars(Training())}  # fmt: skip


def cases(quick: bool = False) -> Iterator[Case]:
    """A training step and a record; `quick` has shorter sequences and fewer iterations."""
    rows, times, steps = (8, 5, 10) if quick else (32, 50, 100)
    for work, theirs, ours in (("training step", torch_training, jax_training), ("record", torch_record, jax_record)):
        named = f"TiDHy {work}, {rows} sequences of {times} steps, {steps} iterations each"
        yield Case(named, Side(theirs, (rows, times, steps)), Side(ours, (rows, times, steps)), goal=GOAL)


def sequences(rows: int, times: int) -> np.ndarray:
    """[rows, times, WIDTH], random."""
    return np.random.default_rng(0).standard_normal((rows, times, WIDTH), dtype=np.float32)


def torch_training(rows: int, times: int, steps: int) -> Callable[[], Any]:
    """The torch side of a step."""
    torch.manual_seed(0)
    module = TorchTiDHy({**SIZES, **OPTIONS})
    trainer = Trainer(module, optimizer_of(module, module.of, 1000)[0], module.of)
    x = torch.from_numpy(sequences(rows, times))
    return lambda: trainer.step(x, steps)


def jax_training(rows: int, times: int, steps: int) -> Callable[[], Any]:
    """The JAX side."""
    model, x = TiDHy(WIDTH), jnp.asarray(sequences(rows, times))
    options, tx = Training(), optimizer(Training(), 1000)
    params = jax.jit(model.init)(jax.random.key(0), x)["params"]
    state = train_state(params, tx, jax.random.key(1), collections=collections(model, options))
    step = jax.jit(training_step(model, tx, options, steps=steps), donate_argnums=0)

    def once() -> None:
        nonlocal state
        state, numbers = step(state, x)
        jax.block_until_ready(numbers)

    return once


def torch_record(rows: int, times: int, steps: int) -> Callable[[], Any]:
    """The torch side of a record."""
    torch.manual_seed(0)
    module, x = TorchTiDHy({**SIZES, **OPTIONS}), torch.from_numpy(sequences(rows, times))
    return lambda: module.record(x, steps=steps)


def jax_record(rows: int, times: int, steps: int) -> Callable[[], Any]:
    """The JAX side."""
    model, x = TiDHy(WIDTH), jnp.asarray(sequences(rows, times))
    variables = jax.jit(model.init)(jax.random.key(0), x)
    record = jax.jit(lambda variables, x: model.apply(variables, x, steps=steps, method="record"))
    return lambda: jax.block_until_ready(record(variables, x))
