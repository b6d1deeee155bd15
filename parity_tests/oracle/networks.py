"""What networks compute with, in mpmath: products with weights, softmax, activations, and hyperbolic space seen from the origin.

Rows are lists of mpf. Precision is the caller's (`mpmath.workdps`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from mpmath import exp, expm1, mpf

from parity_tests.oracle import lorentz, stereographic
from parity_tests.oracle.stereographic import Vector, dot, plus, times


def exactly(tree: Any) -> Any:
    """The tree with its arrays as arrays of mpf."""
    return jax.tree.map(np.vectorize(mpf, otypes=[object]), tree)


def ambient_exp0(space: str, number: Any) -> Callable[[Sequence[Any]], Vector]:
    """exp_0 of the ball of curvature -number, or of the hyperboloid of k = number with its time coordinate."""
    if space == "ball":
        return lambda u: stereographic.expmap0(list(u), -number)
    return lambda u: lorentz.expmap0(list(u), number)


def dense(x: Vector, kernel: Any, bias: Any = None) -> Vector:
    """x W + b for W [in, out]."""
    y = [dot(x, column) for column in kernel.T]
    return y if bias is None else plus(y, bias)


def mixed(weights: Vector, rows: list[Vector]) -> Vector:
    """sum_j w_j x_j."""
    return [dot(weights, column) for column in zip(*rows, strict=True)]


def softmax(values: Vector) -> Vector:
    total = sum(exp(a) for a in values)
    return [exp(a) / total for a in values]


def sigmoid(a: Any) -> Any:
    return 1 / (1 + exp(-a))


def elu(a: Any) -> Any:
    return a if a > 0 else expm1(a)


def leaky_relu(a: Any, slope: Any) -> Any:
    return a if a > 0 else slope * a


def fermi_dirac(distance: Any, r: Any, t: Any) -> Any:
    """1 / (exp((d^2 - r) / t) + 1)."""
    return 1 / (exp((distance**2 - r) / t) + 1)


@dataclass(frozen=True)
class Ball:
    """The ball of curvature -c. Tangent vectors are given by their coordinates after parallel transport to the origin."""

    c: Any

    def exp0(self, u: Vector) -> Vector:
        return stereographic.expmap0(u, -self.c)

    def log0(self, x: Vector) -> Vector:
        return stereographic.logmap0(x, -self.c)

    def dist(self, x: Vector, y: Vector) -> Any:
        return stereographic.dist(x, y, -self.c)

    def shifted(self, x: Vector, b: Vector) -> Vector:
        """x (+) exp_0(b)."""
        return stereographic.mobius_add(x, self.exp0(b), -self.c)

    def log(self, x: Vector, y: Vector) -> Vector:
        return stereographic.transp0back(x, stereographic.logmap(x, y, -self.c), -self.c)

    def exp(self, x: Vector, u: Vector) -> Vector:
        return stereographic.expmap(x, stereographic.transp0(x, u, -self.c), -self.c)

    def ambient(self, x: Vector) -> Vector:
        """The coordinates in which arrays have points."""
        return x

    def plane(self, x: Vector, p: Vector) -> Any:
        """The signed distance of x to the plane through p with the normal p (Ganea et al. 2018, section 3.1)."""
        return stereographic.dist2plane(x, p, p, -self.c)


@dataclass(frozen=True)
class Hyperboloid:
    """<x, x> = -k. Points are given by their space parts, tangent vectors as on `Ball`."""

    k: Any

    def exp0(self, u: Vector) -> Vector:
        return lorentz.expmap0(u, self.k)[1:]

    def log0(self, x: Vector) -> Vector:
        return lorentz.logmap0(x, self.k)[1:]

    def dist(self, x: Vector, y: Vector) -> Any:
        return lorentz.dist(x, y, self.k)

    def shifted(self, x: Vector, b: Vector) -> Vector:
        """exp_x(P_{0 -> x} b), the hyperboloid's x (+) exp_0(b)."""
        return self.exp(x, b)

    def log(self, x: Vector, y: Vector) -> Vector:
        return lorentz.transp0back(x, lorentz.logmap(x, y, self.k)[1:], self.k)[1:]

    def exp(self, x: Vector, u: Vector) -> Vector:
        return lorentz.expmap(x, lorentz.transp0(x, u, self.k)[1:], self.k)[1:]

    def ambient(self, x: Vector) -> Vector:
        """The coordinates in which arrays have points."""
        return lorentz.point(x, self.k)

    def plane(self, x: Vector, p: Vector) -> Any:
        """The same of the unit ball, onto which x is projected."""
        return stereographic.dist2plane(lorentz.lorentz_to_poincare(x, self.k), p, p, mpf(-1))


def mean(rows: list[Vector]) -> Vector:
    return times(1 / mpf(len(rows)), mixed([mpf(1)] * len(rows), rows))
