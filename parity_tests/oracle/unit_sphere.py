"""The unit sphere in mpmath. Points are normalised and tangents made tangent first: rounded ones are neither; k is not used."""

from __future__ import annotations

from mpmath import atan2, cos, sin, sqrt

from parity_tests.oracle.stereographic import Vector, dot, plus, times


def _unit(x: Vector) -> Vector:
    return times(1 / sqrt(dot(x, x)), x)


def _tangent(x: Vector, u: Vector) -> Vector:
    x = _unit(x)
    return plus(u, times(-dot(x, u), x))


def projx(x, k):
    return _unit(x)


def proju(x, u, k):
    return _tangent(x, u)


def inner(x, u, v, k):
    return dot(_tangent(x, u), _tangent(x, v))


def norm(x, u, k):
    return sqrt(inner(x, u, u, k))


def dist(x, y, k):
    x, y = _unit(x), _unit(y)
    apart, across = plus(x, times(-1, y)), plus(x, y)
    return 2 * atan2(sqrt(dot(apart, apart)), sqrt(dot(across, across)))


def dist2(x, y, k):
    return dist(x, y, k) ** 2


def expmap(x, u, k):
    u = _tangent(x, u)
    length = sqrt(dot(u, u))
    return plus(times(cos(length), _unit(x)), times(sin(length) / length, u)) if length else _unit(x)


def retr(x, u, k):
    return _unit(plus(_unit(x), _tangent(x, u)))


def logmap(x, y, k):
    u = _tangent(x, _unit(y))
    return times(dist(x, y, k) / sqrt(dot(u, u)), u) if any(u) else u


def transp(x, y, u, k):
    return _tangent(y, _tangent(x, u))
