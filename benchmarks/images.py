"""Networks of images: HypLL's residual net, HyperbolicCV's and Poincaré ResNet: `python -m benchmarks images [--quick]`.

A training step on a batch of images with the optimizer of the original. Batch norm takes the mean of all pixels of a batch; the Fréchet
mean is a loop that ends by a rule, on both sides at the same iteration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from flax.traverse_util import flatten_dict

from benchmarks.case import Case, Side
from port_jax.models import HCNN, HypLLResNet, PoincareResNet
from port_jax.optim import from_torch, riemannian_sgd
from reference_torch.models.hcnn import HCNN as TorchHCNN
from reference_torch.models.hypll import HypLLResNet as TorchHypLLResNet
from reference_torch.models.poincare_resnet import PoincareResNet as TorchPoincareResNet
from reference_torch.optim.from_torch.hypll import RiemannianAdam

GOALS = {"HypLL residual net": 3.0, "HyperbolicCV": 2.0, "Poincaré ResNet": 2.0}
CHANNELS, DEPTHS, CLASSES, C, LR = (4, 8, 16), (1, 1, 1), 10, 0.7, 1e-3
HYBRID = {"encoder_manifold": "euclidean", "decoder_manifold": "poincare", "clip_features": 1.0}
KINDS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("HypLL residual net", "midpoints", {"use_midpoint": True}),
    ("HypLL residual net", "Fréchet means", {"use_midpoint": False}),
    ("HyperbolicCV", "Lorentz", {"encoder_manifold": "lorentz", "decoder_manifold": "lorentz"}),
    ("HyperbolicCV", "ordinary encoder, classifier on a ball", HYBRID),
    ("Poincaré ResNet", "midpoints", {"use_midpoint": True}),
)


def cases(quick: bool = False) -> Iterator[Case]:
    """A training step of each; `quick` has fewer and smaller images."""
    rows, size = (4, 8) if quick else (32, 32)
    for net, form, settings in KINDS:
        given = (net, settings, rows, size)
        work = f"{net}, {form}, {rows} images of {size} x {size}"
        yield Case(work, Side(torch_training, given), Side(jax_training, given), goal=GOALS[net])


def batch(rows: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Images with channels last, and labels."""
    random = np.random.default_rng(0)
    return 0.3 * random.standard_normal((rows, size, size, 3), dtype=np.float32), random.integers(0, CLASSES, rows)


def torch_training(net: str, settings: dict[str, Any], rows: int, size: int) -> Callable[[], Any]:
    """The torch side."""
    torch.manual_seed(0)
    if net == "HypLL residual net":
        module: torch.nn.Module = TorchHypLLResNet(CHANNELS, DEPTHS, CLASSES, in_channels=3, value=C, constraint="identity", **settings)
        optimizer: torch.optim.Optimizer = RiemannianAdam(module.parameters(), lr=LR)
    elif net == "HyperbolicCV":
        of = {"encoder_k": 1.0, "decoder_k": 1.0, "learn_k": False, "block": "basic", "num_blocks": DEPTHS, "widths": CHANNELS[:-1]}
        module = TorchHCNN({**of, "embedding_dim": CHANNELS[-1], "classes": CLASSES, "in_channels": 3, **settings})
        groups = module.parameter_groups(LR, 0.0, 1.0)[: 2 if settings["encoder_manifold"] == "lorentz" else 1]
        options: dict[str, Any] = {"momentum": 0.9, "nesterov": True}
        optimizer = geoopt.optim.RiemannianSGD(groups, lr=LR, **options)
    else:
        module = TorchPoincareResNet(CHANNELS, DEPTHS, CLASSES, init_c=C, pool=size // 4, **settings)
        optimizer = torch.optim.Adam(module.parameters(), lr=LR)
    images, labels = (torch.from_numpy(a) for a in batch(rows, size))

    def once() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(module(images), labels).backward()
        optimizer.step()

    return once


def jax_training(net: str, settings: dict[str, Any], rows: int, size: int) -> Callable[[], Any]:
    """The JAX side."""
    nets: dict[str, Callable[[], Any]] = {
        "HypLL residual net": lambda: HypLLResNet(CHANNELS, DEPTHS, CLASSES, curvature=C, **settings),
        "HyperbolicCV": lambda: HCNN(CLASSES, CHANNELS[-1], CHANNELS[:-1], DEPTHS, **settings),
        "Poincaré ResNet": lambda: PoincareResNet(CHANNELS, DEPTHS, CLASSES, C, pool=size // 4, **settings),
    }
    model = nets[net]()
    images, labels = (jnp.asarray(a) for a in batch(rows, size))
    variables: Any = jax.jit(model.init)(jax.random.key(0), images)
    params, statistics = variables["params"], {name: value for name, value in variables.items() if name != "params"}
    if net == "HypLL residual net":
        flat = dict[str, Any](flatten_dict(params, sep="/"))
        axes = {path: list(range(p.ndim - 1)) for path, p in flat.items() if path.endswith("kernel")}
        described = {"name": "hypll.RiemannianAdam", "lr": LR}
        tx, state = from_torch(described, params=params, manifolds=model.manifolds, last_axes=axes)
    else:
        sgd = riemannian_sgd(LR, momentum=0.9, nesterov=True, manifolds=model.manifolds(params)) if net == "HyperbolicCV" else None
        tx = optax.adam(LR) if sgd is None else sgd
        state = tx.init(params)
    mode: dict[str, Any] = {"train": True, "mutable": ["batch_stats"]} if net == "HyperbolicCV" else {"mutable": ["batch_stats"]}

    @jax.jit
    def step(params: Any, statistics: Any, state: Any) -> Any:
        def loss(params: Any) -> Any:
            logits, written = model.apply({"params": params, **statistics}, images, **mode)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), written

        grads, written = jax.grad(loss, has_aux=True)(params)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), {**statistics, **written}, state

    def once() -> None:
        nonlocal params, statistics, state
        params, statistics, state = jax.block_until_ready(step(params, statistics, state))

    return once
