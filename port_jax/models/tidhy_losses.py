"""The terms of TiDHy's losses. Sums over features, divided by the rows of the batch."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

__all__ = ["LOSSES", "Losses", "cosines", "l1", "magnitude", "nuclear", "sparse", "spatial", "squares"]

LOSSES = ("MSE", "BCE", "Poisson")
SMALLEST = 9.999999960041972e-13
"""The least denominator of the derivative of the cross entropy: 1e-12 as a float32, which torch uses in float64 too."""


class Losses(NamedTuple):
    """The three losses of a sequence, sums over time. spatial_rhat: of the inferred latents. spatial_rbar: of the predicted ones.
    temporal: temp_weight |r - r_bar|^2."""

    spatial_rhat: Float[Array, ""]
    spatial_rbar: Float[Array, ""]
    temporal: Float[Array, ""]


def spatial(kind: str, predicted: Float[Array, "*batch d"], x: Float[Array, "*batch d"], rows: int) -> Float[Array, ""]:
    """sum (predicted - x)^2 / rows; for "BCE" the cross entropy -sum x log p + (1 - x) log(1 - p); for "Poisson" sum p - x log p.

    The original has neither a sigmoid before the cross entropy nor an exponential before Poisson's loss: p is the linear decoder's output.
    The cross entropy is NaN, value and derivatives, where p is outside of [0, 1], and there torch raises; Poisson's is NaN below 0.

    Errors: ValueError for another kind.
    """
    if kind == "MSE":
        return squares(predicted, x, rows)
    if kind == "BCE":
        return jnp.sum(_cross_entropy(predicted, x)) / rows
    if kind == "Poisson":
        return jnp.sum(predicted - x * jnp.log(predicted)) / rows
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


def cosines(rows: Float[Array, "*many n d"]) -> Float[Array, ""]:
    """The sum of |cos| over all pairs of rows, of each matrix if there are several; of a row that is 0 it is 0."""
    unit = rows / optax.safe_norm(rows, 1e-8, axis=-1, keepdims=True)
    return jnp.sum(jnp.tril(magnitude(unit @ jnp.swapaxes(unit, -1, -2)), -1))


def nuclear(matrices: Float[Array, "n r r"]) -> Float[Array, ""]:
    """The sum of the nuclear norms."""
    return jnp.sum(jnp.linalg.norm(matrices, ord="nuc", axis=(-2, -1)))


@jax.custom_jvp
def _cross_entropy(p: Array, x: Array) -> Array:
    """torch's: logarithms of at least -100, and a derivative whose denominator is at least 1e-12, in float32."""
    value = -(x * jnp.maximum(jnp.log(p), -100) + (1 - x) * jnp.maximum(jnp.log(1 - p), -100))
    return jnp.where((p >= 0) & (p <= 1), value, jnp.nan)


@_cross_entropy.defjvp
def _cross_entropy_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    """By p; observations are no function of anything."""
    (p, x), (moved, _) = primals, tangents
    slope = jnp.where((p >= 0) & (p <= 1), (p - x) / jnp.maximum(p * (1 - p), SMALLEST), jnp.nan)
    return _cross_entropy(p, x), slope * moved
