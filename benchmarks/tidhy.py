"""TiDHy, which optimises inside of its forward pass: `python -m benchmarks tidhy [--quick]`.

A training step with GradNorm, and a record of a batch of sequences, each with a fixed number of iterations at each time step and with the
stopping rule, in the sizes of the authors' defaults. Both sides begin with the same parameters, converted from torch, so that they make as
many iterations. A training step includes the update of the parameters and of the weights of the losses; first calls, which compile, are
shown apart. A side makes as many calls as its time allows, and with the stopping rule a step at other parameters would be other work: there
the rates of training are 0. The last rows are what a person waits for, from the start of a process to a trained model
(`benchmarks/processes.py`), with a fixed number of iterations. No side is under `torch.compile`, as torch's loops call autograd themselves.

The functions import what they need themselves, because a process from its start has one side alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.case import Case, Side
from benchmarks.startup import attempted, both

GOAL = 5.0
WIDTH = 20
SIZES: dict[str, Any] = {
    "input_dim": WIDTH, "r_dim": 10, "r2_dim": 5, "mix_dim": 15, "hyper_hid_dim": 50, "rank": 2, "loss_type": "MSE", "low_rank_temp": False,
    "dyn_bias": False, "nonlin_decoder": False, "decoder_hid_dims": None, "use_r2_decoder": False,
}  # fmt: skip
RATES: dict[str, Any] = {"lr_r": 0.05, "lr_r2": 0.05}
"""Those of the inference; everything else has the authors' defaults."""
STILL: dict[str, Any] = {"learning_rate_s": 0.0, "learning_rate_t": 0.0, "learning_rate_h": 0.0}
"""Those of training where the stopping rule decides how much work a step is."""
EPOCHS = 1000
LONGEST = 120.0
"""Seconds after which no further round of processes begins."""


def cases(quick: bool = False) -> Iterator[Case]:
    """Training steps and records; `quick` has shorter sequences and fewer iterations."""
    rows, times, steps = (8, 5, 10) if quick else (32, 50, 100)
    for work, sides in (("training step", (torch_training, jax_training)), ("record", (torch_record, jax_record))):
        for count in (steps, None):
            told = f"TiDHy {work}, {rows} sequences of {times} steps, {f'{count} iterations each' if count else 'the stopping rule'}"
            theirs, ours = (Side(side, (rows, times, count)) for side in sides)
            yield Case(told, theirs, ours, goal=GOAL)


def rows(quick: bool = False) -> Iterator[dict[str, Any]]:
    """From the start of the process to the first training step, and to the last."""
    sizes = (8, 5, 10, 3) if quick else (32, 20, 50, 40)
    sequences, times, steps, updates = sizes
    on = f"{sequences} sequences of {times} steps, {steps} iterations each"
    works = [f"TiDHy from the start to {end}, {on}" for end in ("the first training step", f"the end of {updates} training steps")]

    def found() -> list[dict[str, Any]]:
        seconds = both("tidhy", [str(size) for size in sizes], 1 if quick else 5, LONGEST)
        goals = [{"cold_goal_s": each["torch_s"], "warm_goal_s": each["torch_s"] / GOAL} for each in seconds.values()]
        return [{**seconds["first"]}, {**seconds["last"], **goals[-1]}]  # a first step is all import and compilation

    yield from attempted(works, found)


def sequences(rows: int, times: int) -> np.ndarray:
    """[rows, times, WIDTH], random."""
    return np.random.default_rng(0).standard_normal((rows, times, WIDTH), dtype=np.float32)


def torch_module(**training: float) -> Any:
    """The original, at random parameters by a seed. training: settings that differ."""
    import torch

    from reference_torch.models.tidhy import TiDHy
    from weights.models.tidhy import INFERENCE, TRAINING

    torch.manual_seed(0)
    return TiDHy({**INFERENCE, **TRAINING, **SIZES, **RATES, **training})


def converted() -> Any:
    """The same parameters in JAX."""
    import torch

    import weights

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.pth")
        torch.save(torch_module().state_dict(), path)
        return weights.load(path, config=RATES)


def torch_training(rows: int, times: int, steps: int | None) -> Callable[[], Any]:
    """The torch side of a step."""
    import torch

    from reference_torch.models.tidhy_training import Trainer, optimizer_of

    module = torch_module(**(STILL if steps is None else {}))
    trainer = Trainer(module, optimizer_of(module, module.of, EPOCHS)[0], module.of)
    x = torch.from_numpy(sequences(rows, times))
    return lambda: trainer.step(x, steps)


def jax_training(rows: int, times: int, steps: int | None) -> Callable[[], Any]:
    """The JAX side, compiled, which donates its state."""
    import jax

    ckpt, x = converted(), jax.numpy.asarray(sequences(rows, times))
    given, state = begun(ckpt.model, ckpt.variables["params"], steps)
    step = jax.jit(given, donate_argnums=0)

    def once() -> Any:
        nonlocal state
        state, numbers = jax.block_until_ready(step(state, x))
        return numbers

    return once


def begun(model: Any, params: Any, steps: int | None) -> tuple[Any, Any]:
    """The step of a model and the state that it begins with."""
    import jax

    from port_jax.models.tidhy_training import Training, collections, optimizer, training_step
    from port_jax.training import train_state

    options = Training(**(STILL if steps is None else {}))
    tx = optimizer(options, EPOCHS)
    state = train_state(params, tx, jax.random.key(1), collections=collections(model, options))
    return training_step(model, tx, options, steps=steps), state


def torch_record(rows: int, times: int, steps: int | None) -> Callable[[], Any]:
    """The torch side of a record."""
    import torch

    module, x = torch_module().requires_grad_(False), torch.from_numpy(sequences(rows, times))  # as the authors' code does to infer
    return lambda: module.record(x, steps=steps)


def jax_record(rows: int, times: int, steps: int | None) -> Callable[[], Any]:
    """The JAX side."""
    import jax

    ckpt, x = converted(), jax.numpy.asarray(sequences(rows, times))
    record = jax.jit(lambda variables, x: ckpt.model.apply(variables, x, steps=steps, method="record"))
    return lambda: jax.block_until_ready(record(ckpt.variables, x))
