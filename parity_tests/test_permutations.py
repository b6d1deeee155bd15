"""Permutations that are computed for the numbers asked: they are permutations, and each is as likely as chance makes it."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from parity_tests import draws
from parity_tests.tolerances import CHANCE
from port_jax.permutations import Permutation


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64, 1000, 4097])
def test_each_number_has_one_place_and_the_inverse_finds_it(size: int):
    permutation, numbers = Permutation.of(size, draws.seed(size)), np.arange(size)
    places = permutation(numbers)
    np.testing.assert_array_equal(np.sort(places), numbers)
    np.testing.assert_array_equal(permutation.inverse(places), numbers)
    for ours, theirs in ((permutation(jnp.asarray(numbers)), places), (jax.jit(permutation.inverse)(jnp.asarray(places)), numbers)):
        assert ours.dtype == numbers.dtype
        np.testing.assert_array_equal(ours, theirs)


def test_large_sizes_do_not_wrap():
    """Sums of two numbers below 2^31 fit into 32 bits without a sign."""
    size = 2**31 - 1
    permutation = Permutation.of(size, [draws.seed(0), 1])
    numbers = np.concatenate([np.arange(1000), size - 1 - np.arange(1000)])
    places = permutation(numbers)
    assert 0 <= places.min() <= places.max() < size
    assert len(np.unique(places)) == len(numbers)
    np.testing.assert_array_equal(permutation.inverse(places), numbers)
    assert stats.kstest(places / size, "uniform").pvalue > CHANCE


@pytest.mark.parametrize("size", [2, 3, 4])
def test_each_permutation_is_equally_likely(size: int):
    counts = dict.fromkeys(itertools.permutations(range(size)), 0)
    for seed in range(100 * len(counts)):
        counts[tuple(Permutation.of(size, [draws.seed(0), seed])(np.arange(size)).tolist())] += 1
    assert stats.chisquare(list(counts.values())).pvalue > CHANCE


def test_two_neighbours_go_to_each_pair_of_places_equally_often():
    size, counts = 12, np.zeros((12, 12))
    for seed in range(3960):
        first, second = Permutation.of(size, [draws.seed(0), seed])(np.array([4, 5]))
        counts[first, second] += 1
    assert (np.diag(counts) == 0).all()
    assert stats.chisquare(counts[~np.eye(size, dtype=bool)]).pvalue > CHANCE


def test_frequent_numbers_are_spread_over_owners():
    """The share of each of 64 blocks in numbers of low value, as the exchange of rows needs it."""
    size, owners = 1 << 20, 64
    places = Permutation.of(size, draws.seed(0))(np.arange(4096)) // (size // owners)
    assert stats.chisquare(np.bincount(places, minlength=owners)).pvalue > CHANCE


def test_sizes_that_have_no_permutation_are_refused():
    for size in (0, 2**31):
        with pytest.raises(ValueError, match=rf"size is {size}; give a whole number from 1 to 2147483647"):
            Permutation.of(size, 0)
