"""Small networks of HyperbolicCV: their configurations, modules in general position, and what is compared of both sides."""

from __future__ import annotations

from typing import Any

import geoopt
import jax.numpy as jnp
import numpy as np
import torch

from parity_tests import draws
from parity_tests.models.conversion import randomised
from reference_torch.models.hcnn import HCNN
from weights.models.hcnn import outputs

LORENTZ: dict[str, Any] = {
    "encoder_manifold": "lorentz", "decoder_manifold": "lorentz", "encoder_k": 1.3, "decoder_k": 1.3, "learn_k": False,
    "block": "basic", "num_blocks": [1], "widths": [], "embedding_dim": 2, "classes": 3, "in_channels": 2, "optimizer": "RiemannianSGD",
}  # fmt: skip
HYBRID: dict[str, Any] = {**LORENTZ, "encoder_manifold": "euclidean", "clip_features": 0.6, "optimizer": "RiemannianAdam"}
WIDER: dict[str, Any] = {"num_blocks": [1, 1], "widths": [2], "embedding_dim": 3}
CONFIGS: dict[str, dict[str, Any]] = {
    "lorentz": LORENTZ,
    "trained radii": {**LORENTZ, **WIDER, "learn_k": True, "encoder_k": 0.8, "decoder_k": 1.7, "optimizer": "RiemannianAdam"},
    "equal trained radii": {**LORENTZ, "learn_k": True},
    "bottleneck": {**LORENTZ, "block": "bottleneck", "widths": [1], "num_blocks": [1, 1], "decoder_k": 0.7},
    "flat classifier": {**LORENTZ, "decoder_manifold": "euclidean", "optimizer": "Adam"},
    "to poincare": {**HYBRID, "decoder_manifold": "poincare", "decoder_k": 0.7, "learn_k": True},
    "to lorentz": {**HYBRID, **WIDER, "block": "bottleneck", "decoder_k": 0.7, "optimizer": "SGD"},
    "euclidean": {**HYBRID, "decoder_manifold": "euclidean", "optimizer": "Adam", "num_blocks": [2]},
}
SIDE, IMAGES = 3, 4


def module_of(name: str = "lorentz", scale: float = 0.6) -> HCNN:
    """A module in float64, in evaluation, with points off the origin and running statistics that are not those of the start."""
    draws.seed_torch(6)
    module = HCNN({"clip_features": 1.0, **CONFIGS[name]})
    randomised(module, scale, 0.15, keep=[key for key, _ in module.named_parameters() if key.endswith(("manifold.k", "isp_c", "scale"))])
    with torch.no_grad():
        for key, tensor in [*module.named_parameters(), *module.named_buffers()]:
            last = key.rpartition(".")[2]
            if last == "beta":
                tensor[1:] = 0.2 * torch.randn(len(tensor) - 1)
                tensor.copy_(tensor.manifold.projx(tensor))  # pyright: ignore[reportAttributeAccessIssue]
            elif last == "running_mean":
                tensor.copy_(0.2 * torch.randn_like(tensor))
                tensor[: key.startswith("encoder") and CONFIGS[name]["encoder_manifold"] == "lorentz"] = 0
            elif last == "running_var":
                tensor.mul_(0.7 + 0.6 * torch.rand_like(tensor))
            elif last == "weight_g":
                tensor[0] *= -1
    return module.eval()


def case(name: str = "lorentz") -> tuple[HCNN, dict[str, Any]]:
    """A module and its configuration, without what its file says."""
    return module_of(name), {key: CONFIGS[name][key] for key in ("learn_k", "optimizer", "clip_features") if key in CONFIGS[name]}


def optimizer_of(module: HCNN, lr: float = 0.002) -> torch.optim.Optimizer:
    """As the training script makes it."""
    groups, name = module.parameter_groups(lr, 5e-3, 0.2), module.of["optimizer"]
    momentum = {"momentum": 0.9, "nesterov": True} if name.endswith("SGD") else {}
    if name.startswith("Riemannian"):
        return getattr(geoopt.optim, name)(groups, lr=lr, weight_decay=5e-3, stabilize=1, **momentum)
    return getattr(torch.optim, name)(groups, lr=lr, weight_decay=5e-3, **momentum)


def images() -> np.ndarray:
    """[4, 3, 3, 2], random."""
    return 0.7 * draws.rng(5).normal(size=(IMAGES, SIDE, SIDE, 2))


def theirs(module: Any, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """What is classified, and logits in evaluation and in training."""
    found = outputs(module.of, lambda method, *args: getattr(module, method)(*args), {"images": torch.as_tensor(images(), dtype=dtype)})
    return tuple(found.values())


def ours(model: Any, variables: Any, dtype: Any) -> tuple[Any, ...]:
    """The same."""
    found = outputs({}, lambda method, *args: model.apply(variables, *args, method=method), {"images": jnp.asarray(images(), dtype)})
    return tuple(found.values())
