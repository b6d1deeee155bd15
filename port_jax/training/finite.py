"""Whether a state may be kept: which of its arrays have become NaN or infinite."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array

from port_jax.training.state import TrainState, named

__all__ = ["lost", "nonfinite"]

Counts = Mapping[str, tuple[int, int]]
"""The name of an array -> how many of its elements are NaN, and how many infinite."""


def nonfinite(state: TrainState) -> dict[str, tuple[int, int]]:
    """The counts of all arrays that are not finite everywhere: one program on the device, one transfer."""
    real = {name: x for name, x in named(state).items() if jnp.issubdtype(x.dtype, jnp.inexact)}
    finite = jax.device_get(_finite(list(real.values())))
    return {name: (int(jnp.isnan(x).sum()), int(jnp.isinf(x).sum())) for (name, x), fine in zip(real.items(), finite) if not fine}


def lost(state: TrainState, allowed: Counts) -> str | None:
    """What is wrong with the first array that has more NaN or more infinite elements than `allowed` says; None if none has."""
    for name, (nan, inf) in nonfinite(state).items():
        nan_before, inf_before = allowed.get(name, (0, 0))
        if nan > nan_before or inf > inf_before:
            found = " and ".join(f"{n} {what}" for n, what in ((nan, "NaN"), (inf, "infinite")) if n)
            return f"{name} has {found} of {named(state)[name].size} elements"
    return None


@jax.jit
def _finite(arrays: list[Array]) -> list[Array]:
    return [jnp.isfinite(x).all() for x in arrays]
