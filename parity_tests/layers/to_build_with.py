"""Every layer to build with: a small one, a manifold, and the tangent coordinates of its inputs."""

from typing import Any

from port_jax import layers
from port_jax.manifolds import Lorentz, PoincareBall

BALL, HYPERBOLOID = PoincareBall(0.7), Lorentz(1.7)
ROWS, IMAGE = (5, 4), (1, 3, 3, 2)
"""The shapes of rows and of an image."""
TABLE: tuple[tuple[Any, Any, tuple[tuple[int, ...], ...]], ...] = (
    (layers.MobiusLinear(3), BALL, (ROWS,)),
    (layers.PoincareLinear(3), BALL, (ROWS,)),
    (layers.LorentzFullyConnected(3), HYPERBOLOID, (ROWS,)),
    (layers.GaneaMLR(3), HYPERBOLOID, (ROWS,)),
    (layers.PoincareMLR(3), BALL, (ROWS,)),
    (layers.LorentzMLR(3), HYPERBOLOID, (ROWS,)),
    (layers.MidpointBatchNorm(), BALL, (ROWS,)),
    (layers.LorentzBatchNorm(), HYPERBOLOID, (ROWS,)),
    (layers.TangentActivation(), BALL, (ROWS,)),
    (layers.SpaceActivation(), HYPERBOLOID, (ROWS,)),
    (layers.TangentDropout(0.3), BALL, (ROWS,)),
    (layers.SpaceDropout(0.3), HYPERBOLOID, (ROWS,)),
    (layers.TangentLayerNorm(), BALL, (ROWS,)),
    (layers.SpaceLayerNorm(), HYPERBOLOID, (ROWS,)),
    (layers.SpaceRMSNorm(), HYPERBOLOID, (ROWS,)),
    (layers.MobiusResidual(), BALL, (ROWS, ROWS)),
    (layers.MidpointResidual(), HYPERBOLOID, (ROWS, ROWS)),
    (layers.SpaceResidual(), HYPERBOLOID, (ROWS, ROWS)),
    (layers.PointEmbedding(6, 3), BALL, ()),
    (layers.MidpointPool(), BALL, (ROWS,)),
    (layers.MidpointPool2d((2, 2)), HYPERBOLOID, (IMAGE,)),
    (layers.PoincareConv2d(2, (2, 2)), BALL, (IMAGE,)),
    (layers.HBatchNorm(), BALL, (ROWS,)),
    (layers.HAvgPool2d((2, 2)), BALL, (IMAGE,)),
    (layers.HMaxPool2d((2, 2)), BALL, (IMAGE,)),
    (layers.HFlatten(), BALL, (IMAGE,)),
    (layers.LorentzConv2d(2, (2, 2)), HYPERBOLOID, (IMAGE,)),
    (layers.LorentzAttention(4, 2), HYPERBOLOID, (ROWS,)),
    (layers.HypformerAttention(4, 2), HYPERBOLOID, (ROWS,)),
    (layers.ClassPoints(3), HYPERBOLOID, (ROWS,)),
    (layers.LorentzSwiGLU(3, 5), HYPERBOLOID, (ROWS,)),
)
