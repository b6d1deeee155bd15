"""Edges as torch tensors, and sums and softmaxes over the edges that a node receives."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Graph:
    """A directed graph: `receivers` aggregate from `senders`. Edge arrays share one order."""

    senders: Tensor
    receivers: Tensor
    num_nodes: int
    weights: Tensor | None = None
    edge_features: Tensor | None = None

    @classmethod
    def from_arrays(cls, graph, dtype: torch.dtype = torch.float32) -> Graph:
        """From any object with the same fields as arrays, `port_jax.graphs.Graph` among them."""

        def floats(values) -> Tensor | None:
            return None if values is None else torch.as_tensor(values.__array__().copy()).to(dtype)

        return cls(
            torch.as_tensor(graph.senders.__array__().copy()).long(),
            torch.as_tensor(graph.receivers.__array__().copy()).long(),
            graph.num_nodes,
            floats(graph.weights),
            floats(graph.edge_features),
        )

    def loops_replaced(self) -> tuple[Tensor, Tensor, Tensor]:
        """Senders and receivers with the present self loops removed and one per node appended; and which edges were kept."""
        kept = self.senders != self.receivers
        nodes = torch.arange(self.num_nodes)
        return torch.cat([self.senders[kept], nodes]), torch.cat([self.receivers[kept], nodes]), kept


def segment_sum(values: Tensor, segments: Tensor, num_segments: int) -> Tensor:
    """out[i] = sum of values[e] over the edges e with segments[e] = i."""
    return values.new_zeros((num_segments, *values.shape[1:])).index_add(0, segments, values)


def segment_softmax(logits: Tensor, segments: Tensor, num_segments: int) -> Tensor:
    """exp(logits[e]) over its sum within the segment of e; the segment's maximum is subtracted first."""
    index = segments.view(-1, *[1] * (logits.dim() - 1)).expand_as(logits)
    top = logits.new_zeros((num_segments, *logits.shape[1:])).scatter_reduce(0, index, logits.detach(), "amax", include_self=False)
    weights = (logits - top[segments]).exp()
    return weights / segment_sum(weights, segments, num_segments)[segments]
