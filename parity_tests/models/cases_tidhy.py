"""Small models of TiDHy: their settings, a module in general position, and what is compared of both sides."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import torch

from parity_tests import draws
from parity_tests.models.conversion import randomised
from reference_torch.models.tidhy import TiDHy
from weights.models.tidhy import INFERENCE, TRAINING

ROWS, TIMES, STEPS = 4, 4, 10
SIZES: dict[str, Any] = {
    "input_dim": 5, "r_dim": 3, "r2_dim": 2, "mix_dim": 4, "hyper_hid_dim": 6, "rank": 2, "loss_type": "MSE", "low_rank_temp": False,
    "dyn_bias": False, "nonlin_decoder": False, "decoder_hid_dims": None, "use_r2_decoder": False, "r2_decoder_hid_dim": 4,
}  # fmt: skip
CONFIG = {"max_iter": 60, "tol": 0.01, "lr_r": 0.05, "lr_r2": 0.05}
VARIANTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "low rank, dynamic bias, thresholds, L1": {
        "low_rank_temp": True, "dyn_bias": True, "lmda_r": 0.004, "lmda_r2": 0.0002, "L1_inf_r": 0.02, "L1_inf_r2": 0.003,
        "L1_inf_w": 0.002, "batch_converge": False, "temp_weight": 1.3,
    },
    "deep decoder, cross entropy": {"nonlin_decoder": True, "decoder_hid_dims": [7, 4], "loss_type": "BCE", "batch_converge": False,
                                    "lr_r": 0.002, "lr_r2": 0.002},
    "Poisson, GradNorm inside": {"loss_type": "Poisson", "grad_norm_inf": True, "lr_r": 0.002, "lr_r2": 0.002},
    "R2 decoder": {"use_r2_decoder": True},
    "GradNorm inside": {"grad_norm_inf": True, "dyn_bias": True, "grad_alpha_inf": 0.7},
}  # fmt: skip
REGULARISED: dict[str, Any] = {
    "L1_alpha": 0.01, "L0_alpha": 0.5, "Lnuc_alpha": 0.02, "L1_alpha_spat": 0.03, "L1_alpha_W": 0.01, "Orth_alpha_spat": 0.5,
    "clip_grad": 3.0, "weight_decay": 0.01, "normalize_temporal": True, "normalize_spatial": True,
}  # fmt: skip


def settings(name: str = "as it is", **more: Any) -> dict[str, Any]:
    """All settings of a variant."""
    return {**SIZES, **INFERENCE, **TRAINING, **CONFIG, **VARIANTS[name], **more}


def module_of(given: dict[str, Any]) -> TiDHy:
    """A module in float64, of whose ReLU units some are off and some are on."""
    draws.seed_torch(3)
    module = randomised(TiDHy(given), 0.8, 0.15)
    ends: Any = module.hypernet[4]
    with torch.no_grad():
        if ends.bias is None:
            ends.weight[0].abs_()
            module.hypernet[3].bias.abs_().add_(1.0)
        else:
            ends.bias.add_(0.3)
        if given["loss_type"] != "MSE":  # what is decoded has to be a probability, or positive
            last: Any = module.spatial_decoder[-1]
            last.weight.mul_(0.05)
            last.bias.uniform_(0.3, 0.7)
    return module  # pyright: ignore[reportReturnType]


def by_formula(module: Any, kind: str) -> torch.Tensor:
    """Gives a module numbers that no generator draws, and returns sequences [4, 4, input_dim]: what was recorded elsewhere began with both.

    kind: the loss, in whose domain the decoded numbers lie.
    """
    with torch.no_grad():
        for k, (key, p) in enumerate(sorted(module.named_parameters())):
            wave = torch.sin(1.3 * torch.arange(p.numel(), dtype=torch.float64) + 0.7 * k + 0.5).reshape(p.shape)
            ends = kind != "MSE" and key.startswith("spatial_decoder")
            p.copy_((0.02 if ends else 0.5) * wave + (0.6 if p.ndim == 1 else 0.0))
        module.temporal.view(-1)[1] = 5e-5
    x = torch.sin(0.9 * torch.arange(4 * 4 * module.spatial_decoder[-1].out_features, dtype=torch.float64) ** 1.1).reshape(4, 4, -1)
    return x if kind == "MSE" else 0.5 + 0.3 * x


def config_of(given: dict[str, Any]) -> dict[str, Any]:
    """What the authors' script writes beside the file."""
    return {name: value for name, value in given.items() if name not in ("rank", "decoder_hid_dims")} | {
        "L1_alpha_r2": 0.3,
        "stateful": True,
    }


def case() -> tuple[TiDHy, dict[str, Any]]:
    """A module and its configuration."""
    given = settings()
    return module_of(given), config_of(given)


def sequences(given: dict[str, Any], rows: int = ROWS, times: int = TIMES, n: int = 5) -> np.ndarray:
    """[rows, times, input_dim]; probabilities for the cross entropy."""
    x = draws.rng(n).normal(size=(rows, times, given["input_dim"]))
    return 1 / (1 + np.exp(-x)) if given["loss_type"] != "MSE" else x


def latents(given: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """r and r2 of one step."""
    rng = draws.rng(6)
    return rng.normal(size=(ROWS, given["r_dim"])), rng.normal(size=(ROWS, given["r2_dim"]))


def theirs(module: Any, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """The prediction, one step, a first step, a record, and the training losses."""
    x, r, r2 = (torch.as_tensor(a, dtype=dtype) for a in (sequences(module.of), *latents(module.of)))
    whole = module.record(x, None, STEPS)
    record = tuple(whole[name] for name in ("I_bar", "I_hat", "R_bar", "R2_hat", "W", "losses"))
    return (
        *module.predict(r, r2),
        *module.infer(x[:, 1], r, r2, STEPS)[:2],
        module.first(x[:, 0], STEPS)[0],
        *record,
        *module.training_losses(x, None, STEPS),
    )


def ours(model: Any, variables: Any, dtype: Any) -> tuple[Any, ...]:
    """The same."""
    given = {"input_dim": model.input_dim, "loss_type": model.loss_type, "r_dim": model.r_dim, "r2_dim": model.r2_dim}
    x, r, r2 = (jnp.asarray(a, dtype) for a in (sequences(given), *latents(given)))
    call = lambda method, *args: model.apply(variables, *args, method=method)  # noqa: E731
    whole = call("record", x, None, STEPS)
    record = (whole.I_bar, whole.I_hat, whole.R_bar, whole.R2_hat, whole.W, jnp.stack(whole.losses))
    found = call("infer", x[:, 1], r, r2, STEPS)
    return (
        *call("predict", r, r2), found.r, found.r2, call("first", x[:, 0], STEPS).r, *record, *call("training_losses", x, None, STEPS),
    )  # fmt: skip
