"""The learning rate schedules of `torch.optim.lr_scheduler`, as functions of the number of scheduler steps.

Each is a callable for optax: at 0 it gives the rate of the first update, and torch's `scheduler.step()` adds one.
If torch steps its scheduler once per epoch, `every` gives the rate by the number of updates. Source: the documentation of
`torch.optim.lr_scheduler` 2.13; the closed forms follow from the recursions there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from port_jax.optim.cyclic_rates import cyclic_lr, cyclic_momentum, one_cycle_lr, one_cycle_momentum
from port_jax.optim.rates import (
    Count,
    Moves,
    Rate,
    Schedule,
    absolute,
    exactly,
    half_cosine,
    positive,
    power,
    proportional,
    real,
    tabulated,
)


def step_lr(lr: float, step_size: int, gamma: float = 0.1) -> Schedule:
    """StepLR: lr gamma^floor(n / step_size)."""
    positive("step_size", step_size)
    return proportional(lr, lambda n: power(gamma, n // step_size))


def multi_step_lr(lr: float, milestones: Sequence[int], gamma: float = 0.1) -> Schedule:
    """MultiStepLR: lr gamma^(milestones at or before n); a milestone named twice counts twice."""
    marks = np.sort(np.asarray(milestones, np.int32))
    return proportional(lr, lambda n: power(gamma, jnp.searchsorted(marks, n, side="right")))


def exponential_lr(lr: float, gamma: float) -> Schedule:
    """ExponentialLR: lr gamma^n."""
    return proportional(lr, lambda n: power(gamma, n))


def linear_lr(lr: float, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5) -> Schedule:
    """LinearLR: lr times a factor that goes from start_factor to end_factor in total_iters steps, then is constant."""
    positive("total_iters", total_iters)
    gain = end_factor - start_factor
    return proportional(lr, lambda n: start_factor + gain * (real(jnp.minimum(n, total_iters)) / total_iters))


def constant_lr(lr: float, factor: float = 1 / 3, total_iters: int = 5) -> Schedule:
    """ConstantLR: lr factor for total_iters steps, then lr."""
    return proportional(lr, lambda n: jnp.where(n < total_iters, real(factor), 1))


def polynomial_lr(lr: float, total_iters: int = 5, power: float = 1.0) -> Schedule:
    """PolynomialLR: lr (1 - min(n, total_iters) / total_iters)^power."""
    positive("total_iters", total_iters)
    return proportional(lr, lambda n: (real(total_iters - jnp.minimum(n, total_iters)) / total_iters) ** power)


def lambda_lr(lr: float, lr_lambda: Callable[[Any], Any], num_steps: int | None = None) -> Schedule:
    """LambdaLR: lr lr_lambda(n).

    The function is called with a traced count. If it branches on its count in Python, give num_steps, the number of
    scheduler steps of the whole run: it is then called with 0, ..., num_steps - 1 in advance, and later steps keep the last rate.
    """
    if num_steps is not None:
        positive("num_steps", num_steps)
        return absolute(lr, tabulated(np.array([lr * float(lr_lambda(n)) for n in range(num_steps)])))
    return absolute(lr, lambda n: lr * lr_lambda(n))


def linear_warmup_cosine_lr(lr: float, tsteps: int, wsteps: int) -> Schedule:
    """LinearWarmupCosineDecayLR of MERU and HyCoCLIP: lr n/w for n < w, then lr cos²(π/2 (n - w)/(T - w)), which rises again past T.

    T and w are `tsteps` and `wsteps`, the names in the state of the class, which is a LambdaLR whose function no state contains.
    Errors: ValueError for numbers that are not whole, and for w that is not less than T.
    """
    positive("tsteps", tsteps)
    if wsteps != int(wsteps) or not 0 <= wsteps < tsteps:
        raise ValueError(f"wsteps is {wsteps}; it has to be a whole number from 0 to {tsteps - 1}, as tsteps is {tsteps}")
    risen = max(wsteps, 1)
    return absolute(lr, lambda n: lr * jnp.where(n < wsteps, real(n) / risen, half_cosine(n - wsteps, tsteps - wsteps)))


def multiplicative_lr(lr: float, lr_lambda: Callable[[int], float], num_steps: int) -> Schedule:
    """MultiplicativeLR: lr lr_lambda(1) ... lr_lambda(n).

    The function is called with 1, ..., num_steps - 1, the scheduler steps of the whole run, in advance; later steps keep the last rate.
    """
    positive("num_steps", num_steps)
    factors = np.array([1.0, *(float(lr_lambda(n)) for n in range(1, num_steps))])

    def moves(n: np.ndarray) -> Moves:
        return factors[np.minimum(n, num_steps - 1)], np.zeros(n.shape)

    return Schedule(lr, tabulated(lr * np.cumprod(factors)), moves)


def swa_lr(lr: float, swa_lr: float, anneal_epochs: int = 10, anneal_strategy: str = "cos") -> Schedule:
    """SWALR of `torch.optim.swa_utils`: from lr to swa_lr in anneal_epochs steps, then constant.

        swa_lr + (lr - swa_lr) r(min(n, A)),   r(n) = (1 + cos(pi n / A)) / 2, or 1 - n / A for "linear"

    With anneal_epochs = 0 it is swa_lr from the beginning.
    """
    if anneal_strategy not in ("cos", "linear"):
        raise ValueError(f"anneal_strategy is {anneal_strategy!r}; give 'cos' or 'linear'")
    if anneal_epochs == 0:
        return absolute(lr, lambda n: real(swa_lr) + 0 * real(n))
    positive("anneal_epochs", anneal_epochs)

    def left(n: Count) -> Rate:
        at = jnp.minimum(n, anneal_epochs)
        return half_cosine(at, anneal_epochs) if anneal_strategy == "cos" else real(anneal_epochs - at) / anneal_epochs

    return absolute(lr, lambda n: swa_lr + (lr - swa_lr) * left(n))


def cosine_annealing_lr(lr: float, T_max: int, eta_min: float = 0.0) -> Schedule:
    """CosineAnnealingLR: eta_min + (lr - eta_min) (1 + cos(pi n / T_max)) / 2, which rises again past T_max."""
    positive("T_max", T_max)

    def moves(n: np.ndarray) -> Moves:
        # (1 + cos(pi n / T)) / (1 + cos(pi (n - 1) / T)), and a rise from eta_min where the denominator is zero
        lowest = (n - 1 - T_max) % (2 * T_max) == 0
        before = np.where(lowest, 1, 1 + np.cos(np.pi * (n - 1) / T_max))
        a = np.where(lowest | (n == 0), 1.0, (1 + np.cos(np.pi * n / T_max)) / before)
        rise = (lr - eta_min) * (1 - math.cos(math.pi / T_max)) / 2
        return a, np.where(n == 0, 0, np.where(lowest, rise, eta_min * (1 - a)))

    # (1 + cos(pi n / T)) / 2 = sin(pi (T - n) / (2 T))^2, which keeps its digits near 0
    return Schedule(lr, lambda n: eta_min + (lr - eta_min) * half_cosine(n % (2 * T_max), T_max), moves)


def cosine_annealing_warm_restarts(lr: float, T_0: int, T_mult: int = 1, eta_min: float = 0.0) -> Schedule:
    """CosineAnnealingWarmRestarts: from lr to eta_min by a half cosine in T_0 steps, then again in T_0 T_mult, ..."""
    positive("T_0", T_0)
    positive("T_mult", T_mult)
    lengths = [T_0]
    while T_mult > 1 and sum(lengths) < 2**30:
        lengths.append(lengths[-1] * T_mult)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int32)
    periods = np.minimum(lengths, 2**31 - 1).astype(np.int32)

    def at(n: Count) -> Rate:
        cycle = jnp.searchsorted(starts, n, side="right") - 1
        since = n % T_0 if T_mult == 1 else n - jnp.asarray(starts)[cycle]
        return eta_min + (lr - eta_min) * half_cosine(since, jnp.asarray(periods)[cycle])

    return absolute(lr, at)


def sequential_lr(schedules: Sequence[Schedule], milestones: Sequence[int]) -> Schedule:
    """SequentialLR: one schedule after another, each beginning with its own step 0 at its milestone."""
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
            level = exactly(schedule.at, since)
            a, b = (np.where(n >= start, np.where(own, x, y), z) for x, y, z in ((gain, 0, a), (shift, level, b)))
        return a, b

    return Schedule(schedules[0].base, at, moves)


def chained_scheduler(schedules: Sequence[Schedule], num_steps: int | None = None) -> Schedule:
    """ChainedScheduler: at each step every schedule in turn changes the rate that its predecessor left.

    Schedules that are factors (step, multi step, exponential, linear, constant, polynomial) give their product. With
    any other schedule the recursion has no closed form, and num_steps, the number of scheduler steps of the whole run, is
    needed; the rates are tabulated in float64, and later steps keep the last one. Raises ValueError if it is missing.
    """
    base = schedules[0].base
    if any(not math.isclose(schedule.base, base) for schedule in schedules if schedule.proportional):
        raise ValueError(f"chained schedules act on one rate; found {[schedule.base for schedule in schedules]}")
    if num_steps is None and not all(schedule.proportional for schedule in schedules):
        raise ValueError("a chain with a cosine, one-cycle or lambda schedule needs num_steps, the number of steps of the run")

    def moves(n: np.ndarray) -> Moves:
        a, b = np.ones(n.shape), np.zeros(n.shape)
        for schedule in schedules:
            gain, shift = schedule.moves(n)
            a, b = gain * a, gain * b + shift
        return a, b

    if num_steps is None:
        scale = 1 / base ** (len(schedules) - 1) if base else 0.0
        return Schedule(base, lambda n: real(scale) * math.prod(s(n) for s in schedules), moves, proportional=True)
    rates, rate = [], base
    for a, b in zip(*moves(np.arange(num_steps)), strict=True):
        rate = a * rate + b
        rates.append(rate)
    return Schedule(base, tabulated(np.array(rates)), moves)


def every(schedule: Callable[[Any], Any], updates: int) -> Callable[[Count], Any]:
    """`schedule` stepped once every `updates` updates, as in a loop that steps its scheduler after each epoch."""
    positive("updates", updates)
    return lambda count: schedule(count // updates)


__all__ = [
    "Schedule",
    "chained_scheduler",
    "constant_lr",
    "cosine_annealing_lr",
    "cosine_annealing_warm_restarts",
    "cyclic_lr",
    "cyclic_momentum",
    "every",
    "exponential_lr",
    "lambda_lr",
    "linear_lr",
    "linear_warmup_cosine_lr",
    "multi_step_lr",
    "multiplicative_lr",
    "one_cycle_lr",
    "one_cycle_momentum",
    "polynomial_lr",
    "sequential_lr",
    "step_lr",
    "swa_lr",
]
