"""Direct concatenation: several points of hyperboloids as one point of more dimensions (Qu and Zou 2022; Bdeir et al. 2024)."""

from __future__ import annotations

from jaxtyping import Array, Float

from port_jax.manifolds.hyperboloid.metric import join, time_of

__all__ = ["direct_concatenate"]


def direct_concatenate(x: Float[Array, "*batch parts d+1"], k: Float[Array, ""] | float) -> Float[Array, "*batch parts*d+1"]:
    """The space parts side by side, and the time sqrt(Σ t_i² - (parts - 1) k), which is sqrt(k + Σ |s_i|²)."""
    space = x[..., 1:].reshape(*x.shape[:-2], -1)
    return join(time_of(space, k), space)
