"""Small nets of HypLL: their configurations, modules in general position, and what is compared of both sides."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import torch

from parity_tests import draws
from parity_tests.models.conversion import randomised
from reference_torch.models.hypll import HypLLConvNet, HypLLEmbedding, HypLLResNet

COMMON = {"constraining_strategy": "softplus", "curvature_requires_grad": False}
CONFIGS: dict[str, dict[str, Any]] = {
    "convnet": {**COMMON, "net": "convnet", "image_size": 8, "curvature_requires_grad": True},
    "convnet of the tutorial": {**COMMON, "net": "convnet", "in_channels": 2, "image_size": 11, "constraining_strategy": "identity"},
    "resnet": {**COMMON, "net": "resnet", "curvature_requires_grad": True},
    "resnet, midpoints": {**COMMON, "net": "resnet", "use_midpoint": True, "constraining_strategy": "exp"},
    "resnet of the tutorial": {**COMMON, "net": "resnet"},
    "embedding": {**COMMON, "net": "embedding"},
    "embedding, trained curvature": {**COMMON, "net": "embedding", "curvature_requires_grad": True},
}
"""What programs say of their nets; sizes are in the files."""
VALUE = {"softplus": 0.1, "identity": 0.7, "exp": -0.4}
"""Raw values of the curvature: c is 0.74, 0.7 and 0.67."""
ROWS = 9


def ball_of(name: str) -> dict[str, Any]:
    config = CONFIGS[name]
    constraint = config["constraining_strategy"]
    return {"value": VALUE[constraint], "constraint": constraint, "learnable_curvature": config["curvature_requires_grad"]}


def module_of(name: str) -> Any:
    """The module in float64, whose biases are not 0 and whose kernels have no zeros."""
    draws.seed_torch(4)
    ball = ball_of(name)
    if name == "convnet":
        module: Any = HypLLConvNet([3, 4], [6, 5], [3, 3], [1, 0], [2, 0], in_channels=3, positions=4, **ball)
    elif name == "convnet of the tutorial":
        module = HypLLConvNet([3, 2], [4, 6, 3], [2, 2], [0, 0], [2, 2], in_channels=2, positions=4, first_manifold=True, **ball)
    elif name == "embedding" or name.startswith("embedding,"):
        module = HypLLEmbedding(ROWS, 3, **ball)
        with torch.no_grad():
            module.weight.mul_(0.5)
        return module.double()
    else:
        more = {"first_manifold": True, "first_downsample": True} if name.endswith("tutorial") else {"first_downsample": False}
        means = {"use_midpoint": "midpoints" in name}
        module = HypLLResNet([2, 3], [1, 2] if name == "resnet" else [1, 1], 4, in_channels=3, **means, **more, **ball)
    keep = [key for key, _ in module.named_parameters() if key.endswith("c.value")]
    return randomised(module, 0.8, 0.1, keep=keep)


def config_of(name: str) -> dict[str, Any]:
    """What a program writes beside the file."""
    return {**CONFIGS[name], "curvature_value": VALUE[CONFIGS[name]["constraining_strategy"]]}


def case(name: str = "convnet") -> tuple[Any, dict[str, Any]]:
    """A module and its configuration."""
    return module_of(name), config_of(name)


def images(channels: int, size: int) -> np.ndarray:
    """[3, size, size, channels], random; pixels are shorter than the radius of their ball."""
    return 0.4 * draws.rng(5).normal(size=(3, size, size, channels))


EDGES = np.array([[[0, 1], [2, 3]], [[4, 5], [6, 7]], [[8, 0], [3, 5]]])


def theirs(module: Any, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """Embeddings and outputs, or points and distances."""
    if isinstance(module, HypLLEmbedding):
        return module.encode(), module(torch.as_tensor(EDGES))
    x = torch.as_tensor(images(*_form(module)), dtype=dtype)
    h = module.encode(x)
    return h, module.classify(h)


def _form(module: Any) -> tuple[int, int]:
    if isinstance(module, HypLLResNet):
        return 3, 4
    convolution: Any = module.conv1
    return (3, 8) if convolution.kernel_size == 3 else (2, 11)


def ours(model: Any, variables: Any, dtype: Any) -> tuple[Any, ...]:
    """The same."""
    if hasattr(model, "num_embeddings"):
        return model.apply(variables, method="encode"), model.apply(variables, EDGES)
    form = (3, 4) if hasattr(model, "depths") else (3, 8) if model.kernels[0] == 3 else (2, 11)
    h = model.apply(variables, jnp.asarray(images(*form), dtype), method="encode")
    return h, model.apply(variables, h, method="classify")
