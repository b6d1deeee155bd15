"""One direction of a graph: for each node (row), the edges that meet there, arranged so that sums over them are dense.

XLA runs a scatter on CPU one row at a time. A fused sum of K gathers is a dense loop over all rows of about the same
length instead, vectorised and split over threads, and on any device its order of summation is fixed. So rows are cut
into pieces of at most `LONGEST` edges, pieces of similar length form a `Block`, and the sums of the pieces of a long row
are summed again in the same way, level by level. The layout is chosen here, once per graph.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from port_jax.checks import is_half

__all__ = ["BUCKETS", "LONGEST", "SMALLEST", "Block", "Level", "Rows", "indices", "joined", "masked", "take", "widened"]

LONGEST = 16
"""The largest number of edges in a piece. On a power-law graph 32 is no faster and takes twice as long to compile."""
BUCKETS = (2, 4, 8, LONGEST)
"""The lengths to which pieces are padded. On a power-law graph this makes 21 % more slots than edges, with a quarter of the
code that blocks of every length from 1 to 16 would need."""
SMALLEST = 2048
"""A block of fewer slots than this is merged into the next one: compiling it would cost more time than it saves."""


def indices(values: np.ndarray) -> Array:
    """Indices as JAX keeps them. NumPy converts them: `jnp.asarray` would compile a program for each shape, and a graph has many."""
    return jax.device_put(np.asarray(values, np.int32))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Block:
    """Pieces of similar length: slot k of piece p is entry `entries[k, p]`; from `lengths[p]` on, the last one is repeated."""

    entries: Int[Array, "K P"]
    columns: Int[Array, "K P"] | None
    lengths: Int[Array, " P"]
    full: int = dataclasses.field(metadata={"static": True})
    """The number of slots that every piece of the block fills."""

    def filled(self) -> Bool[Array, "K P"]:
        """True for the slots that have an entry of their own."""
        return self.lengths > jnp.arange(self.entries.shape[0])[:, None]

    def sum(self, values: Array) -> Array:
        """The sum over the slots of values [E, F] at the entries, in float32 at least."""
        terms = [widened(take(values, at)) for at in self.entries]
        return reduce(jnp.add, [x if k < self.full else masked(x, self.lengths > k) for k, x in enumerate(terms)])

    def max(self, values: Array) -> Array:
        """The largest of the values [E, F] at the entries; repeated entries change nothing."""
        return reduce(jnp.maximum, [take(values, at) for at in self.entries])

    def product(self, coefficients: Array, values: Array) -> Array:
        """The sum over the slots of coefficients [E, H] at the entries times values [N, H, C] at the columns, in float32 at least."""
        assert self.columns is not None
        a = widened(masked(take(coefficients, self.entries), self.filled()))[..., None]
        return reduce(jnp.add, [a[k] * widened(take(values, at)) for k, at in enumerate(self.columns)])


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Level:
    """Pieces that are whole rows, and pieces of rows whose sums the next level adds up."""

    whole: tuple[Block, ...]
    partial: tuple[Block, ...]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """Edges sorted by the node that collects them: slot s is edge `edges[s]`, collected by node `segments[s]`."""

    segments: Int[Array, " E"]
    """The collecting node of each slot, ascending."""
    columns: Int[Array, " E"]
    """The node at the other end."""
    edges: Int[Array, " E"] | None
    """The edge in each slot; None where slot s is edge s, as in the direction that the graph is sorted by."""
    levels: tuple[Level, ...] | None
    """Levels over edges, then over the partial sums of the level before. None if there is no layout, for shapes that fit any graph."""
    places: Int[Array, " N"] | None
    """The position of each node's sum among the finished sums of all levels; -1 for a node without edges."""
    num_nodes: int = dataclasses.field(metadata={"static": True})

    @staticmethod
    def build(segments: np.ndarray, columns: np.ndarray, num_nodes: int, edges: np.ndarray | None, *, blocked: bool = True) -> Rows:
        """Rows from host arrays that are already sorted by `segments`."""
        levels, places = None, None
        if blocked and len(segments):
            entries = np.arange(len(segments)) if edges is None else edges
            levels, places = _levels(segments, entries, columns, num_nodes)
        return Rows(
            segments=indices(segments),
            columns=indices(columns),
            edges=None if edges is None else indices(edges),
            levels=levels,
            places=None if places is None else indices(places),
            num_nodes=num_nodes,
        )

    def fold(self, first: Callable[[Block], Array], later: Callable[[Block, Array], Array], empty: float) -> Float[Array, "N ..."]:
        """first(block) over the edges, later(block, sums) over partial sums; `empty` for a node without edges."""
        assert self.levels is not None
        assert self.places is not None
        done: list[Array] = []
        partial: Array | None = None
        for level in self.levels:
            before = partial
            over = first if before is None else lambda block, before=before: later(block, before)
            whole, pieces = [over(block) for block in level.whole], [over(block) for block in level.partial]
            done += whole
            # Joining two blocks also ends a fusion: otherwise XLA would compute this sum of gathers anew for each of its readers.
            partial = joined(pieces) if pieces else None
        rows = joined(done)
        return jnp.where(_wide(self.places >= 0, rows), take(rows, jnp.maximum(self.places, 0)), empty).astype(rows.dtype)


def take(x: Array, ids: Array) -> Array:
    """x[ids] for ids that are known to be in range."""
    return x.at[ids].get(mode="promise_in_bounds", wrap_negative_indices=False)


def widened(x: Array) -> Array:
    """x in float32 if it is in half precision, in which a sum stands still at 256 (bfloat16) or 2048 (float16) times its terms."""
    return x.astype(jnp.float32) if is_half(x.dtype) else x


def masked(x: Array, filled: Array) -> Array:
    """x with 0 where a slot is not filled. The axes of `filled` are the leading axes of x."""
    return jnp.where(_wide(filled, x), x, 0)


def _wide(mask: Array, x: Array) -> Array:
    return mask.reshape(*mask.shape, *[1] * (x.ndim - mask.ndim))


def joined(parts: list[Array]) -> Array:
    """The concatenation of the parts along the first axis; a single part is not copied."""
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts)


def _levels(segments: np.ndarray, entries: np.ndarray, columns: np.ndarray | None, num_nodes: int) -> tuple[tuple[Level, ...], np.ndarray]:
    """The levels, and for each node the position of its sum among the finished ones."""
    levels, places, finished = [], np.full(num_nodes, -1, np.int64), 0
    while len(segments):
        degrees = np.bincount(segments, minlength=num_nodes)
        pieces = -(-degrees // LONGEST)
        owners = np.repeat(np.arange(num_nodes), pieces)
        rank = np.arange(len(owners)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        starts = (np.cumsum(degrees) - degrees)[owners] + rank * LONGEST
        lengths = np.minimum(degrees[owners] - rank * LONGEST, LONGEST)
        whole = pieces[owners] == 1
        blocks, order = _blocks(np.flatnonzero(whole), starts, lengths, entries, columns, BUCKETS)
        places[owners[order]] = finished + np.arange(len(order))
        finished += len(order)
        partial, order = _blocks(np.flatnonzero(~whole), starts, lengths, entries, columns, BUCKETS[-2:])
        levels.append(Level(blocks, partial))
        by_row = np.argsort(owners[order], kind="stable")  # the blocks have separated the pieces of a row
        segments, entries, columns = owners[order][by_row], by_row, None
    return tuple(levels), places


def _blocks(
    pieces: np.ndarray,
    starts: np.ndarray,
    lengths: np.ndarray,
    entries: np.ndarray,
    columns: np.ndarray | None,
    buckets: tuple[int, ...],
) -> tuple[tuple[Block, ...], np.ndarray]:
    """Blocks of these pieces by length, and the pieces in the order of the blocks' sums."""
    blocks, order, shortest = [], [np.zeros(0, np.int64)], 0
    longest = lengths[pieces].max(initial=0)
    for bucket in buckets:
        chosen = pieces[(lengths[pieces] > shortest) & (lengths[pieces] <= bucket)]
        if not len(chosen) or (chosen.size * bucket < SMALLEST and longest > bucket):
            continue
        shortest = bucket
        order.append(chosen)
        slots = starts[chosen] + np.minimum(np.arange(lengths[chosen].max())[:, None], lengths[chosen] - 1)
        blocks.append(
            Block(
                entries=indices(entries[slots]),
                columns=None if columns is None else indices(columns[slots]),
                lengths=indices(lengths[chosen]),
                full=int(lengths[chosen].min()),
            )
        )
    return tuple(blocks), np.concatenate(order)
