"""The hyperboloid -x0² + |xs|² = -k in mpmath. Points and tangents are given by their space parts, which determine them.

Far points cancel by the square of their time coordinate: work with 50 digits more than those.
"""

from __future__ import annotations

from mpmath import acosh, cosh, mpf, sinh, sqrt

from parity_tests.oracle.stereographic import Vector, dot, plus, times


def point(space: Vector, k) -> Vector:
    """The point with this space part."""
    return [sqrt(k + dot(space, space)), *space]


def tangent(x: Vector, space: Vector) -> Vector:
    """The tangent vector at the point x with this space part."""
    return [dot(x[1:], space) / x[0], *space]


def inner(u: Vector, v: Vector):
    return dot(u[1:], v[1:]) - u[0] * v[0]


def dist(xs, ys, k):
    return sqrt(k) * acosh(max(-inner(point(xs, k), point(ys, k)) / k, mpf(1)))


def dist0(xs, k):
    return sqrt(k) * acosh(point(xs, k)[0] / sqrt(k))


def norm(xs, us, k):
    u = tangent(point(xs, k), us)
    return sqrt(inner(u, u))


def expmap(xs, us, k):
    x = point(xs, k)
    u = tangent(x, us)
    length = sqrt(inner(u, u) / k)
    if not length:
        return x
    return plus(times(cosh(length), x), times(sinh(length) / length, u))


def expmap0(us, k):
    return expmap([mpf(0)] * len(us), us, k)


def logmap(xs, ys, k):
    x, y = point(xs, k), point(ys, k)
    cosh_d = -inner(x, y) / k
    if cosh_d <= 1:
        return [mpf(0)] * len(x)
    return times(acosh(cosh_d) / sqrt(cosh_d**2 - 1), plus(y, times(-cosh_d, x)))


def logmap0(ys, k):
    return logmap([mpf(0)] * len(ys), ys, k)


def logmap0back(xs, k):
    return logmap(xs, [mpf(0)] * len(xs), k)


def transp(xs, ys, vs, k):
    x, y = point(xs, k), point(ys, k)
    v = tangent(x, vs)
    return plus(v, times(inner(y, v) / (k - inner(x, y)), plus(x, y)))


def transp0(ys, vs, k):
    return transp([mpf(0)] * len(ys), ys, vs, k)


def transp0back(xs, vs, k):
    return transp(xs, [mpf(0)] * len(xs), vs, k)


def lorentz_to_poincare(xs, k):
    x = point(xs, k)
    return times(1 / (x[0] + sqrt(k)), x[1:])


def poincare_to_lorentz(x, k):
    x2 = dot(x, x)
    return times(sqrt(k) / (1 - x2), [1 + x2, *times(2, x)])


def dist2(xs, ys, k):
    return dist(xs, ys, k) ** 2


def inner_tangent(xs, us, vs, k):
    x = point(xs, k)
    return inner(tangent(x, us), tangent(x, vs))


def proju(xs, a, k):
    x = point(xs, k)
    return plus(a, times(inner(x, a) / k, x))


def egrad2rgrad(xs, a, k):
    return proju(xs, [-a[0], *a[1:]], k)


def geodesic_unit(t, xs, us, k):
    """us need not have length 1: the point moves |us| t."""
    x = point(xs, k)
    r = sqrt(k)
    return plus(times(cosh(t / r), x), times(r * sinh(t / r), tangent(x, us)))
