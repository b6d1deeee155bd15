"""One direction of a graph: for each node (row), the edges that meet there, laid out so that sums over them are dense.

XLA runs a scatter on CPU one row at a time. A fused sum of K gathers is a dense loop over all rows of about the same length
instead, vectorised and split over threads, and on any device its order of summation is fixed. So rows are cut into
pieces of at most `LONGEST` edges, pieces of like length make a `Block`, and the pieces of a long row are summed again in
the same way, level by level. The layout is chosen here, once per graph.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

LONGEST = 16
"""Edges a piece holds at most. Measured on power-law graphs: 8 and 32 are slower, the second to compile too."""
BUCKETS = (2, 4, 8, LONGEST)
"""Lengths that pieces are padded to: 21 % more slots than edges on a power-law graph, and a fifth of the code of 1 .. 16."""
SMALLEST = 2048
"""A block of fewer slots than this joins the next one: its share of the time is less than that of compiling it."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Block:
    """Pieces of like length: slot k of piece p is entry `entries[k, p]`; from `lengths[p]` on the last entry is repeated."""

    entries: Int[Array, "K P"]
    columns: Int[Array, "K P"] | None
    lengths: Int[Array, " P"]
    full: int = dataclasses.field(metadata={"static": True})
    """Slots that every piece of the block fills."""

    def fold(self, term: Callable[[Array, Array | None, Array | None], Array], combine: Callable[..., Array]) -> Array:
        """combine over the slots of term(entries [P], columns [P], filled bool [P] or None where all are)."""
        terms = [
            term(
                self.entries[k],
                None if self.columns is None else self.columns[k],
                None if k < self.full else self.lengths > k,
            )
            for k in range(self.entries.shape[0])
        ]
        return reduce(combine, terms)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rows:
    """Edges sorted by the node that collects them: slot s is edge `edges[s]`, between `segments[s]` and `columns[s]`."""

    segments: Int[Array, " E"]
    """The collecting node of each slot, ascending."""
    columns: Int[Array, " E"]
    """The node at the other end."""
    edges: Int[Array, " E"] | None
    """The edge in each slot; None where slot s is edge s, as in the direction that the graph is sorted by."""
    levels: tuple[tuple[Block, ...], ...] | None
    """Blocks over edges, then over the sums of the level before. None: no layout, for shapes that fit any graph."""
    places: Int[Array, " N"] | None
    """Where the finished row of each node stands in the sums of all levels; -1 for a node without edges."""
    num_nodes: int = dataclasses.field(metadata={"static": True})

    @staticmethod
    def build(
        segments: np.ndarray, columns: np.ndarray, num_nodes: int, edges: np.ndarray | None, *, blocked: bool = True
    ) -> Rows:
        """Rows from host arrays that are already sorted by `segments`."""
        levels, places = None, None
        if blocked and len(segments):
            entries = np.arange(len(segments)) if edges is None else edges
            levels, places = _levels(segments, entries, columns, num_nodes)
        return Rows(
            segments=jnp.asarray(segments, jnp.int32),
            columns=jnp.asarray(columns, jnp.int32),
            edges=None if edges is None else jnp.asarray(edges, jnp.int32),
            levels=levels,
            places=None if places is None else jnp.asarray(places, jnp.int32),
            num_nodes=num_nodes,
        )

    def fold(
        self,
        term: Callable[[Array, Array | None, Array | None], Array],
        again: Callable[[Array], Callable[[Array, Array | None, Array | None], Array]],
        combine: Callable[..., Array],
        empty: float,
    ) -> Array:
        """combine over the edges of each node of term(edges, columns, filled), `empty` for a node without any.

        `again(sums)` is the term of the later levels, over the sums of the level before.
        """
        assert self.levels is not None
        assert self.places is not None
        done: list[Array] = []
        for blocks in self.levels:
            sums = [block.fold(term, combine) for block in blocks]
            done.append(sums[0] if len(sums) == 1 else jnp.concatenate(sums))
            term = again(done[-1])
        rows = done[0] if len(done) == 1 else jnp.concatenate(done)
        there = (self.places >= 0).reshape(-1, *[1] * (rows.ndim - 1))
        return jnp.where(there, take(rows, jnp.maximum(self.places, 0)), jnp.asarray(empty, rows.dtype))


def take(x: Array, ids: Array) -> Array:
    """x[ids] for ids that are known to be in range."""
    return x.at[ids].get(mode="promise_in_bounds")


def masked(x: Array, filled: Bool[Array, " P"] | None) -> Array:
    """x [P, ...] with 0 where a slot is not filled."""
    return x if filled is None else jnp.where(filled.reshape(-1, *[1] * (x.ndim - 1)), x, 0)


def _levels(
    segments: np.ndarray, entries: np.ndarray, columns: np.ndarray | None, num_nodes: int
) -> tuple[tuple[tuple[Block, ...], ...], np.ndarray]:
    """The blocks of all levels, and for each node the place of its sum among theirs."""
    levels, places, offset = [], np.full(num_nodes, -1, np.int64), 0
    while len(segments):
        blocks, owners = _blocks(segments, entries, columns, num_nodes)
        levels.append(blocks)
        pieces = np.bincount(owners, minlength=num_nodes)
        single = pieces[owners] == 1
        places[owners[single]] = offset + np.flatnonzero(single)
        rest = np.flatnonzero(~single)
        rest = rest[np.argsort(owners[rest], kind="stable")]
        offset += len(owners)
        segments, entries, columns = owners[rest], rest, None
    return tuple(levels), places


def _blocks(
    segments: np.ndarray, entries: np.ndarray, columns: np.ndarray | None, num_nodes: int
) -> tuple[tuple[Block, ...], np.ndarray]:
    """One level: the blocks, and the node that owns each piece, in the order of the blocks' sums."""
    degrees = np.bincount(segments, minlength=num_nodes)
    pieces = -(-degrees // LONGEST)
    owners = np.repeat(np.arange(num_nodes), pieces)
    rank = np.arange(len(owners)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    starts = (np.cumsum(degrees) - degrees)[owners] + rank * LONGEST
    lengths = np.minimum(degrees[owners] - rank * LONGEST, LONGEST)
    blocks, order, shortest = [], [], 0
    for bucket in BUCKETS:
        chosen = np.flatnonzero((lengths > shortest) & (lengths <= bucket))
        if not len(chosen) or (bucket < LONGEST and chosen.size * bucket < SMALLEST and lengths.max() > bucket):
            continue
        shortest = bucket
        order.append(chosen)
        width = lengths[chosen].max()
        slots = starts[chosen] + np.minimum(np.arange(width)[:, None], lengths[chosen] - 1)
        blocks.append(
            Block(
                entries=jnp.asarray(entries[slots], jnp.int32),
                columns=None if columns is None else jnp.asarray(columns[slots], jnp.int32),
                lengths=jnp.asarray(lengths[chosen], jnp.int32),
                full=int(lengths[chosen].min()),
            )
        )
    return tuple(blocks), owners[np.concatenate(order)]
