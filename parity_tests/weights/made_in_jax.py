"""A model that is made in JAX: its settings, fresh parameters, and the optimizer as `Checkpoint.of` is told of it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from parity_tests import draws
from weights.models import ARCHITECTURES

CONFIG = {"task": "nc", "n_classes": 3, "manifold": "PoincareBall", "c": 1.3, "act": "tanh", "num_layers": 2, "feat_dim": 5, "dim": 4,
          "dropout": 0.0, "bias": True, "model": "HNN"}  # fmt: skip
ADAM = {"name": "RiemannianAdam", "lr": 0.02, "weight_decay": 0.01}


def born(arch: str, settings: Any, dtype: Any = jnp.float64) -> Any:
    """Fresh parameters of a flax module."""
    table = ARCHITECTURES[arch]
    variables = table.build(settings).init(draws.key(3), *table.example(settings))
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), variables)["params"]
