"""Linear maps of points, in the tangent space at the origin."""

from __future__ import annotations

import flax.linen as nn
from jaxtyping import Array, Float

from port_jax.manifolds import Manifold

__all__ = ["HypLinear"]


class HypLinear(nn.Module):
    """z = exp_0(W log_0(x)) (+) exp_0(b) (HGCN, arXiv 1910.12933, eq. 7 and 8).

    Parameters: `kernel` [in, features] and `bias` [features], both in the tangent space at the origin.
    """

    features: int
    use_bias: bool = True

    def __call__(self, manifold: Manifold, x: Float[Array, "n ambient"], mask: Float[Array, "in out"] | None = None):
        """`mask` multiplies the kernel: DropConnect, with the scale 1 / (1 - p) included in the mask."""
        return self.of_tangents(manifold, manifold.to_tangent0(x), mask)

    @nn.compact
    def of_tangents(self, manifold: Manifold, u: Float[Array, "n in"], mask: Float[Array, "in out"] | None = None):
        """The same map, given u = log_0(x)."""
        kernel = self.param("kernel", nn.initializers.variance_scaling(2.0, "fan_avg", "uniform"), (u.shape[-1], self.features))
        z = manifold.from_tangent0(u @ (kernel if mask is None else kernel * mask))
        if not self.use_bias:
            return z
        return manifold.mobius_add(z, manifold.from_tangent0(self.param("bias", nn.initializers.zeros, (self.features,))[None]))
