"""The stereographic model in mpmath: textbook formulas, evaluated with enough digits that cancellation does not matter.

Points are lists of mpf. Precision is the caller's (`mpmath.workdps`): 50 digits resolve the boundary of float64.
"""

from __future__ import annotations

from mpmath import asin, asinh, atan, atanh, mp, mpf, sin, sinh, sqrt, tan, tanh

Vector = list


def dot(x: Vector, y: Vector):
    return sum((a * b for a, b in zip(x, y)), mpf(0))


def times(r, x: Vector) -> Vector:
    return [r * a for a in x]


def plus(x: Vector, y: Vector) -> Vector:
    return [a + b for a, b in zip(x, y)]


def _circular(k, x, positive, negative):
    if k == 0:
        return x
    root = sqrt(abs(k))
    return (positive if k > 0 else negative)(root * x) / root


def tan_k(x, k):
    return _circular(k, x, tan, tanh)


def artan_k(x, k):
    return _circular(k, x, atan, atanh)


def sin_k(x, k):
    return _circular(k, x, sin, sinh)


def arsin_k(x, k):
    return _circular(k, x, asin, asinh)


def lambda_x(x, k):
    return 2 / (1 + k * dot(x, x))


def inner(x, u, v, k):
    return lambda_x(x, k) ** 2 * dot(u, v)


def norm(x, u, k):
    return lambda_x(x, k) * sqrt(dot(u, u))


def egrad2rgrad(x, u, k):
    return times(1 / lambda_x(x, k) ** 2, u)


def mobius_add(x, y, k):
    x2, y2, xy = dot(x, x), dot(y, y), dot(x, y)
    top = plus(times(1 - 2 * k * xy - k * y2, x), times(1 + k * x2, y))
    return times(1 / (1 - 2 * k * xy + k * k * x2 * y2), top)


def mobius_sub(x, y, k):
    return mobius_add(x, times(-1, y), k)


def gyration(x, y, z, k):
    return mobius_add(times(-1, mobius_add(x, y, k)), mobius_add(x, mobius_add(y, z, k), k), k)


def mobius_coadd(x, y, k):
    return mobius_add(x, gyration(x, times(-1, y), y, k), k)


def mobius_cosub(x, y, k):
    return mobius_coadd(x, times(-1, y), k)


def _along(f, x):
    """f of the length of x, along x; x itself where it is 0."""
    length = sqrt(dot(x, x))
    return times(f(length) / length, x) if length else x


def mobius_scalar_mul(r, x, k):
    return _along(lambda n: tan_k(r * artan_k(n, k), k), x)


def mobius_pointwise_mul(w, x, k):
    return expmap0([a * b for a, b in zip(w, logmap0(x, k))], k)


def mobius_matvec(m, x, k):
    u = logmap0(x, k)
    return expmap0([dot(row, u) for row in m], k)


def expmap0(u, k):
    return _along(lambda n: tan_k(n, k), u)


def logmap0(x, k):
    return _along(lambda n: artan_k(n, k), x)


def dist(x, y, k):
    d = mobius_add(times(-1, x), y, k)
    return 2 * artan_k(sqrt(dot(d, d)), k)


def dist0(x, k):
    return 2 * artan_k(sqrt(dot(x, x)), k)


def expmap(x, u, k):
    return mobius_add(x, _along(lambda n: tan_k(n * lambda_x(x, k) / 2, k), u), k)


def logmap(x, y, k):
    return times(2 / lambda_x(x, k), logmap0(mobius_add(times(-1, x), y, k), k))


def geodesic(t, x, y, k):
    return expmap(x, times(t, logmap(x, y, k)), k)


def geodesic_unit(t, x, u, k):
    return mobius_add(x, _along(lambda n: tan_k(t / 2, k), u), k)


def transp(x, y, v, k):
    return times(lambda_x(x, k) / lambda_x(y, k), gyration(y, times(-1, x), v, k))


def transp0(y, v, k):
    return times(2 / lambda_x(y, k), v)


def transp0back(x, v, k):
    return times(lambda_x(x, k) / 2, v)


def antipode(x, k):
    return times(-1 / (k * dot(x, x)) if k > 0 else mpf(-1), x)


def dist2plane(x, p, a, k):
    v = mobius_add(times(-1, p), x, k)
    return arsin_k(2 * dot(v, a) / ((1 + k * dot(v, v)) * sqrt(dot(a, a))), k)


def _angle(x, y, k):
    """sqrt(k) dist(x, y) on the sphere, at antipodes too."""
    w = plus(x, times(-1, y))
    return 2 * asin(min(sqrt(k * dot(w, w) / ((1 + k * dot(x, x)) * (1 + k * dot(y, y)))), mpf(1)))


def weighted_midpoint(xs, weights, k):
    """Half along its ray of sum w lambda x / sum w (lambda - 1); for k > 0 it or its antipode, whichever is nearer."""
    top = [mpf(0)] * len(xs[0])
    bottom = mpf(0)
    for x, w in zip(xs, weights):
        factor = lambda_x(x, k)
        top, bottom = plus(top, times(w * factor, x)), bottom + w * (factor - 1)
    middle = mobius_scalar_mul(mpf(1) / 2, times(1 / bottom, top), k)
    if k > 0:
        other = antipode(middle, k)
        if sum(_angle(other, x, k) for x in xs) < sum(_angle(middle, x, k) for x in xs):
            return other
    return middle


def inv_sproj(x, k):
    factor = lambda_x(x, k)
    return [*times(factor, x), (factor - 1) / sqrt(abs(k))]


def sproj(x, k):
    return times(1 / (1 + sqrt(abs(k)) * x[-1]), x[:-1])


def dist2(x, y, k):
    return dist(x, y, k) ** 2


def projx(x, k, float32):
    limit = (1 - mpf("4e-3" if float32 else "1e-5")) / sqrt(-k) if k < 0 else None
    length = sqrt(dot(x, x))
    return times(limit / length, x) if limit is not None and length > limit else x


def retr(x, u, k, float32):
    return projx(plus(x, u), k, float32)


def frechet_mean(points, k):
    """The m where Σ log_m x is 0, to all digits: m ← exp_m of the mean of the logarithms converges for points that are near."""
    m = points[0]
    for _ in range(400):
        step = [sum(parts) / len(points) for parts in zip(*(logmap(m, x, k) for x in points), strict=True)]
        m = expmap(m, step, k)
        if sqrt(dot(step, step)) < mpf(10) ** (5 - mp.dps):
            return m
    raise ValueError("the iteration does not converge: the points are too far apart")
