"""Euclidean space in mpmath, and nothing else: k is taken and not used."""

from __future__ import annotations

from mpmath import sqrt

from parity_tests.oracle.stereographic import dot, plus, times


def inner(x, u, v, k):
    return dot(u, v)


def norm(x, u, k):
    return sqrt(dot(u, u))


def expmap(x, u, k):
    return plus(x, u)


def logmap(x, y, k):
    return plus(y, times(-1, x))


def dist2(x, y, k):
    return dot(logmap(x, y, k), logmap(x, y, k))


def dist(x, y, k):
    return sqrt(dist2(x, y, k))


def transp(x, y, v, k):
    return v
