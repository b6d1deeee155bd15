"""What happens at a NaN or infinite gradient: pass it on, skip the step, or raise."""

from __future__ import annotations

from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from jax.experimental import io_callback

from port_jax.optim import trees
from port_jax.types import OptState, Params, Updates

__all__ = ["guard"]


def guard(
    inner: optax.GradientTransformation, nonfinite: Literal["pass", "skip", "raise"] = "raise", max_skipped: int = 10
) -> optax.GradientTransformation:
    """`inner`, with a choice for gradients that are NaN or infinite.

    "pass": the gradients are passed on unchanged, as in torch and geoopt: the parameters that they touch become NaN.
    "skip": the update is zero and the state of `inner`, counts included, does not change (`optax.apply_if_finite`).
        After max_skipped steps in a row the gradients are passed on, so that a failed run becomes visible.
    "raise": FloatingPointError with the parameters' paths. Under jit the runtime raises it as a JaxRuntimeError with
        the same text when the result is waited for. No result of that step may be used.

    Errors: ValueError for another choice.
    """
    if nonfinite == "pass":
        return inner
    if nonfinite == "skip":
        return optax.apply_if_finite(inner, max_skipped)
    if nonfinite != "raise":
        raise ValueError(f"nonfinite is {nonfinite!r}; it has to be 'pass', 'skip' or 'raise'")

    def update(updates: Updates, state: Any, params: Params = None, **extra: Any) -> tuple[Updates, OptState]:
        paths, leaves, _ = trees.flatten(updates)
        names = [trees.show(path) for path in paths]

        def check(bad: np.ndarray) -> None:
            if np.any(bad):
                found = ", ".join(f"{name} ({n} entries)" for name, n in zip(names, bad, strict=True) if n)
                raise FloatingPointError(
                    f"gradients are NaN or infinite: {found}; look for the cause, or skip such steps with guard(..., 'skip')"
                )

        if leaves:
            bad = jnp.stack([jnp.sum(~jnp.isfinite(g)) for g in leaves])
            if isinstance(bad, Tracer):
                io_callback(check, None, bad)
            else:
                check(np.asarray(bad))
        return optax.with_extra_args_support(inner).update(updates, state, params, **extra)

    return optax.GradientTransformationExtraArgs(inner.init, update)
