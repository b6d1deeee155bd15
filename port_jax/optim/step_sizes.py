"""Searches for a step size along a line: phi(a) for a > 0, from phi(0) and phi'(0), in loops that compile once.

Up to rounding, both make the same choices as `scipy.optimize` 1.17, which geoopt's line search calls. Where phi is not finite
(a step out of the domain) they shorten the step instead of interpolating.

Source: Nocedal and Wright, Numerical Optimization (2006), section 3.5 and algorithms 3.5 and 3.6.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

__all__ = ["Line", "StepSize", "armijo", "strong_wolfe"]

Number = Float[Array, ""]


class Line(NamedTuple):
    """phi along the search direction.

    value_at: phi(a). both_at: phi(a) and phi'(a). value, slope: both at 0. old_value: phi(0) of the previous search,
    valid only if has_old.
    """

    value_at: Callable[[Number], Number]
    both_at: Callable[[Number], tuple[Number, Number]]
    value: Number
    slope: Number
    old_value: Number
    has_old: Bool[Array, ""]


class StepSize(NamedTuple):
    """The step size found, or 0 with found False; trials is the number of points at which phi was computed."""

    step_size: Number
    found: Bool[Array, ""]
    trials: Int[Array, ""]


def armijo(line: Line, *, c1: float = 1e-4, amin: float = 0.0, amax: float | None = None) -> StepSize:
    """Backtracking until phi(a) <= phi(0) + c1 a phi'(0).

    The first trial is 2.02 (phi(0) - old phi(0)) / phi'(0) if that is positive, else 1, and at most amax; the second
    minimises the parabola through phi(0), phi'(0) and the first value, the following ones the cubic through the last
    two values. No step is found once the step size is amin or less.
    """
    start = _first(line)
    start = jnp.where(start <= 0, 1, start)
    start = start if amax is None else jnp.minimum(start, amax)

    def sufficient(a: Number, value: Number) -> Bool[Array, ""]:
        return jnp.isfinite(value) & (value <= line.value + c1 * a * line.slope)

    def body(s: _Backtracking) -> _Backtracking:
        value = line.value_at(s.trial)
        found = sufficient(s.trial, value)
        # A cubic's step that is refused is replaced by half the last, its value kept: the reference's safeguards, shorter
        # than half the last or longer than 0.04 of it, leave out none.
        newer = jnp.where(s.trials >= 2, s.newer / 2, s.trial)
        # (phi(a) - phi(0) - phi'(0) a) / a^2: the curvature at each of the two trials.
        bend = (value - line.value - line.slope * newer) / newer / newer
        parabola = -line.slope / 2 / bend
        a = (bend - s.bend) / (newer - s.newer)
        b = (s.bend * newer - bend * s.newer) / (newer - s.newer)
        cubic = (-b + jnp.sqrt(jnp.abs(b * b - 3 * a * line.slope))) / (3 * a)
        trial = jnp.where(s.trials == 0, parabola, cubic)
        trial = jnp.where(jnp.isfinite(trial) & jnp.isfinite(value), trial, newer / 2)
        over = found | ((s.trials >= 1) & ~(newer > amin))
        return _Backtracking(jnp.where(over, s.trial, trial), newer, bend, s.trials + 1, found, over)

    first = _Backtracking(start, start, jnp.zeros_like(start), jnp.zeros([], jnp.int32), jnp.array(False), _lost(line))
    last = jax.lax.while_loop(lambda s: ~s.over, body, first)
    return StepSize(jnp.where(last.found, last.trial, 0), last.found, last.trials)


def strong_wolfe(line: Line, *, c1: float = 1e-4, c2: float = 0.9, amax: float | None = None) -> StepSize:
    """Bracketing, then zooming in, until phi(a) <= phi(0) + c1 a phi'(0) and |phi'(a)| <= c2 |phi'(0)|.

    The first trial is as in `armijo`, but at most 1, and the step doubles until it brackets a minimum; the trial after ten
    doublings is accepted. Zooming takes the minimum of a cubic, that of a parabola if the former is near an end, or the
    midpoint, and finds no step after eleven trials. No step is found if the first trial is 0, because phi(0) has not changed
    since the previous search, either.
    """
    start = jnp.minimum(1, _first(line))
    start = jnp.where(start < 0, 1, start)
    start = start if amax is None else jnp.minimum(start, amax)
    origin = _At(jnp.zeros_like(start), line.value, line.slope)

    def body(s: _Bracket) -> _Bracket:
        value, slope = line.both_at(s.trial)
        value = jnp.where(jnp.isfinite(value) & jnp.isfinite(slope), value, jnp.inf)
        here = _At(s.trial, value, slope)
        high = value > line.value + c1 * s.trial * line.slope
        high |= (value >= s.lo.value) & (s.zooming | (s.trials > 0))
        flat = jnp.abs(slope) <= -c2 * line.slope
        limit = ~s.zooming & (s.trials == 10)
        found = jnp.where(limit, jnp.isfinite(value), ~high & flat) & (s.zooming | (s.trial != 0))
        zooming = s.zooming | high | (slope >= 0)
        entered = zooming & ~s.zooming
        steps = jnp.where(s.zooming, s.steps + 1, 0)
        over = found | limit | (steps > 10) | (~s.zooming & (s.trial == 0))
        # The end of the interval that `here` replaces; the minimum lies between here and lo if phi rises towards hi.
        turned = jnp.where(s.zooming, slope * (s.hi.a - s.lo.a) >= 0, slope >= 0)
        hi = _choose(high, here, _choose(turned, s.lo, s.hi))
        lo = _choose(high, s.lo, here)
        recent = _choose(entered, origin, _choose(high | turned, s.hi, s.lo))
        doubled = 2 * s.trial if amax is None else jnp.minimum(2 * s.trial, amax)
        trial = jnp.where(zooming, _between(lo, hi, recent, entered), doubled)
        return _Bracket(jnp.where(over, s.trial, trial), lo, hi, recent, zooming, steps, s.trials + 1, found, over)

    zero, no = jnp.zeros([], jnp.int32), jnp.array(False)
    first = _Bracket(start, origin, origin, origin, no, zero, zero, no, _lost(line))
    last = jax.lax.while_loop(lambda s: ~s.over, body, first)
    return StepSize(jnp.where(last.found, last.trial, 0), last.found, last.trials)


class _Backtracking(NamedTuple):
    trial: Number
    newer: Number
    bend: Number
    trials: Int[Array, ""]
    found: Bool[Array, ""]
    over: Bool[Array, ""]


class _At(NamedTuple):
    """A step size, with phi and phi' at it."""

    a: Number
    value: Number
    slope: Number


class _Bracket(NamedTuple):
    """While bracketing, lo is the previous trial; while zooming, lo is the best trial and hi the other end."""

    trial: Number
    lo: _At
    hi: _At
    recent: _At
    zooming: Bool[Array, ""]
    steps: Int[Array, ""]
    trials: Int[Array, ""]
    found: Bool[Array, ""]
    over: Bool[Array, ""]


def _first(line: Line) -> Number:
    """The step at which a parabola with slope phi'(0) would fall as far as phi fell in the previous step, plus 1%; else 1."""
    known = line.has_old & (line.slope != 0)
    return jnp.where(known, 1.01 * 2 * (line.value - line.old_value) / jnp.where(known, line.slope, 1), 1)


def _lost(line: Line) -> Bool[Array, ""]:
    """Whether the start is not finite, so that no step can be judged."""
    return ~(jnp.isfinite(line.value) & jnp.isfinite(line.slope))


def _choose(which: Bool[Array, ""], yes: Any, no: Any) -> Any:
    return jax.tree.map(lambda x, y: jnp.where(which, x, y), yes, no)


def _between(lo: _At, hi: _At, recent: _At, first: Bool[Array, ""]) -> Number:
    """A trial between lo and hi: the cubic's minimum, else the parabola's, else the midpoint."""
    width = hi.a - lo.a
    left, right = jnp.minimum(lo.a, hi.a), jnp.maximum(lo.a, hi.a)

    def inside(a: Number, margin: float) -> Bool[Array, ""]:
        # `width` has a sign, as in the reference: with hi left of lo, points slightly outside are accepted.
        return jnp.isfinite(a) & ~(a > right - margin * width) & ~(a < left + margin * width)

    # phi(lo + x) = value + slope x + B x^2 + A x^3 through hi and the point before
    x, y = width, recent.a - lo.a
    rest_x, rest_y = hi.value - lo.value - lo.slope * x, recent.value - lo.value - lo.slope * y
    scale = (x * y) ** 2 * (x - y)
    A = (y**2 * rest_x - x**2 * rest_y) / scale
    B = (-(y**3) * rest_x + x**3 * rest_y) / scale
    cubic = lo.a + (-B + jnp.sqrt(B * B - 3 * A * lo.slope)) / (3 * A)
    parabola = lo.a - lo.slope / (2 * (rest_x / (x * x)))
    middle = lo.a + 0.5 * width
    return jnp.where(~first & inside(cubic, 0.2), cubic, jnp.where(inside(parabola, 0.1), parabola, middle))
