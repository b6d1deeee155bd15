"""What reads predictions off node embeddings: links, classes, and a contrastive loss."""

from __future__ import annotations

import torch
from geoopt import Lorentz, Stereographic
from geoopt.layers.stereographic import Distance2StereographicHyperplanes
from geoopt.manifolds.lorentz.math import lorentz_to_poincare
from torch import Tensor, nn

from reference_torch.layers.tangent import to_tangent0


def fermi_dirac(square_distance: Tensor, r: float = 2.0, t: float = 1.0) -> Tensor:
    """Probability of a link: 1 / (exp((d^2 - r) / t) + 1) (arXiv 1910.12933, section 4)."""
    return torch.sigmoid((r - square_distance) / t)


def info_nce(manifold, anchors: Tensor, positives: Tensor, negatives: Tensor, temperature: float = 1.0) -> Tensor:
    """-log(exp(-d(a, p) / T) / (exp(-d(a, p) / T) + sum_k exp(-d(a, n_k) / T))) per anchor; negatives [P, K, d]."""
    near = -manifold.dist(anchors, positives) / temperature
    far = -manifold.dist(anchors[:, None], negatives) / temperature
    return torch.logsumexp(torch.cat([near[:, None], far], -1), -1) - near


class TangentLinear(nn.Module):
    """Class logits by a linear map of log_0(h)."""

    def __init__(self, features: int, num_classes: int):
        super().__init__()
        self.cls = nn.Linear(features, num_classes)

    def forward(self, manifold, h: Tensor) -> Tensor:
        """Logits [N, classes] of points h on the manifold."""
        return self.cls(to_tangent0(manifold, h))


class Hyperplanes(Distance2StereographicHyperplanes):
    """Class logits as signed distances to hyperplanes of the ball; points of a hyperboloid go to the unit ball first."""

    def __init__(self, features: int, num_classes: int, manifold):
        # Stereographic(-1) is the unit ball exactly; PoincareBall(1.0) stores softplus's inverse, whose rounding shows in float64.
        ball = Stereographic(-1.0) if isinstance(manifold, Lorentz) else manifold
        super().__init__(features, num_classes, ball=ball, init_std=0.1)

    def forward(self, manifold, h: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Logits [N, classes] of points h on the manifold, which is the ball of the hyperplanes or a hyperboloid."""
        if isinstance(manifold, Lorentz):
            h = lorentz_to_poincare(h, manifold.k)
        return super().forward(h)
