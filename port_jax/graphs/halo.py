"""Rows of nodes between the devices of a graph in parts: each device gets those that its edges come from.

A device owns n nodes and the edges into them. The rows of other devices' nodes that these edges come from are its halo. To get it, devices
send each other rows in rounds: in the round of distance d, device p sends to device p + d, counted around, the rows that this one lacks.
Whatever is computed from own rows and halo is then local, and in the backward pass the cotangents of the halo go the same way back and are
added up at the owner.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import accumulate
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int, Shaped

from port_jax.graphs.rows import take

if TYPE_CHECKING:
    from port_jax.graphs.graph import Graph

__all__ = ["Halo", "extended", "locally"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Halo:
    """What the devices along one axis of a mesh send each other."""

    send: Int[Array, " P*S"]
    """The own rows that each device sends, counted from its first one, round after round: S for each of P devices."""
    rounds: tuple[tuple[int, int], ...] = dataclasses.field(metadata={"static": True})
    """The distance of each round, and the number of rows that every device sends in it."""
    mesh: Mesh = dataclasses.field(metadata={"static": True})
    axis: str = dataclasses.field(metadata={"static": True})

    @property
    def sharding(self) -> NamedSharding:
        """Where the arrays of the graph lie: rows divided along the axis."""
        return NamedSharding(self.mesh, PartitionSpec(self.axis))

    @property
    def rows(self) -> int:
        """S: the rows that a device sends, and gets."""
        return sum(rows for _, rows in self.rounds)


def extended(x: Shaped[Array, "n *row"], graph: Graph) -> Shaped[Array, "n+S *row"]:
    """Own rows and after them the halo's, on each device, inside of `locally`. The rows themselves where the graph is not in parts.

    A device receives S rows, in the forward pass and again in the backward pass.
    """
    halo = graph.halo
    if halo is None or not halo.rounds:
        return x
    count = halo.mesh.shape[halo.axis]
    ends = list(accumulate(rows for _, rows in halo.rounds))[:-1]
    got = []
    for (distance, _), rows in zip(halo.rounds, jnp.split(take(x, halo.send), ends), strict=True):
        got.append(jax.lax.ppermute(rows, halo.axis, [(p, (p + distance) % count) for p in range(count)]))
    return jnp.concatenate([x, *got])


def locally(operation: Callable[..., Array], graph: Graph, *arrays: Shaped[Array, "rows *row"]) -> Shaped[Array, "rows *row"]:
    """operation(graph, *arrays), for a graph in parts on each device with its part of the graph and its rows of the arrays.

    There the numbers of receivers count from the device's first node, and those of senders go on in the halo.
    """
    halo = graph.halo
    if halo is None:
        return operation(graph, *arrays)
    bare = dataclasses.replace(graph, weights=None, edge_features=None)
    if AxisType.Explicit in halo.mesh.axis_types:
        arrays = tuple(jax.sharding.reshard(x, halo.sharding) for x in arrays)
    spec = PartitionSpec(halo.axis)
    return jax.shard_map(operation, mesh=halo.mesh, in_specs=spec, out_specs=spec)(bare, *arrays)
