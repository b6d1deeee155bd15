"""The terms of TiDHy's losses. Sums over features, divided by the rows of the batch."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

__all__ = ["LOSSES", "Losses", "cosines", "l1", "magnitude", "nuclear", "sparse", "spatial", "squares"]

LOSSES = ("MSE", "BCE")


class Losses(NamedTuple):
    """The three losses of a sequence, sums over time. spatial_rhat: of the inferred latents. spatial_rbar: of the predicted ones.
    temporal: temp_weight |r - r_bar|^2."""

    spatial_rhat: Float[Array, ""]
    spatial_rbar: Float[Array, ""]
    temporal: Float[Array, ""]


def spatial(kind: str, predicted: Float[Array, "*batch d"], x: Float[Array, "*batch d"], rows: int) -> Float[Array, ""]:
    """sum (predicted - x)^2 / rows, or for "BCE" the cross entropy of predicted probabilities, with torch's logarithms of at least -100.

    Errors: ValueError for another kind.
    """
    if kind == "MSE":
        return squares(predicted, x, rows)
    if kind == "BCE":
        return -jnp.sum(x * _log(predicted) + (1 - x) * _log(1 - predicted)) / rows
    raise ValueError(f"loss_type is {kind!r}; give one of {', '.join(LOSSES)}")


def squares(a: Float[Array, "*batch d"], b: Float[Array, "*batch d"], rows: int) -> Float[Array, ""]:
    """sum (a - b)^2 / rows."""
    return jnp.sum((a - b) ** 2) / rows


def l1(weight: float, x: Float[Array, "..."]) -> Float[Array, ""]:
    """weight * sum |x|, 0 where the weight is."""
    return weight * jnp.sum(magnitude(x)) if weight else jnp.zeros((), x.dtype)


def magnitude(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """|x|, with torch's derivative 0 at 0, where latents start; that of jnp.abs is 1."""
    return x * jax.lax.stop_gradient(jnp.sign(x))


def sparse(x: Float[Array, "..."], lmda: float) -> Float[Array, "..."]:
    """Soft thresholding: sign(x) max(|x| - lmda, 0)."""
    return jnp.sign(x) * jnp.maximum(jnp.abs(x) - lmda, 0) if lmda else x


def cosines(rows: Float[Array, "n d"]) -> Float[Array, ""]:
    """The sum of |cos| over all pairs of rows; of a row that is 0 it is 0."""
    unit = rows / optax.safe_norm(rows, 1e-12, axis=1, keepdims=True)
    return jnp.sum(jnp.tril(magnitude(unit @ unit.T), -1))


def nuclear(matrices: Float[Array, "n r r"]) -> Float[Array, ""]:
    """The sum of the nuclear norms."""
    return jnp.sum(jnp.linalg.norm(matrices, ord="nuc", axis=(-2, -1)))


def _log(p: Array) -> Array:
    """log p, at least -100, where its derivative is 0."""
    far = p > 0
    return jnp.where(far, jnp.maximum(jnp.log(jnp.where(far, p, 1)), -100), -100)
