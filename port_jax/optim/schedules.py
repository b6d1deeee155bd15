"""The learning rate schedules of `torch.optim.lr_scheduler`, as functions of the number of scheduler steps.

Each is a callable for optax: at 0 it gives the rate of the first update, and torch's `scheduler.step()` is one more.
Where torch steps its scheduler once an epoch, `every` gives the rate by updates. Source: the documentation of
`torch.optim.lr_scheduler` 2.13; the closed forms follow from the recursions there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

Count = Int[Array, "..."]
Rate = Float[Array, "..."]
Moves = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Schedule:
    """A rate by the number of scheduler steps, and how it acts on a rate that others have changed.

    at: the rate, in closed form. moves: arrays (a, b) for an array of step numbers, the chainable form of the schedule:
    the step n takes the rate to a rate + b (step 0 is the construction). base: the rate that all of it is relative to.
    proportional: whether b is 0 throughout, so that schedules chain as a product.
    """

    base: float
    at: Callable[[Count], Rate]
    moves: Callable[[np.ndarray], Moves]
    proportional: bool = False

    def __call__(self, count: Any) -> Rate:
        return self.at(jnp.asarray(count))

    def exactly(self, count: int) -> float:
        """The rate in float64, whatever the session's precision."""
        return float(_exactly(self.at, np.asarray([count]))[0])


def step_lr(lr: float, step_size: int, gamma: float = 0.1) -> Schedule:
    """StepLR: lr gamma^floor(n / step_size)."""
    _positive("step_size", step_size)
    return _proportional(lr, lambda n: _power(gamma, n // step_size))


def multi_step_lr(lr: float, milestones: Sequence[int], gamma: float = 0.1) -> Schedule:
    """MultiStepLR: lr gamma^(milestones at or before n); a milestone named twice counts twice."""
    marks = np.sort(np.asarray(milestones, np.int32))
    return _proportional(lr, lambda n: _power(gamma, jnp.searchsorted(marks, n, side="right")))


def exponential_lr(lr: float, gamma: float) -> Schedule:
    """ExponentialLR: lr gamma^n."""
    return _proportional(lr, lambda n: _power(gamma, n))


def linear_lr(lr: float, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5) -> Schedule:
    """LinearLR: lr times a factor that goes from start_factor to end_factor in total_iters steps, then stays."""
    _positive("total_iters", total_iters)
    gain = end_factor - start_factor
    return _proportional(lr, lambda n: start_factor + gain * (_real(jnp.minimum(n, total_iters)) / total_iters))


def constant_lr(lr: float, factor: float = 1 / 3, total_iters: int = 5) -> Schedule:
    """ConstantLR: lr factor for total_iters steps, then lr."""
    return _proportional(lr, lambda n: jnp.where(n < total_iters, _real(factor), 1))


def polynomial_lr(lr: float, total_iters: int = 5, power: float = 1.0) -> Schedule:
    """PolynomialLR: lr (1 - min(n, total_iters) / total_iters)^power."""
    _positive("total_iters", total_iters)
    return _proportional(lr, lambda n: (_real(total_iters - jnp.minimum(n, total_iters)) / total_iters) ** power)


def lambda_lr(lr: float, lr_lambda: Callable[[Any], Any], num_steps: int | None = None) -> Schedule:
    """LambdaLR: lr lr_lambda(n).

    The function gets a traced count. One that branches in Python on its count takes num_steps, the scheduler steps of
    the whole run: it is then called with 0, ..., num_steps - 1 at once, and later steps keep the last rate.
    """
    if num_steps is not None:
        _positive("num_steps", num_steps)
        return _absolute(lr, _tabulated(np.array([lr * float(lr_lambda(n)) for n in range(num_steps)])))
    return _absolute(lr, lambda n: lr * lr_lambda(n))


def cosine_annealing_lr(lr: float, T_max: int, eta_min: float = 0.0) -> Schedule:
    """CosineAnnealingLR: eta_min + (lr - eta_min) (1 + cos(pi n / T_max)) / 2, which rises again past T_max."""
    _positive("T_max", T_max)

    def moves(n: np.ndarray) -> Moves:
        # (1 + cos(pi n / T)) / (1 + cos(pi (n - 1) / T)), and a rise from eta_min where the denominator is zero
        lowest = (n - 1 - T_max) % (2 * T_max) == 0
        before = np.where(lowest, 1, 1 + np.cos(np.pi * (n - 1) / T_max))
        a = np.where(lowest | (n == 0), 1.0, (1 + np.cos(np.pi * n / T_max)) / before)
        rise = (lr - eta_min) * (1 - math.cos(math.pi / T_max)) / 2
        return a, np.where(n == 0, 0, np.where(lowest, rise, eta_min * (1 - a)))

    # (1 + cos(pi n / T)) / 2 = sin(pi (T - n) / (2 T))^2, which keeps its digits near 0
    return Schedule(lr, lambda n: eta_min + (lr - eta_min) * _half_cosine(n % (2 * T_max), T_max), moves)


def cosine_annealing_warm_restarts(lr: float, T_0: int, T_mult: int = 1, eta_min: float = 0.0) -> Schedule:
    """CosineAnnealingWarmRestarts: from lr to eta_min by a half cosine in T_0 steps, then again in T_0 T_mult, ..."""
    _positive("T_0", T_0)
    _positive("T_mult", T_mult)
    lengths = [T_0]
    while T_mult > 1 and sum(lengths) < 2**30:
        lengths.append(lengths[-1] * T_mult)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int32)
    periods = np.minimum(lengths, 2**31 - 1).astype(np.int32)

    def at(n: Count) -> Rate:
        cycle = jnp.searchsorted(starts, n, side="right") - 1
        since = n % T_0 if T_mult == 1 else n - jnp.asarray(starts)[cycle]
        return eta_min + (lr - eta_min) * _half_cosine(since, jnp.asarray(periods)[cycle])

    return _absolute(lr, at)


def one_cycle_lr(
    max_lr: float,
    total_steps: int,
    pct_start: float = 0.3,
    anneal_strategy: Literal["cos", "linear"] = "cos",
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    three_phase: bool = False,
) -> Schedule:
    """OneCycleLR's rate: from max_lr / div_factor up to max_lr, then down to that start / final_div_factor.

    torch raises past total_steps; here the last rate stays. `one_cycle_momentum` is the momentum that goes with it.
    """
    low = max_lr / div_factor
    levels = [low, max_lr, low, low / final_div_factor] if three_phase else [low, max_lr, low / final_div_factor]
    return _absolute(low, _one_cycle(levels, total_steps, pct_start, anneal_strategy, three_phase))


def one_cycle_momentum(
    total_steps: int,
    pct_start: float = 0.3,
    anneal_strategy: Literal["cos", "linear"] = "cos",
    base_momentum: float = 0.85,
    max_momentum: float = 0.95,
    three_phase: bool = False,
) -> Schedule:
    """OneCycleLR's momentum (b1 of Adam): from max_momentum down to base_momentum while the rate rises, then back."""
    levels = [max_momentum, base_momentum, max_momentum, max_momentum][: 4 if three_phase else 3]
    return _absolute(max_momentum, _one_cycle(levels, total_steps, pct_start, anneal_strategy, three_phase))


def sequential_lr(schedules: Sequence[Schedule], milestones: Sequence[int]) -> Schedule:
    """SequentialLR: one schedule after the other, each from its own step 0 at its milestone."""
    if len(schedules) != len(milestones) + 1 or list(milestones) != sorted(milestones):
        raise ValueError(
            f"sequential_lr takes ascending milestones, one fewer than schedules; found {len(schedules)} schedules "
            f"and milestones {list(milestones)}"
        )
    starts = [0, *milestones]

    def at(n: Count) -> Rate:
        rate = schedules[0](n)
        for start, schedule in zip(milestones, schedules[1:], strict=True):
            rate = jnp.where(n >= start, schedule(jnp.maximum(n - start, 0)), rate)
        return rate

    def moves(n: np.ndarray) -> Moves:
        a, b = np.zeros(n.shape), np.zeros(n.shape)
        for start, schedule in zip(starts, schedules, strict=True):
            since = np.maximum(n - start, 0)
            own = (n > start) | (start == 0)
            gain, shift = schedule.moves(since)
            level = _exactly(schedule.at, since)
            a, b = (np.where(n >= start, np.where(own, x, y), z) for x, y, z in ((gain, 0, a), (shift, level, b)))
        return a, b

    return Schedule(schedules[0].base, at, moves)


def chained_scheduler(schedules: Sequence[Schedule], num_steps: int | None = None) -> Schedule:
    """ChainedScheduler: at each step every schedule changes, in turn, the rate that the one before it left.

    Schedules that are factors (step, multi step, exponential, linear, constant, polynomial) give their product. With
    any other the recursion has no closed form: num_steps, the scheduler steps of the whole run, is needed; the rates
    are tabulated in float64, and later steps keep the last one. Raises ValueError where it is missing.
    """
    base = schedules[0].base
    if any(not math.isclose(schedule.base, base) for schedule in schedules if schedule.proportional):
        raise ValueError(f"chained schedules act on one rate; found {[schedule.base for schedule in schedules]}")
    if num_steps is None and not all(schedule.proportional for schedule in schedules):
        raise ValueError("a chain with a cosine, one-cycle or lambda schedule takes num_steps, the steps of the run")

    def moves(n: np.ndarray) -> Moves:
        a, b = np.ones(n.shape), np.zeros(n.shape)
        for schedule in schedules:
            gain, shift = schedule.moves(n)
            a, b = gain * a, gain * b + shift
        return a, b

    if num_steps is None:
        scale = 1 / base ** (len(schedules) - 1) if base else 0.0
        return Schedule(base, lambda n: _real(scale) * math.prod(s(n) for s in schedules), moves, proportional=True)
    rates, rate = [], base
    for a, b in zip(*moves(np.arange(num_steps)), strict=True):
        rate = a * rate + b
        rates.append(rate)
    return Schedule(base, _tabulated(np.array(rates)), moves)


def every(schedule: Callable[[Any], Any], updates: int) -> Callable[[Count], Any]:
    """`schedule` stepped once in so many updates, as in a loop that steps its scheduler after each epoch."""
    _positive("updates", updates)
    return lambda count: schedule(count // updates)


def _proportional(lr: float, factor: Callable[[Count], Rate]) -> Schedule:
    def moves(n: np.ndarray) -> Moves:
        now, before = _exactly(factor, n), _exactly(factor, np.maximum(n - 1, 0))
        # a rate that has reached zero stays there
        return np.where(n == 0, now, now / np.where(before == 0, 1, before)), np.zeros(n.shape)

    return Schedule(lr, lambda n: lr * factor(n), moves, proportional=True)


def _absolute(lr: float, at: Callable[[Count], Rate]) -> Schedule:
    return Schedule(lr, at, lambda n: (np.zeros(n.shape), _exactly(at, n)))


def _one_cycle(
    levels: Sequence[float], total_steps: int, pct_start: float, strategy: str, three_phase: bool
) -> Callable[[Count], Rate]:
    _positive("total_steps", total_steps)
    if strategy not in ("cos", "linear"):
        raise ValueError(f"anneal_strategy is {strategy!r}; it has to be 'cos' or 'linear'")
    ends = [pct_start * total_steps - 1] + ([2 * pct_start * total_steps - 2] if three_phase else [])
    starts, ends = [0.0, *ends], [*ends, total_steps - 1.0]
    if any(start == end for start, end in zip(starts, ends, strict=True)):
        raise ValueError(f"a phase of no length: total_steps {total_steps}, pct_start {pct_start}; torch divides by 0")

    def at(n: Count) -> Rate:
        n = jnp.minimum(n, total_steps - 1)
        phases = []
        for start, end, here, there in zip(starts, ends, levels[:-1], levels[1:], strict=True):
            part = (_real(n) - start) / (end - start)
            part = jnp.sin(jnp.pi * part / 2) ** 2 if strategy == "cos" else part
            phases.append(here + (there - here) * part)
        return jnp.select([_real(n) <= end for end in ends[:-1]], phases[:-1], phases[-1])

    return at


def _tabulated(rates: np.ndarray) -> Callable[[Count], Rate]:
    return lambda n: jnp.asarray(rates, _real(0).dtype)[jnp.clip(n, 0, len(rates) - 1)]


def _half_cosine(n: Count, period: Any) -> Rate:
    """(1 + cos(pi n / period)) / 2 for n in [0, 2 period]."""
    return jnp.sin(jnp.pi / 2 * (_real(period - n) / period)) ** 2


def _power(gamma: float, n: Count) -> Rate:
    """gamma^n with the logarithm taken in float64: gamma itself in float32 would put gamma^1000 6e-5 off."""
    if gamma < 0:
        raise ValueError(f"gamma is {gamma}; it has to be 0 or more")
    if gamma == 0:
        return _real(n == 0)
    return jnp.exp(_real(n) * math.log(gamma))


def _real(x: Any) -> Rate:
    return jnp.asarray(x, jnp.result_type(float))


def _exactly(at: Callable[[Count], Rate], n: np.ndarray) -> np.ndarray:
    """The closed form in float64, whatever the session's precision."""
    with jax.enable_x64(True):
        return np.asarray(jax.vmap(at)(jnp.asarray(n)), np.float64)


def _positive(name: str, value: int) -> None:
    if value != int(value) or value < 1:
        raise ValueError(f"{name} is {value}; it has to be a whole number of 1 or more")
