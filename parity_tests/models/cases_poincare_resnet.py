"""Small Poincaré ResNets: their configurations, modules in general position, and what is compared of both sides."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import torch

from parity_tests import draws
from parity_tests.models.conversion import randomised
from reference_torch.models.poincare_resnet import PoincareResNet

CONFIGS: dict[str, dict[str, Any]] = {
    "fixed": {"init_c": 0.8},
    "other choices": {"custom_autograd": False, "skip_connection": "rf", "bn_midpoint": False, "channel_dims": [2, 3], "depths": [1, 1]},
    "trained": {"learnable": True},
    "trained, by autograd": {"learnable": True, "custom_autograd": False},
    "trained, two groups": {"learnable": True, "channel_dims": [2, 3], "depths": [1, 1]},
}
"""What programs say of their nets, beside `COMMON`."""
COMPARED = [name for name in CONFIGS if name != "trained, two groups"]
"""Those whose numbers are compared; of the last only the keys are looked at."""
COMMON = {"channel_dims": [2], "depths": [1], "classes": 3, "init_c": 0.6, "learnable": False, "skip_connection": "fr",
          "bn_midpoint": True, "custom_autograd": True, "pool_size": 2}  # fmt: skip


def config_of(name: str) -> dict[str, Any]:
    """What a program writes beside the file."""
    return {**COMMON, **CONFIGS[name]}


def module_of(name: str) -> Any:
    """The module in float64, no parameter of which is 0, and whose trained curvatures differ."""
    draws.seed_torch(3)
    config = config_of(name)
    module = PoincareResNet(
        config["channel_dims"], config["depths"], config["classes"], init_c=config["init_c"], own=config["custom_autograd"],
        learnable=config["learnable"], skip_connection=config["skip_connection"], use_midpoint=config["bn_midpoint"],
        pool=config["pool_size"])  # fmt: skip
    keep = [] if config["learnable"] else [key for key, _ in module.named_parameters() if key.endswith("isp_c")]
    return randomised(module, 0.9, 0.1, keep=keep)


def case(name: str = "fixed") -> tuple[Any, dict[str, Any]]:
    """A module and its configuration."""
    return module_of(name), config_of(name)


def images(groups: int, pool: int, count: int = 2) -> np.ndarray:
    """[count, side, side, 3], random, of the smallest size."""
    side = pool * 2 ** (groups - 1)
    return 0.7 * draws.rng(5).normal(size=(count, side, side, 3))


def theirs(module: Any, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """Embeddings and logits."""
    h = module.encode(torch.as_tensor(images(len(module.groups), module.pool), dtype=dtype))
    return h, module.classify(h)


def ours(model: Any, variables: Any, dtype: Any) -> tuple[Any, ...]:
    """The same."""
    h = model.apply(variables, jnp.asarray(images(len(model.depths), model.pool), dtype), method="encode")
    return h, model.apply(variables, h, method="classify")
