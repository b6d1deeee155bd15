"""The optimizer of MERU, HyCoCLIP and CLIP, for runs that begin in JAX. A run that goes on from a file has the file's own."""

from __future__ import annotations

from typing import Any

import jax
import optax

from port_jax.manifolds import Euclidean
from port_jax.models.meru import MERU
from port_jax.optim.confined import confined
from port_jax.optim.riemannian_adamw import riemannian_adamw
from port_jax.optim.schedules import linear_warmup_cosine_lr
from port_jax.types import Params

__all__ = ["EXCLUDED", "optimizer"]

EXCLUDED = ("logit_scale", "visual_alpha", "textual_alpha", "curv")
"""Numbers without decay."""


def optimizer(model: MERU, lr: float = 5e-4, total_steps: int = 120_000, warmup_steps: int = 4000, *, weight_decay: float = 0.2
              ) -> optax.GradientTransformationExtraArgs:  # fmt: skip
    """AdamW with b2 = 0.98 whose rate rises for `warmup_steps` and then falls by a cosine, from parameters within their bounds.

    Everything decays but `EXCLUDED`, gains and biases too: the authors' configurations give these a decay of 0, which their code takes for
    none given. The defaults are MERU's; HyCoCLIP takes 500,000 steps. The first update has a rate of 0, as in the original.
    """
    rate: Any = linear_warmup_cosine_lr(lr, total_steps, warmup_steps)
    adamw = riemannian_adamw(rate, b2=0.98, weight_decay=weight_decay, manifolds=Euclidean(), decays=_decays)
    return confined(adamw, model.clamped)


def _decays(params: Params) -> Params:
    return {name: jax.tree.map(lambda _, name=name: name not in EXCLUDED, tree) for name, tree in params.items()}
