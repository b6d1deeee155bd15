"""What a scheduler's state says about one parameter group, and the schedule that follows from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from port_jax.optim.reduce_on_plateau import PlateauState, ReduceOnPlateau
from port_jax.optim.schedules import Schedule

__all__ = ["GroupSchedule", "Lambdas", "Told", "taken"]

Lambdas = Callable[[Any], Any] | Sequence[Callable[[Any], Any]] | None
"""The function of LambdaLR and MultiplicativeLR, or one for each group."""
_COMMON = {"name", "base_lrs", "last_epoch", "verbose"}


class GroupSchedule(NamedTuple):
    """The schedule of one group.

    rate: None if the group's lr is constant. momentum: None if it is constant. done: the number of scheduler steps made. plateau: the
    state of a rate that follows a metric.
    """

    rate: Schedule | ReduceOnPlateau | None
    momentum: Schedule | None = None
    done: int = 0
    plateau: PlateauState | None = None


class Told(NamedTuple):
    """The settings of the scheduler and of group number `index`, and what no state contains: see `schedulers.group_schedule`."""

    settings: Mapping[str, Any]
    group: Mapping[str, Any]
    index: int
    lr_lambda: Lambdas
    num_steps: int | None

    @property
    def base(self) -> float:
        """The rate with which the schedule begins."""
        group, bases = self.group, self.settings.get("base_lrs")
        return float(np.asarray(group.get("initial_lr", group["lr"]) if bases is None else bases[self.index]))

    @property
    def done(self) -> int:
        """The number of steps made."""
        return int(self.settings.get("last_epoch", 0))

    @property
    def function(self) -> Callable[[Any], Any] | None:
        """The group's function."""
        return self.lr_lambda[self.index] if isinstance(self.lr_lambda, Sequence) else self.lr_lambda


def taken(name: str, settings: Mapping[str, Any], arguments: Sequence[str], beside: set[str] | None = None) -> dict[str, Any]:
    """The arguments of the class `name` among the settings.

    Raises ValueError for a setting that is neither one of them, nor common to all schedulers, nor in `beside`.
    """
    unknown = {key for key in settings if not key.startswith("_") and key not in _COMMON | set(arguments) | (beside or set())}
    if unknown:
        raise ValueError(f"{name} has no setting {', '.join(sorted(unknown))}; it has {', '.join(arguments)}")
    return {key: settings[key] for key in arguments if key in settings}
