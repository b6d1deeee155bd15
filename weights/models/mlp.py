"""MLP, HazyResearch/hgcn (`reference_torch.models.mlp.MLP` <-> `port_jax.models.MLP`)."""

from __future__ import annotations

from weights.models import node_model
from weights.models.gcn import keys, rules, settle

MLP = node_model.architecture("MLP", keys, settle, rules)
"""A GCN without edges has the same keys: the configuration says which of the two a file is."""


__all__ = ["MLP"]
