"""Permutations of [0, size) that are computed for the numbers asked and are stored nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["Permutation"]

ROUNDS = 32
"""Each round halves what is left of the order before: after 32, the deviation from an even distribution is that of one in 2^32."""
LARGEST = 2**31 - 1

Numbers = TypeVar("Numbers", np.ndarray, jax.Array)


class Permutation(NamedTuple):
    """A permutation of [0, size), the same for the same seed, in memory and time of the numbers that it is asked for.

    It is the swap-or-not shuffle (Hoang, Morris, Rogaway, "An enciphering scheme based on a card shuffle", CRYPTO 2012, figure 1) with
    `ROUNDS` rounds. Round r has a number k_r in [0, size) and a function F_r to one bit, both drawn from the seed:

        x' = k_r - x mod size,   x becomes x' if F_r(max(x, x')) = 1

    Each round is its own inverse, so the inverse takes the rounds in the opposite order. It is no cipher here: F_r is a hash of 32 bits.

    Fields are made by `Permutation.of(size, seed)`. Arrays of numpy give arrays of numpy, and JAX's arrays those of JAX, under jit, too.
    Numbers outside of [0, size) have no meaning.
    """

    size: int
    keys: tuple[tuple[int, int], ...]
    """Of each round, k_r and what its hash begins with."""

    @staticmethod
    def of(size: int, seed: int | Sequence[int]) -> Permutation:
        """The permutation of a seed: one whole number, or several. ValueError for a size outside of [1, 2^31 - 1]."""
        if not 1 <= size <= LARGEST:
            raise ValueError(f"size is {size}; give a whole number from 1 to {LARGEST}")
        rng = np.random.default_rng(seed)
        keys = zip(rng.integers(0, size, ROUNDS).tolist(), rng.integers(0, 2**32, ROUNDS).tolist(), strict=True)
        return Permutation(size, tuple(keys))

    def __call__(self, numbers: Numbers) -> Numbers:
        """The places of the numbers."""
        return self._turned(numbers, self.keys)

    def inverse(self, places: Numbers) -> Numbers:
        """The numbers at the places."""
        return self._turned(places, self.keys[::-1])

    def _turned(self, x: Numbers, keys: tuple[tuple[int, int], ...]) -> Numbers:
        if isinstance(x, np.ndarray):
            found: Any = x.astype(np.uint32)
            for key in np.array(keys, np.uint32):
                found = self._round(found, key)
            return found.astype(x.dtype)
        found = jax.lax.scan(lambda x, key: (self._round(x, key), None), x.astype(jnp.uint32), jnp.array(keys, jnp.uint32))[0]
        return found.astype(x.dtype)

    def _round(self, x: Any, key: Any) -> Any:
        """One round on numbers of type uint32, which wrap around. It selects by products, which numpy and JAX write alike."""
        sum_ = key[0] + np.uint32(self.size) - x
        other = sum_ - (sum_ >= np.uint32(self.size)).astype(np.uint32) * np.uint32(self.size)
        largest = other + (x > other).astype(np.uint32) * (x - other)
        return x + _bit(largest ^ key[1]) * (other - x)


def _bit(x: Any) -> Any:
    """The highest bit of a mix of all bits of x (the finalizer of MurmurHash3, which is in the public domain)."""
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return (x ^ (x >> np.uint32(16))) >> np.uint32(31)
