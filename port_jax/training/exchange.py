"""Rows of a split table between the devices that need them and the devices that own them. All of this runs inside of `jax.shard_map`."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Shaped

__all__ = ["Exchange", "Request", "Round"]

Rows = Shaped[Array, "n *row"]


class Request(NamedTuple):
    """What one device wants of a table."""

    ids: Int[Array, " n"]
    """Each wanted row once, ascending; the number of rows in place of those that were repeated."""
    slots: Int[Array, " n"]
    """The place in `ids` of each wanted row, in the order in which they are wanted."""


class Round(NamedTuple):
    """One round, as one device sees it."""

    asked: Int[Array, "owners capacity"]
    """The own rows, counted from the first of them, for which each device asks; padded with their number."""
    places: Int[Array, "owners capacity"]
    """The places in `Request.ids` of what is asked of each device; padded with their number."""
    reached: Int[Array, " owners"]
    """Of each owner, the row before which all devices have got what they want."""


class Exchange(NamedTuple):
    """How the rows of one table travel along an axis of a mesh: device p owns the rows from p `rows` to (p + 1) `rows`.

    Each device asks each other for at most `capacity` rows at once. If a pair wants more, a further round follows, on all devices: of
    each owner, a round takes all rows up to the first one that would be too many for some device, and the next round begins there. So all
    that is said of one row, by whichever devices, is said in one round, and its owner can make the row's step with the sum of its
    gradients. A round takes at least `capacity` different rows of an owner that has more, so there are at most rows / capacity rounds.

    Bytes that a device receives in the first round, for rows of w bytes: owners x capacity x 4 of ids and as many times w of rows, and w of
    gradients. In further rounds the ids travel twice, once with the rows and once with the gradients, as to keep them would take memory
    for the worst case; their capacity `later` is smaller by as much, so that no round exceeds the first one.
    """

    axis: str
    owners: int
    rows: int
    capacity: int
    later: int

    @staticmethod
    def of(axis: str, owners: int, rows: int, wanted: int, width: int, capacity: int | None = None) -> Exchange:
        """For a table of owners x rows rows of `width` bytes, of which each device wants at most `wanted`.

        The capacity is by default 1.5 times the mean, wanted / owners, and 16 more, which is enough if the owners of rows are drawn by
        chance. It is never more than an owner has or a device wants.
        """
        most = -(-3 * wanted // (2 * owners)) + 16 if capacity is None else capacity
        most = max(1, min(most, rows, wanted))
        return Exchange(axis, owners, rows, most, max(1, most * (4 + 2 * width) // (8 + 2 * width)))

    @property
    def size(self) -> int:
        """The rows of the table on all devices."""
        return self.owners * self.rows

    @property
    def begins(self) -> Int[Array, " owners"]:
        """The first row of each owner."""
        return jnp.arange(self.owners, dtype=jnp.int32) * self.rows

    def request(self, ids: Int[Array, " n"]) -> Request:
        """What a device wants that wants these rows, in any order, some of them several times. `size` stands for none."""
        ordered = jax.lax.sort(ids, is_stable=False)
        new = jnp.concatenate([jnp.ones(1, bool), ordered[1:] != ordered[:-1]])
        once = jnp.full_like(ids, self.size).at[jnp.cumsum(new) - 1].set(ordered)
        return Request(once, jnp.searchsorted(once, ids, method="scan").astype(jnp.int32))

    def round(self, ids: Int[Array, " n"], reached: Int[Array, " owners"], capacity: int) -> Round:
        """The round after all rows before `reached` are done. Each device receives 4 bytes for each slot and for each owner."""
        first = jnp.searchsorted(ids, reached, method="scan").astype(jnp.int32)
        beyond = ids.at[first + capacity].get(mode="fill", fill_value=self.size)
        now = jax.lax.pmin(jnp.minimum(beyond, self.begins + self.rows), self.axis)
        places = first[:, None] + jnp.arange(capacity, dtype=jnp.int32)
        wanted = ids.at[places].get(mode="fill", fill_value=self.size)
        mine = wanted < now[:, None]
        asked = self.swapped(jnp.where(mine, wanted - self.begins[:, None], self.rows))
        return Round(asked, jnp.where(mine, places, len(ids)), now)

    def over(self, reached: Int[Array, " owners"]) -> Bool[Array, ""]:
        """Whether all devices have got all that they want; it is the same on all of them."""
        return jnp.all(reached >= self.begins + self.rows)

    def read(self, table: Rows, ids: Int[Array, " n"]) -> tuple[Rows, Round, Int[Array, ""]]:
        """The rows of the table at `Request.ids` (0 in place of none), the first round, and the number of rounds."""

        def taken(found: Rows, at: Round) -> Rows:
            back = self.swapped(table.at[at.asked].get(mode="clip"))
            return found.at[at.places].set(back, mode="drop")

        def further(carry: tuple[Rows, Array, Array]) -> tuple[Rows, Array, Array]:
            found, reached, rounds = carry
            at = self.round(ids, reached, self.later)
            return taken(found, at), at.reached, rounds + 1

        first = self.round(ids, self.begins, self.capacity)
        found = taken(jnp.zeros((len(ids), *table.shape[1:]), table.dtype), first)
        begun = (found, first.reached, jnp.ones((), jnp.int32))
        found, _, rounds = jax.lax.while_loop(lambda carry: ~self.over(carry[1]), further, begun)
        return found, first, rounds

    def sent(self, values: Rows, at: Round) -> Shaped[Array, "owners capacity *row"]:
        """To the owners, what belongs to the rows at `Request.ids`: beside `at.asked`, and 0 beside padding."""
        return self.swapped(values.at[at.places].get(mode="fill", fill_value=0))

    def swapped(self, x: Shaped[Array, "owners *rest"]) -> Shaped[Array, "owners *rest"]:
        """x[q] of this device becomes x[p] of device q, where p is this one."""
        return jax.lax.all_to_all(x, self.axis, 0, 0, tiled=False)
