"""Steps from parameters that were first put within their bounds, as originals do that overwrite `p.data` in their forward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import optax

from port_jax.types import OptState, Params, Updates

__all__ = ["confined"]


def confined(optimizer: optax.GradientTransformation, confine: Callable[[Params], Params]) -> optax.GradientTransformationExtraArgs:
    """The optimizer, from q = confine(p) on: the updates are q - p + u, u the optimizer's at q.

    In torch a forward pass may clamp parameters in place, so that gradients and the next step are those at q, and what the step makes is
    not clamped before the next forward pass. The loss has to be computed at q too, with gradients that pass as if p were q; a converted
    model whose original does this computes so. The state is the optimizer's own.

    Errors: ValueError without parameters.
    """
    inner = optax.with_extra_args_support(optimizer)

    def update(updates: Updates, state: OptState, params: Params = None, **extra: Any) -> tuple[Updates, OptState]:
        if params is None:
            raise ValueError("confined moves parameters: call update(gradients, state, params)")
        within = confine(params)
        changes, state = inner.update(updates, state, within, **extra)
        return jax.tree.map(lambda q, p, u: (q - p) + u, within, params, changes), state

    return optax.GradientTransformationExtraArgs(inner.init, update)
