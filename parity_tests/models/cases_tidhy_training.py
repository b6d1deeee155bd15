"""Runs of TiDHy's training: the original's, the file that it leaves, and the one in JAX that goes on from there; the authors' own files."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from parity_tests import draws
from parity_tests.models.cases_tidhy import REGULARISED, ROWS, config_of, module_of, sequences, settings
from port_jax.models.tidhy_training import Training, collections, training_step
from port_jax.models.tidhy_weights import Balance
from port_jax.training import train_state
from reference_torch.models.tidhy_training import Trainer, optimizer_of
from weights.checkpoint import Checkpoint, load
from weights.mapping.entries import flatten, inverse
from weights.models.tidhy_training import gradnorm

STEPS, EPOCHS = 10, 10
"""Iterations of an inference where they are fixed; epochs of the schedule, which halves the rates at every second."""
TRAINED: dict[str, tuple[str, dict[str, Any]]] = {
    "GradNorm": ("as it is", {}),
    "GradNorm, all regularisers, low rank, carried": ("low rank, dynamic bias, thresholds, L1", {**REGULARISED, "mix_dim": 6}),
    "without GradNorm, all regularisers": ("as it is", {**REGULARISED, "grad_norm": False}),
    "GradNorm in training and inside": ("GradNorm inside", {}),
    "R2 decoder, clipped": ("R2 decoder", {"clip_grad": 0.5}),
    "Poisson": ("Poisson, GradNorm inside", {"grad_norm_inf": False, "learning_rate_s": 0.001}),
}
"""By name, a variant of `cases_tidhy` and further settings; with "carried", r2 of a batch begins where it ended in the batch before."""
LOSSES = ("spatial_loss_rhat", "spatial_loss_rbar", "temp_loss")
"""What a training step records by these names is what the original's `step` gives, in this order."""
AUTHORS = ("tidhy_default", "tidhy_gradnorm_inference")
"""Folders with files of the authors' code and what it computed from them."""


def authors_folder(name: str) -> Path:
    """The folder of that name; skips the test where it is not at hand."""
    folder = Path(__file__).parents[3] / "shared" / "fixtures" / name
    if not folder.exists():
        pytest.skip(f"{folder} is not here: the authors' checkpoints are no part of this project")
    return folder


def of_the_authors(name: str) -> tuple[Checkpoint, dict[str, np.ndarray]]:
    """A file of the authors' code, converted, and what that code computed from it in float32."""
    folder = authors_folder(name)
    return load(folder / "full.pth", config=folder / "config.json"), dict(np.load(folder / "expected.npz"))


def begun(name: str, tmp_path: Path, dtype: torch.dtype = torch.float64, **more: Any) -> tuple[Trainer, Any, Checkpoint, torch.Tensor]:
    """The original after two epochs of one batch, its schedule, its file `last_2.pth.tar` converted, and the sequences. more: settings.

    It goes on as from the file, in which there are no gradients: those of an R2 decoder add up from 0.
    """
    variant, given = TRAINED[name]
    given = settings(variant, **{**given, **more})
    module = module_of(given).to(dtype)
    mover, timer = optimizer_of(module, given, EPOCHS)
    trainer, x = Trainer(module, mover, given, carry="carried" in name), torch.as_tensor(sequences(given), dtype=dtype)
    for _ in range(2):
        trainer.step(x, STEPS)
        timer.step()
    torch.save(file_of(trainer, timer), tmp_path / "last_2.pth.tar")
    module.zero_grad()
    return trainer, timer, load(tmp_path / "last_2.pth.tar", config=config_of(given)), x


def file_of(trainer: Trainer, timer: Any) -> dict[str, Any]:
    """What the authors' script saves; the second optimizer is GradNorm's, which is new in each step."""
    own = [trainer.optimizer.state_dict()]
    kept: dict[str, Any] = {"iters": 2, "device": torch.device("cpu")}
    if trainer.weights.weights is not None:
        weights = trainer.weights.weights.clone().requires_grad_()
        own.append(torch.optim.AdamW([weights], lr=trainer.weights.rate).state_dict())
        kept |= {"loss_weights": trainer.weights.weights, "l0": trainer.weights.initial}
    return {"epoch": 2, "best_val_loss": np.float64(1.5), "state_dict": trainer.module.state_dict(), "optim_dict": own,
            "sched_dict": [timer.state_dict()], "model_dict": kept}  # fmt: skip


def taken_up(ckpt: Checkpoint, trainer: Trainer, steps: int | None = STEPS, **inference: Any) -> tuple[Any, Any]:
    """The step and the state that go on from the file. steps: iterations of each inference, None for the stopping rule. inference: settings
    that differ from the file's."""
    options, kept = Training.of(ckpt.settings), gradnorm(ckpt.source)
    options = dataclasses.replace(options, carry_r2=trainer.carry)
    dtype = ckpt.variables["params"]["temporal"].dtype
    extra = collections(ckpt.model, options, ROWS, dtype, Balance(**kept) if kept else None)
    if options.carry_r2:
        extra["latents"] = {"r2": jnp.asarray(trainer.r2.detach().numpy())}  # pyright: ignore[reportOptionalMemberAccess]
    state = train_state(ckpt.variables["params"], ckpt.optimizer, draws.key(0), ckpt.opt_state, extra)
    model = ckpt.model.clone(inference=dataclasses.replace(ckpt.model.inference, **inference))
    return training_step(model, ckpt.optimizer, options, steps=steps), state


def beside(ckpt: Checkpoint, tree: Any) -> dict[str, np.ndarray]:
    """A tree beside the parameters, by the file's keys and in torch's layout."""
    flat = flatten(tree)
    paths = {entry.key: str(entry.path).removeprefix("params/") for entry in ckpt.entries}
    return {entry.key: inverse(entry, np.asarray(flat[paths[entry.key]]), paths[entry.key]) for entry in ckpt.entries}


def distances(ckpt: Checkpoint, params: Any, module: torch.nn.Module) -> dict[str, float]:
    """By key, how far parameters are from torch's, as a part of what torch has moved them since the file."""
    mine, start, found = beside(ckpt, params), beside(ckpt, ckpt.variables["params"]), dict(module.named_parameters())
    result = {}
    for key in mine:
        want = found[key].detach().numpy()
        moved = np.abs(want - start[key]).max()
        result[key] = float(np.abs(mine[key] - want).max() / (moved or 1))
    return result
