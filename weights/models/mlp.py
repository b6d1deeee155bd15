"""MLP, HazyResearch/hgcn (`reference_torch.models.mlp.MLP` <-> `port_jax.models.MLP`)."""

from __future__ import annotations

from weights.mapping.port import Found
from weights.mapping.settings import Settings
from weights.models import gcn, node_model


def settle(found: Found, settings: Settings) -> None:
    """As a GCN's; its classes are read at the origin of the space as well."""
    gcn.settle(found, settings)
    node_model.only_flat(settings)


MLP = node_model.architecture("MLP", gcn.keys, settle, gcn.rules)
"""A GCN without edges has the same keys: the configuration says which of the two a file is."""


__all__ = ["MLP", "settle"]
