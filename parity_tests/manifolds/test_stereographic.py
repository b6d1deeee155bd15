"""Every operation of the stereographic family against geoopt, for curvatures of both signs and points up to the boundary."""

from __future__ import annotations

from dataclasses import replace

import geoopt
import numpy as np
import pytest

from parity_tests import cases, draws, slow
from parity_tests.manifolds.parity import Operation, by_radius, compare32, compare64
from parity_tests.oracle import stereographic as oracle
from port_jax.manifolds import Stereographic

N, D = 5, 4
MIDPOINT = 2e-8  # geoopt adds 1e-10 to the midpoint's denominator, and `lincomb` magnifies that near a sphere's pole


def groups(curvatures, radii=(0.5, 0.9, 0.99, 0.996), seed=0, n=N):
    rng = draws.rng(seed)
    rows = []
    for k in curvatures:
        for radius in radii:
            x, y, z = (cases.ball_points(rng, n, D, k, radius) for _ in range(3))
            rows.append(
                {
                    "k": k,
                    "radius": radius,
                    "x": x,
                    "y": y,
                    "z": z,
                    "u": cases.ball_tangents(rng, x, k),
                    "v": cases.ball_tangents(rng, x, k),
                    "free": rng.standard_normal((n, D)),
                    "t": rng.uniform(0.2, 0.8, (n, 1)),
                    "matrix": rng.standard_normal((3, D)) / 2,
                    "matrices": rng.standard_normal((n, 3, D)) / 2,
                    "weights": rng.uniform(0.2, 1, n),
                }
            )
    return {name: np.stack([r[name] for r in rows]) for name in rows[0]}


POLE = 1e4 * float(np.finfo(np.float64).eps)
"""On the sphere, a free tangent vector may lead within half a percent of the pole: there the squares of tangents, up to 1e4, cancel."""


def method(name, *kinds, orders=2, floor=0.0, exact=None, judge=None, **options):
    def theirs(k, *args):
        manifold = geoopt.Stereographic(1.0)
        del manifold.k
        manifold.k = k
        return getattr(manifold, name)(*args, **options)

    def mine(k, *args):
        return getattr(Stereographic(k), name)(*args, **options)

    closed = judge and (lambda k, *args: judge(*args, k))
    return Operation(theirs, mine, ("k", *kinds), orders, floor=floor, exact=exact, judge=closed)


OPERATIONS = {
    "lambda_x": method("lambda_x", "x"),
    "inner": method("inner", "x", "u", "v", keepdim=True),
    "norm": method("norm", "x", "u"),
    "egrad2rgrad": method("egrad2rgrad", "x", "u"),
    "proju": method("proju", "x", "u"),
    "projx": method("projx", "free"),
    "dist": method("dist", "x", "y", judge=lambda x, y, k: [oracle.dist(x, y, k)]),
    "dist2": method("dist2", "x", "y"),
    "dist0": method("dist0", "x"),
    "retr": method("retr", "x", "u"),
    "expmap": method("expmap", "x", "u", project=False, judge=oracle.expmap),
    "expmap projected": method("expmap", "x", "free", judge=oracle.expmap, floor=POLE),
    "expmap0": method("expmap0", "u", project=False, judge=oracle.expmap0),
    # At 0.996 of the radius geoopt's second derivatives are up to the whole gate off, and more: there the closed form judges.
    "logmap": method("logmap", "x", "y", judge=oracle.logmap),
    "logmap0": method("logmap0", "x", judge=oracle.logmap0),
    "geodesic": method("geodesic", "t", "x", "y", judge=lambda t, x, y, k: oracle.geodesic(t[0], x, y, k)),
    "geodesic_unit": method("geodesic_unit", "t", "x", "u", project=False, judge=lambda t, x, u, k: oracle.geodesic_unit(t[0], x, u, k)),
    "transp": method("transp", "x", "y", "v", judge=oracle.transp),
    "transp0": method("transp0", "x", "v", judge=oracle.transp0),
    "transp0back": method("transp0back", "x", "v", judge=oracle.transp0back),
    "transp_follow_retr": method("transp_follow_retr", "x", "u", "v"),
    "transp_follow_expmap": method("transp_follow_expmap", "x", "u", "v"),
    "mobius_add": method("mobius_add", "x", "y", project=False, judge=oracle.mobius_add),
    "mobius_sub": method("mobius_sub", "x", "y", project=False, judge=oracle.mobius_sub),
    "mobius_coadd": method("mobius_coadd", "x", "y", project=False, judge=oracle.mobius_coadd),
    "mobius_cosub": method("mobius_cosub", "x", "y", project=False, judge=oracle.mobius_cosub),
    "mobius_scalar_mul": method("mobius_scalar_mul", "t", "x", project=False),
    "mobius_pointwise_mul": method("mobius_pointwise_mul", "free", "x", project=False),
    "mobius_matvec": method("mobius_matvec", "matrix", "x", project=False),
    "mobius_matvec batched": method("mobius_matvec", "matrices", "x", project=False),
    "gyration": method("gyration", "x", "y", "z", judge=oracle.gyration),
    "antipode": method("antipode", "x"),
    "dist2plane": method("dist2plane", "x", "y", "free", judge=lambda x, p, a, k: [abs(oracle.dist2plane(x, p, a, k))]),
    # geoopt's arsinh is log(x + sqrt(1 + x²)), which cancels for negative x
    "dist2plane signed": method("dist2plane", "x", "y", "free", signed=True, exact=lambda k, x, p, a: [oracle.dist2plane(x, p, a, k)]),
    "dist2plane scaled": method("dist2plane", "x", "y", "free", scaled=True, keepdim=True),
    "weighted_midpoint": method("weighted_midpoint", "x", "weights", project=False, floor=MIDPOINT),
    "weighted_midpoint plain": method("weighted_midpoint", "x", keepdim=True, floor=MIDPOINT),
    "weighted_midpoint lincomb": method("weighted_midpoint", "x", "weights", lincomb=True, posweight=True, project=False, floor=MIDPOINT),
    "sproj": method("sproj", "x"),
    "inv_sproj": method("inv_sproj", "x"),
}
CASES = groups([-10.0, -0.7, -0.1, 0.0, 0.1, 0.7, 10.0])
# Errors are compared as distributions, over 100 points in each of five draws of a curvature and a radius.
MANY = groups([-10.0, -0.7, -0.1, 0.1, 1.3, 10.0] * 5, radii=(0.01, 0.5, 0.99), seed=1, n=100)


# The others are made of these, or differ from one by an option.
TWICE = {"dist", "logmap", "transp", "mobius_add", "dist2plane"}
LOW = {"dist", "transp", "mobius_matvec", "projx"}


def test_values():
    """Every operation, in one program, at a curvature of each sign."""
    some = {name: a[[5, 7, 20, 22]] for name, a in CASES.items()}
    found = compare64({name: replace(op, orders=0) for name, op in OPERATIONS.items()}, some, by_radius(some))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", slow.all_but(TWICE, OPERATIONS))
def test_float64(name):
    """Second derivatives too, over all curvatures and radii."""
    found = compare64({name: OPERATIONS[name]}, CASES, by_radius(CASES))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", slow.all_but(LOW, OPERATIONS))
def test_float32(name):
    found = compare32({name: OPERATIONS[name]}, MANY)
    assert not found, "\n".join(found)
