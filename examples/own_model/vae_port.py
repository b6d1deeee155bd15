"""The same VAE in flax, and its port. The noise is an input, so that both sides draw the same samples; no rule is needed."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

import weights
from port_jax.distributions import WrappedNormal
from port_jax.layers import Curved, Hyperplanes
from port_jax.manifolds import PoincareBall


class VAE(nn.Module):
    """Rows of bits, and standard normal numbers for one sample of each: samples, logits, and the evidence lower bound of each row."""

    hidden: int = 8
    latent: int = 2

    @nn.compact
    def __call__(self, x: Float[Array, "n d"], noise: Float[Array, "n l"], train: bool = False) -> dict[str, Array]:
        ball = Curved("PoincareBall", 0.7, learnable=True, name="ball")()
        h = nn.Dropout(0.25, deterministic=not train)(jnp.tanh(nn.Dense(self.hidden, name="encoder")(x)))
        mean = ball.expmap0(nn.Dense(self.latent, name="mean")(h))  # pyright: ignore[reportAttributeAccessIssue]
        scale = nn.softplus(nn.Dense(self.latent, name="scale")(h))
        posterior, prior = WrappedNormal(ball, mean, scale), WrappedNormal(ball, jnp.zeros_like(mean))
        z = posterior.from_noise(noise)
        logits = nn.Dense(x.shape[-1], name="decoder")(jnp.tanh(Hyperplanes(self.hidden, name="planes")(ball, z)))
        fit = -optax.sigmoid_binary_cross_entropy(logits, x).sum(-1)
        elbo = fit + prior.log_prob(z) - posterior.log_prob(z)
        return {"z": z, "logits": logits, "elbo": elbo, "loss": -elbo.mean()}

    def manifolds(self, params: Any) -> dict[str, Any]:
        """The manifold of the points, which follows the trained curvature."""
        return {"planes": {"points": PoincareBall.from_raw(params["ball"]["isp_c"])}}


def original() -> Any:
    """The torch module, for `hyperport verify`."""
    from examples.own_model.vae_original import VAE as Original

    return Original()


def inputs(rows: int = 7, seed: int = 0) -> dict[str, np.ndarray]:
    """Random bits and noise."""
    random = np.random.default_rng(seed)
    return {"x": random.integers(0, 2, (rows, 8)).astype(float), "noise": random.normal(size=(rows, 2))}


PORT = weights.Port(VAE(), inputs=inputs(), torch=original, train={"train": True})
