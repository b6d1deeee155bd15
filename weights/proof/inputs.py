"""A probe's inputs as torch takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from weights.mapping.probes import Argument, Edges

if TYPE_CHECKING:
    import torch


def for_torch(value: Argument, dtype: torch.dtype) -> Argument:
    """Inputs as torch takes them, floating numbers in the precision compared."""
    import torch

    from reference_torch.graphs.graph import Graph

    if isinstance(value, Edges):
        senders, receivers = (torch.as_tensor(part).long() for part in (value.senders, value.receivers))
        return Graph(senders, receivers, value.num_nodes, for_torch(value.weights, dtype), for_torch(value.features, dtype))
    if isinstance(value, Mapping):
        return {name: for_torch(part, dtype) for name, part in value.items()}
    if value is None:
        return None
    kinds = {"f": dtype, "b": torch.bool}
    return torch.tensor(np.array(value), dtype=kinds.get(np.asarray(value).dtype.kind, torch.long))


__all__ = ["for_torch"]
