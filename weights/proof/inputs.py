"""A probe's inputs as each side takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from weights.mapping.probes import Argument, Edges

if TYPE_CHECKING:
    import torch


def for_jax(value: Argument, dtype: str) -> Argument:
    """Inputs as JAX takes them, floating numbers in the precision compared."""
    import jax.numpy as jnp

    from port_jax.graphs import Graph

    if isinstance(value, Edges):
        weights, features = (for_jax(part, dtype) for part in (value.weights, value.features))
        return Graph.from_edges(value.senders, value.receivers, num_nodes=value.num_nodes, weights=weights, edge_features=features)
    if isinstance(value, Mapping):
        return {name: for_jax(part, dtype) for name, part in value.items()}
    return value if value is None else jnp.asarray(value, dtype if np.asarray(value).dtype.kind == "f" else None)


def for_torch(value: Argument, dtype: torch.dtype) -> Argument:
    """The same for torch."""
    import torch

    from reference_torch.graphs.graph import Graph

    if isinstance(value, Edges):
        senders, receivers = (torch.as_tensor(part).long() for part in (value.senders, value.receivers))
        return Graph(senders, receivers, value.num_nodes, for_torch(value.weights, dtype), for_torch(value.features, dtype))
    if isinstance(value, Mapping):
        return {name: for_torch(part, dtype) for name, part in value.items()}
    return value if value is None else torch.tensor(np.array(value), dtype=dtype if np.asarray(value).dtype.kind == "f" else torch.long)


__all__ = ["for_jax", "for_torch"]
