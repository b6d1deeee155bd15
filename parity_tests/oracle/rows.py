"""The lines of the accuracy table, and the errors that each sums up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Row:
    """One line of the table: an operation's value, or its gradient in one argument."""

    space: str
    operation: str
    of: str
    dtype: str
    cases: int
    geoopt_p50: float
    geoopt_p99: float
    geoopt_max: float
    geoopt_not_finite: int
    port_jax_p50: float
    port_jax_p99: float
    port_jax_max: float
    port_jax_not_finite: int
    port_jax_conditioned: float

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What the row is about."""
        return self.space, self.operation, self.of, self.dtype

    def above(self) -> dict[str, float]:
        """The statistics in which port_jax is above geoopt by more than half an eps, one rounding, with the factor."""
        pairs = {at: (getattr(self, f"port_jax_{at}"), getattr(self, f"geoopt_{at}")) for at in ("p50", "p99", "max")}
        return {at: mine / theirs if theirs else np.inf for at, (mine, theirs) in pairs.items() if mine > theirs + 0.5}


@dataclass(frozen=True)
class Errors:
    """A row with the errors of its cases, and the cases."""

    row: Row
    geoopt: np.ndarray
    port_jax: np.ndarray
    condition: np.ndarray
    cases: Sequence[dict[str, Any]]
