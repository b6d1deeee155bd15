"""`OneCycleLR` and `CyclicLR` of `torch.optim.lr_scheduler`: rates and momenta that go up and down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import jax.numpy as jnp

from port_jax.optim.rates import Count, Rate, Schedule, absolute, positive, power, real

__all__ = ["cyclic_lr", "cyclic_momentum", "one_cycle_lr", "one_cycle_momentum"]

Mode = Literal["triangular", "triangular2", "exp_range"]


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

    torch raises past total_steps; here the rate stays at the last one. `one_cycle_momentum` is the momentum that belongs to it.
    """
    low = max_lr / div_factor
    levels = [low, max_lr, low, low / final_div_factor] if three_phase else [low, max_lr, low / final_div_factor]
    return absolute(low, _one_cycle(levels, total_steps, pct_start, anneal_strategy, three_phase))


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
    return absolute(max_momentum, _one_cycle(levels, total_steps, pct_start, anneal_strategy, three_phase))


def cyclic_lr(
    base_lr: float,
    max_lr: float,
    step_size_up: int = 2000,
    step_size_down: int | None = None,
    mode: Mode = "triangular",
    gamma: float = 1.0,
) -> Schedule:
    """CyclicLR's rate: from base_lr up to max_lr in step_size_up steps and back in step_size_down steps, repeatedly.

    The height of the cycles halves each time with "triangular2", and falls by gamma each step with "exp_range".
    `cyclic_momentum` is the momentum that belongs to it.
    """
    height = _heights(step_size_up, step_size_down, mode, gamma)
    return absolute(base_lr, lambda n: base_lr + (max_lr - base_lr) * height(n))


def cyclic_momentum(
    base_momentum: float = 0.8, max_momentum: float = 0.9, step_size_up: int = 2000, step_size_down: int | None = None,
    mode: Mode = "triangular", gamma: float = 1.0,
) -> Schedule:  # fmt: skip
    """CyclicLR's momentum (b1 of Adam): from max_momentum down to base_momentum while the rate rises, then back."""
    height = _heights(step_size_up, step_size_down, mode, gamma)
    return absolute(max_momentum, lambda n: max_momentum - (max_momentum - base_momentum) * height(n))


def _heights(up: int, down: int | None, mode: str, gamma: float) -> Callable[[Count], Rate]:
    down = up if down is None else down
    positive("step_size_up", up)
    positive("step_size_down", down)
    up, down = int(up), int(down)
    if mode not in ("triangular", "triangular2", "exp_range"):
        raise ValueError(f"mode is {mode!r}; it has to be 'triangular', 'triangular2' or 'exp_range'")

    def height(n: Count) -> Rate:
        cycle, since = n // (up + down), n % (up + down)
        part = jnp.where(since <= up, real(since) / up, real(up + down - since) / down)
        return part * {"triangular": 1.0, "triangular2": power(0.5, cycle), "exp_range": power(gamma, n)}[mode]

    return height


def _one_cycle(levels: Sequence[float], total_steps: int, pct_start: float, strategy: str, three_phase: bool) -> Callable[[Count], Rate]:
    positive("total_steps", total_steps)
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
            part = (real(n) - start) / (end - start)
            part = jnp.sin(jnp.pi * part / 2) ** 2 if strategy == "cos" else part
            phases.append(here + (there - here) * part)
        return jnp.select([real(n) <= end for end in ends[:-1]], phases[:-1], phases[-1])

    return at
